//! Handlers that are more than functions.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async unsafe fn one(&mut self) {}

    #[on("two")]
    extern "C" fn two(&mut self) {}

    #[on("three")]
    const fn three(&mut self) {}
}

fn main() {
    let _ = Worker;
}

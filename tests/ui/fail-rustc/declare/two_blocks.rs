//! All handlers of an agent stand in one block.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self) {}
}

#[agent]
impl Worker {
    #[on("two")]
    async fn two(&mut self) {}
}

fn main() {
    let _ = Worker;
}

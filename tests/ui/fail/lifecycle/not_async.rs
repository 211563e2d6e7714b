//! A start that is not async.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    fn start(&mut self) {}
}

fn main() {
    let _ = Worker;
}

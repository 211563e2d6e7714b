//! A parameter under a condition.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, #[cfg(all())] n: u8) -> u8 {
        n
    }
}

fn main() {
    let _ = Worker;
}

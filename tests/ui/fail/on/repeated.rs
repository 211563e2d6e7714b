//! One handler that names a message type twice.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    #[on("task.retry")]
    #[on("task.process")]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! Two message types in one attribute.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process", "task.retry")]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! One method for two purposes.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    #[on("task.process")]
    async fn process(&mut self) {}

    #[on("task.retry")]
    #[on_any]
    async fn retry(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! A message type that is no string literal.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on(task.process)]
    async fn process(&mut self) {}

    #[on = "task.retry"]
    async fn retry(&mut self) {}

    #[on(7)]
    async fn seven(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! One method may handle several message types; its typed call sends the first.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    #[on("task:retry")]
    #[on("Task_9-b")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[on("other")]
    async fn other(&self) {}
}

fn main() {
    let table = [
        HandlerSpec::exclusive(0, "task.process"),
        HandlerSpec::exclusive(1, "task:retry"),
        HandlerSpec::exclusive(2, "Task_9-b"),
        HandlerSpec::shared(3, "other"),
    ];
    assert_eq!(Worker::HANDLERS, table);
}

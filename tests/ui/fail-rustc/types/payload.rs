//! A payload that cannot be received.

use mas::prelude::*;

#[derive(Debug, Serialize)]
struct Task {
    name: String,
}

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, task: Task, ctx: &mut Context<Self>) -> Result<usize> {
        let _ = ctx;
        Ok(task.name.len())
    }
}

fn main() {
    let _ = Worker;
}

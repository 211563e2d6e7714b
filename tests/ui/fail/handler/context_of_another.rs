//! The context of another agent.

use mas::prelude::*;

struct Other;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, ctx: &mut Context<Other>) {
        let _ = ctx;
    }
}

fn main() {
    let _ = (Worker, Other);
}

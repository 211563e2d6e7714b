//! A state that cannot be kept.

use mas::prelude::*;

#[derive(Debug, Default, Serialize)]
struct Tally {
    done: u64,
}

#[agent(state = Tally, durable)]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, ctx: &mut Context<Self>) {
        ctx.update_state(|tally| tally.done += 1);
    }
}

fn main() {
    let _ = async |runtime: Runtime| runtime.spawn(Worker).await;
}

//! A state that fewer may name than its agent.

use mas::prelude::*;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally(u64);

#[agent(state = Tally)]
pub struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, ctx: &mut Context<Self>) -> u64 {
        ctx.update_state(|tally| {
            tally.0 += 1;
            tally.0
        })
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<u64> {
        Ok(runtime.spawn(Worker).await?.process().await?)
    };
    let _ = uses;
}

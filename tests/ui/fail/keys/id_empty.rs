//! An id of nothing.

use mas::prelude::*;

#[agent(id = "")]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8, ctx: &mut Context<Self>) -> Result<u8> {
        ctx.tell("other", "seen", &n).await?;
        Ok(n)
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<u8> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        Ok(worker.process(3).await?)
    };
    let _ = uses;
}

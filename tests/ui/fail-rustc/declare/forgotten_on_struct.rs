//! The struct is not declared: one error, at the type's name, whatever else the program does with the agent.

use mas::prelude::*;

struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8, ctx: &mut Context<Self>) -> Result<u8> {
        ctx.tell("other", "seen", &n).await?;
        Ok(n)
    }

    #[on("words")]
    fn words(&self) -> impl Stream<Item = String> {
        futures_util::stream::empty()
    }

    #[on_start]
    async fn start(&mut self) {}
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<u8> {
        let worker = runtime.spawn(Worker).await?;
        worker.words();
        let _ = worker.id();
        Ok(worker.process(3).await?)
    };
    let _ = uses;
}

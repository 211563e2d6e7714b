//! Handlers that do not borrow their agent.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(n: u8) -> u8 {
        n
    }

    #[on("two")]
    async fn two(self) {}

    #[on("three")]
    async fn three(self: Box<Self>, n: u8) -> u8 {
        n
    }

    #[on("four")]
    async fn four(&'static self) {}
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        worker.one(3).await?;
        worker.three(3).await?;
        Ok(())
    };
    let _ = uses;
}

//! Two handlers of one message type.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[on("task.process")]
    async fn process_too(&self, n: u8) -> u8 {
        n
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        worker.process(3).await?;
        worker.process_too(3).await?;
        Ok(())
    };
    let _ = uses;
}

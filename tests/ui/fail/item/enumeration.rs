//! An enum is no agent.

use mas::prelude::*;

#[agent]
enum Worker {
    Busy,
    Idle,
}

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<u8> {
        let _ = Worker::Busy;
        let worker: WorkerRef = runtime.spawn(Worker::Idle).await?;
        Ok(worker.process(3).await?)
    };
    let _ = uses;
}

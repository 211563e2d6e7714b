//! The handlers are not collected: the agent cannot be spawned.

use mas::prelude::*;

#[agent]
struct Worker;

impl Worker {
    pub fn new() -> Self {
        Self
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker::new()).await?;
        let _ = worker.id();
        Ok(())
    };
    let _ = uses;
}

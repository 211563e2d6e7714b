//! Two handlers of one message type, and two methods of each other place, where both their conditions hold.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[cfg(all())]
    #[on("task.process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[cfg(not(any()))]
    #[on("task.process")]
    async fn process_too(&self, n: u8) -> u8 {
        n
    }

    #[cfg_attr(all(), cfg(all()))]
    #[on("task.process")]
    async fn process_as_well(&self, n: u8) -> u8 {
        n
    }

    #[cfg(any())]
    #[on("task.process")]
    async fn process_elsewhere(&self, n: u8) -> u8 {
        n
    }

    #[cfg(all())]
    #[on_any]
    async fn other(&self) {}

    #[cfg(all())]
    #[on_any]
    async fn another(&self) {}

    #[cfg(all())]
    #[on_start]
    async fn start(&mut self) {}

    #[cfg(all())]
    #[on_start]
    async fn start_too(&mut self) {}
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

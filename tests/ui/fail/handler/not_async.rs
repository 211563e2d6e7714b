//! A handler that is neither async nor a stream.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    fn process(&mut self, n: u8) -> u8 {
        n
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        let _: u8 = worker.process(3).await?;
        Ok(())
    };
    let _ = uses;
}

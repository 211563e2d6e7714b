//! Handlers do not stand in the impl of a trait.

use mas::prelude::*;

trait Work {
    fn work(&mut self) -> u8;
}

#[agent]
struct Worker;

#[agent]
impl Work for Worker {
    #[on("task.process")]
    fn work(&mut self) -> u8 {
        7
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let mut worker = Worker;
        worker.work();
        runtime.spawn(worker).await?;
        Ok(())
    };
    let _ = uses;
}

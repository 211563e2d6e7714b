//! Every fault of a block is told, once, and what is right goes on working.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    fn one(&self, name: &str, n: u8) -> bool {
        name.len() == usize::from(n)
    }

    #[on("two")]
    async fn two(&self, n: u8) -> u8 {
        n
    }

    #[on("two")]
    async fn stop(&self) {}

    #[on_start]
    fn start(&mut self) {}
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        worker.one("a", 1).await?;
        let _: u8 = worker.two(3).await?;
        Ok(())
    };
    let _ = uses;
}

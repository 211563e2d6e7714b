//! `#[on]` in a block without `#[agent]`: once for each handler, and once where the agent is used.

use mas::prelude::*;

#[agent]
struct Worker;

impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[on("task.drop")]
    async fn drop_all(&mut self) {}
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let _worker = runtime.spawn(Worker).await?;
        Ok(())
    };
    let _ = uses;
}

//! Two payloads.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, name: String, n: u8) -> u8 {
        let _ = name;
        n
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        let _: u8 = worker.process("a".to_owned(), 3).await?;
        Ok(())
    };
    let _ = uses;
}

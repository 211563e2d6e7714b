//! A stream that is async.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("words")]
    async fn words(&self) -> impl Stream<Item = String> {
        futures_util::stream::empty()
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        worker.words();
        Ok(())
    };
    let _ = uses;
}

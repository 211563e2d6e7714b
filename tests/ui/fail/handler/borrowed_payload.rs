//! Payloads that are borrowed.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self, name: &str) -> usize {
        name.len()
    }

    #[on("two")]
    async fn two(&self, items: &[u8], ctx: &Context<Self>) -> usize {
        let _ = ctx;
        items.len()
    }

    #[on("three")]
    async fn three(&self, items: &std::collections::BTreeMap<String, u8>) -> usize {
        items.len()
    }

    #[on("four")]
    async fn four(&self, name: std::borrow::Cow<'_, str>) -> usize {
        name.len()
    }

    #[on("five")]
    async fn five(&self, names: Vec<&str>) -> usize {
        names.len()
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<()> {
        let worker: WorkerRef = runtime.spawn(Worker).await?;
        worker.one("a").await?;
        worker.two(&[1]).await?;
        Ok(())
    };
    let _ = uses;
}

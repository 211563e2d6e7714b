//! A handler outside of an `#[agent] impl`, as when the attribute on the block is forgotten.

use mas::prelude::*;

#[agent]
struct Worker;

impl Worker {
    #[on("task.process")]
    #[on("task.retry")]
    async fn process(&mut self, n: u8, ctx: &mut Context<Self>) -> Result<u8> {
        ctx.tell("other", "seen", &n).await?;
        Ok(n)
    }
}

fn main() {
    let _ = async |ctx: &mut Context<Worker>| Worker.process(3, ctx).await;
}

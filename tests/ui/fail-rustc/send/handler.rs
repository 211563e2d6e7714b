//! A handler that holds across an await what cannot move between threads.

use std::rc::Rc;

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8, ctx: &mut Context<Self>) -> Result<u8> {
        let shared = Rc::new(n);
        ctx.tell("other", "seen", &n).await?;
        Ok(*shared)
    }
}

fn main() {
    let _ = async |runtime: Runtime| runtime.spawn(Worker).await;
}

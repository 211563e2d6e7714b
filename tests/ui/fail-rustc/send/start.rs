//! A start that holds across an await what cannot move between threads.

use std::rc::Rc;

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    async fn start(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let shared = Rc::new(3);
        ctx.tell("other", "seen", &1).await?;
        drop(shared);
        Ok(())
    }
}

fn main() {
    let _ = Worker;
}

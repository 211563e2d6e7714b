//! A start without an agent.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    async fn start(ctx: &mut Context<Self>) {
        let _ = ctx;
    }
}

fn main() {
    let _ = Worker;
}

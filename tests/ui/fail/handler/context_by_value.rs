//! A context by value.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self, ctx: Context<Self>) {
        drop(ctx);
    }

    #[on("two")]
    async fn two(&self, ctx: Context<Self>) {
        drop(ctx);
    }
}

fn main() {
    let _ = Worker;
}

//! A context that a `&self` handler cannot have for itself.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&self, n: u8, ctx: &mut Context<Self>) -> u8 {
        let _ = ctx;
        n
    }
}

fn main() {
    let _ = Worker;
}

//! The companions of `#[on]` outside of an `#[agent] impl`.

use mas::prelude::*;

struct Worker;

impl Worker {
    #[on_start]
    async fn start(&mut self) {}

    #[on_stop]
    async fn stop(&mut self) {}

    #[on_any]
    async fn other(&mut self) {}
}

#[on("free")]
fn free() {}

fn main() {
    free();
}

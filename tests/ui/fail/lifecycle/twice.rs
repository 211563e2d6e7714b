//! Two methods for one purpose.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    async fn first(&mut self) {}

    #[on_start]
    async fn second(&mut self) {}

    #[on_stop]
    #[on_stop]
    async fn last(&mut self) {}
}

fn main() {
    let _ = Worker;
}

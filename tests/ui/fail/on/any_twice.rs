//! Two handlers of everything else.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_any]
    async fn first(&mut self) {}

    #[on_any]
    async fn second(&self) {}
}

fn main() {
    let _ = Worker;
}

//! Arguments for attributes that take none.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start("now")]
    async fn start(&mut self) {}

    #[on_any("task.*")]
    async fn other(&mut self) {}
}

fn main() {
    let _ = Worker;
}

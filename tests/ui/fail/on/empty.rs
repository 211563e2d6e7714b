//! A message type of nothing.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("")]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

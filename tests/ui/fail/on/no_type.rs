//! A handler of no message type.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on]
    async fn first(&mut self) {}

    #[on()]
    async fn second(&mut self) {}
}

fn main() {
    let _ = Worker;
}

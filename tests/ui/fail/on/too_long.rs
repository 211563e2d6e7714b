//! A message type that is longer than they are.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on(
        "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
    )]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

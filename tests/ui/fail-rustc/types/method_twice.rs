//! Two methods of one name: the compiler says so, once.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[on("two")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }
}

fn main() {
    let _ = Worker;
}

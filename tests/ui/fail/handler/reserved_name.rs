//! Handlers that are named like methods of every ref.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn ask(&mut self, n: u8) -> u8 {
        n
    }

    #[on("two")]
    async fn r#clone(&self) {}
}

fn main() {
    let _ = Worker;
}

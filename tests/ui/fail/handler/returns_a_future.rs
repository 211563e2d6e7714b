//! A handler that returns a future.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    fn process(&mut self, n: u8) -> impl Future<Output = Vec<u8>> {
        async move { vec![n] }
    }
}

fn main() {
    let _ = Worker;
}

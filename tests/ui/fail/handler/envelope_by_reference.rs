//! An envelope by reference.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, envelope: &Envelope) {
        let _ = envelope;
    }
}

fn main() {
    let _ = Worker;
}

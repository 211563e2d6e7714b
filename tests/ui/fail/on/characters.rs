//! A message type with a character that none has.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }

    #[on("tâche")]
    async fn tache(&mut self) {}
}

fn main() {
    let _ = Worker;
}

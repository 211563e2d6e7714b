//! A payload without a named type.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, payload: impl Into<String>) -> String {
        payload.into()
    }
}

fn main() {
    let _ = Worker;
}

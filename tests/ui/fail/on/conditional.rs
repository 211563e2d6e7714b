//! A condition around `#[on]`.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[cfg_attr(all(), on("task.process"))]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker.process();
}

//! The struct is declared elsewhere, and its ref is not imported along with it.

mod workers {
    use mas::prelude::*;

    #[agent]
    pub struct Worker;
}

use mas::prelude::*;
use workers::Worker;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! The struct is declared elsewhere, and its ref is only imported by `*`, as our stand-in is: name it.

mod workers {
    use mas::prelude::*;

    #[agent]
    pub struct Worker;
}

use mas::prelude::*;
use workers::*;

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self) {}
}

fn main() {
    let _ = Worker;
}

//! Handlers stand in the impl of a type that has a name.

use mas::prelude::*;

trait Work {}

#[agent]
impl dyn Work {
    #[on("task.process")]
    async fn process(&mut self) {}
}

fn main() {}

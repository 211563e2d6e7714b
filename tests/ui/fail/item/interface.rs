//! A trait is no agent.

use mas::prelude::*;

#[agent]
trait Work {
    fn work(&self);
}

fn main() {
    fn takes<T: Work>(work: &T) {
        work.work();
    }
}

//! A handler with parameters of its own.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one<T: Send>(&mut self, n: T) {
        drop(n);
    }

    #[on("two")]
    async fn two<'a>(&'a mut self) {}

    #[on("three")]
    async fn three(&mut self)
    where
        Self: Sized,
    {
    }
}

fn main() {
    let _ = Worker;
}

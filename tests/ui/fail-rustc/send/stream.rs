//! A stream that holds what cannot move between threads.

use std::rc::Rc;

use futures_util::StreamExt as _;
use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("numbers")]
    fn numbers(&self) -> impl Stream<Item = u8> {
        let shared = Rc::new(3);
        futures_util::stream::iter([1]).map(move |n| n + *shared)
    }
}

fn main() {
    let _ = Worker;
}

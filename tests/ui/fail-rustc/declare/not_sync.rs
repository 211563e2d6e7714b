//! An agent that cannot be shared between threads.

use std::cell::RefCell;

use mas::prelude::*;

#[agent]
struct Worker {
    seen: RefCell<Vec<u8>>,
}

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self, n: u8) {
        self.seen.borrow_mut().push(n);
    }

    #[on("two")]
    async fn two(&self) -> usize {
        self.seen.borrow().len()
    }

    #[on_start]
    async fn start(&self) {}
}

fn main() {
    let _ = async |runtime: Runtime| {
        runtime
            .spawn(Worker {
                seen: RefCell::default(),
            })
            .await
    };
}

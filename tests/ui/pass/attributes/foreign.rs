//! Attributes that are not ours stay where they are, on the struct and on its methods.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[derive(Debug, Clone, PartialEq)]
#[agent]
#[must_use]
#[repr(C)]
struct Worker {
    #[allow(unused)]
    count: u32,
}

#[agent]
#[allow(clippy::needless_pass_by_value)]
impl Worker {
    #[inline]
    #[must_use]
    #[on("a")]
    #[cold]
    async fn a(&self, #[allow(unused_variables)] n: u8) -> u8 {
        1
    }

    #[expect(unused_variables)]
    #[on("b")]
    async fn b(&self, n: u8) {}
}

fn main() {
    assert_eq!(
        Worker::HANDLERS,
        [HandlerSpec::shared(0, "a"), HandlerSpec::shared(1, "b")]
    );
    assert_eq!(Worker { count: 1 }, Worker { count: 1 }.clone());
}

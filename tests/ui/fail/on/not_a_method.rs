//! A handler that is no method.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("limit")]
    const LIMIT: u8 = 7;
}

fn main() {
    let _ = Worker::LIMIT;
}

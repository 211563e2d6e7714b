//! A stream that does not say what of.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("words")]
    fn words(&self) -> impl Stream {
        futures_util::stream::empty::<u8>()
    }
}

fn main() {
    let _ = Worker;
}

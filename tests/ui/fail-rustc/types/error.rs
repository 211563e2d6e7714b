//! Errors that are none.

use mas::prelude::*;

struct Broken;

type Result<T> = std::result::Result<T, Broken>;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self) -> std::result::Result<u8, Broken> {
        Err(Broken)
    }

    #[on("two")]
    async fn two(&mut self) -> Result<u8> {
        Err(Broken)
    }

    #[on("three")]
    fn three(&self) -> impl Stream<Item = Result<u8>> {
        futures_util::stream::iter([Err(Broken)])
    }

    #[on_start]
    async fn start(&mut self) -> Result<()> {
        Err(Broken)
    }
}

fn main() {
    let _ = Worker;
}

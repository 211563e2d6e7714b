//! A `Result` that is called otherwise is taken for a value: the note tells how to write it.

use mas::prelude::*;

type Outcome = Result<u8>;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self) -> Outcome {
        Ok(1)
    }
}

fn main() {
    let _ = Worker;
}

//! Replies that cannot be sent: a value, what a `Result` carries, an item of a stream.

use mas::prelude::*;

#[derive(Debug, Deserialize)]
struct Done;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&mut self) -> Done {
        Done
    }

    #[on("two")]
    async fn two(&mut self) -> Result<Done> {
        Ok(Done)
    }

    #[on("three")]
    fn three(&self) -> impl Stream<Item = Done> {
        futures_util::stream::empty()
    }

    #[on("four")]
    fn four(&self) -> impl Stream<Item = Result<Done>> {
        futures_util::stream::empty()
    }
}

fn main() {
    let _ = Worker;
}

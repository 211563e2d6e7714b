//! Replies that borrow in their midst.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&self) -> std::borrow::Cow<'_, str> {
        "one".into()
    }

    #[on("two")]
    async fn two(&self) -> Result<Vec<&str>> {
        Ok(vec!["two"])
    }

    #[on("three")]
    fn three(&self) -> impl Stream<Item = Vec<&'_ str>> {
        futures_util::stream::empty()
    }
}

fn main() {
    let _ = Worker;
}

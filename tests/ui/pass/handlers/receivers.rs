//! `&mut self` handlers run alone, `&self` handlers side by side: the table says which is which.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("alone")]
    async fn alone(&mut self) {}

    #[on("shared")]
    async fn shared(&self) {}

    #[on("alone.long")]
    async fn alone_long(self: &mut Self) {}

    #[on("shared.long")]
    async fn shared_long(self: &Self) {}
}

fn main() {
    let table = [
        HandlerSpec::exclusive(0, "alone"),
        HandlerSpec::shared(1, "shared"),
        HandlerSpec::exclusive(2, "alone.long"),
        HandlerSpec::shared(3, "shared.long"),
    ];
    assert_eq!(Worker::HANDLERS, table);
}

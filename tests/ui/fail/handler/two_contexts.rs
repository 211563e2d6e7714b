//! Two contexts and two envelopes.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&self, first: &Context<Self>, second: &Context<Self>) {
        let _ = (first, second);
    }

    #[on("two")]
    async fn two(&self, first: Envelope, second: Envelope) {
        let _ = (first, second);
    }
}

fn main() {
    let _ = Worker;
}

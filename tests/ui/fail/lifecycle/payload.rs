//! Starts and stops carry no message.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    async fn start(&mut self, n: u8, ctx: &mut Context<Self>) {
        let _ = (n, ctx);
    }

    #[on_stop]
    async fn stop(&mut self, envelope: Envelope) {
        drop(envelope);
    }
}

fn main() {
    let _ = Worker;
}

//! actix: sender and actor on one thread, which is how it is fastest.

use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::{Payload, Took};

struct Sink {
    left: u64,
    sum: u64,
    done: Option<oneshot::Sender<u64>>,
}

impl Actor for Sink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(1024);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Take(Payload);

impl Handler<Take> for Sink {
    type Result = ();

    fn handle(&mut self, Take(payload): Take, _: &mut Context<Self>) {
        self.sum = self.sum.wrapping_add(payload.number());
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            let _ = done.send(self.sum);
        }
    }
}

pub fn tell() -> Took {
    const COUNT: u64 = 1_000_000;
    System::new().block_on(async {
        let (done, finished) = oneshot::channel();
        let sink = Sink {
            left: COUNT,
            sum: 0,
            done: Some(done),
        };
        let addr = sink.start();
        let start = Instant::now();
        for number in 0..COUNT {
            addr.do_send(Take(Payload::new(number)));
            if number % 1024 == 1023 {
                tokio::task::yield_now().await;
            }
        }
        finished.await.expect("done");
        Took::since(start, COUNT)
    })
}

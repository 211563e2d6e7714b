//! kameo, with unbounded mailboxes, its fastest.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kameo::prelude::*;
use tokio::sync::oneshot;

use crate::{Payload, Took, block_on};

#[derive(Actor)]
struct Sink {
    left: u64,
    sum: u64,
    done: Option<oneshot::Sender<u64>>,
}

struct Take(Payload);
struct Echo(Payload);

impl Message<Take> for Sink {
    type Reply = ();

    async fn handle(&mut self, Take(payload): Take, _: &mut Context<Self, ()>) {
        self.sum = self.sum.wrapping_add(payload.number());
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            let _ = done.send(self.sum);
        }
    }
}

impl Message<Echo> for Sink {
    type Reply = u64;

    async fn handle(&mut self, Echo(payload): Echo, _: &mut Context<Self, u64>) -> u64 {
        payload.number()
    }
}

fn sink(left: u64) -> (ActorRef<Sink>, oneshot::Receiver<u64>) {
    let (done, finished) = oneshot::channel();
    let sink = Sink {
        left,
        sum: 0,
        done: Some(done),
    };
    (Sink::spawn_with_mailbox(sink, kameo::mailbox::unbounded()), finished)
}

pub fn tell() -> Took {
    const COUNT: u64 = 1_000_000;
    block_on(async {
        let (actor, finished) = sink(COUNT);
        let start = Instant::now();
        for number in 0..COUNT {
            actor.tell(Take(Payload::new(number))).await.expect("sent");
        }
        finished.await.expect("done");
        Took::since(start, COUNT)
    })
}

pub fn fan_in() -> Took {
    const EACH: u64 = 125_000;
    block_on(async {
        let (actor, finished) = sink(8 * EACH);
        let start = Instant::now();
        for _ in 0..8 {
            let actor = actor.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    actor.tell(Take(Payload::new(number))).await.expect("sent");
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        finished.await.expect("done");
        Took::since(start, 8 * EACH)
    })
}

pub fn ask_many() -> Took {
    const COUNT: u64 = 300_000;
    block_on(async {
        let (actor, _finished) = sink(u64::MAX);
        let start = Instant::now();
        let mut flying = FuturesUnordered::new();
        for number in 0..COUNT {
            if flying.len() == 64 {
                flying.next().await;
            }
            let actor = &actor;
            flying.push(async move { actor.ask(Echo(Payload::new(number))).await.expect("answered") });
        }
        while flying.next().await.is_some() {}
        Took::since(start, COUNT)
    })
}

pub fn ask_one() -> Took {
    const COUNT: u64 = 100_000;
    block_on(async {
        let (actor, _finished) = sink(u64::MAX);
        let start = Instant::now();
        for number in 0..COUNT {
            actor.ask(Echo(Payload::new(number))).await.expect("answered");
        }
        Took::since(start, COUNT)
    })
}

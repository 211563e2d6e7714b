//! ractor, used as its own benchmarks and examples do.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, concurrency};
use tokio::sync::oneshot;

use crate::{Payload, Took, block_on};

pub struct Sink;

pub enum Message {
    Take(Payload),
    Echo(Payload, RpcReplyPort<u64>),
}

pub struct State {
    left: u64,
    sum: u64,
    done: Option<oneshot::Sender<u64>>,
}

impl Actor for Sink {
    type Msg = Message;
    type State = State;
    type Arguments = (u64, Option<oneshot::Sender<u64>>);

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (left, done): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { left, sum: 0, done })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Take(payload) => {
                state.sum = state.sum.wrapping_add(payload.number());
                state.left -= 1;
                if state.left == 0
                    && let Some(done) = state.done.take()
                {
                    let _ = done.send(state.sum);
                }
            }
            Message::Echo(payload, reply) => {
                let _ = reply.send(payload.number());
            }
        }
        Ok(())
    }
}

async fn sink(left: u64) -> (ActorRef<Message>, oneshot::Receiver<u64>) {
    let (done, finished) = oneshot::channel();
    let (actor, _) = Actor::spawn(None, Sink, (left, Some(done)))
        .await
        .expect("it starts");
    (actor, finished)
}

pub fn tell() -> Took {
    const COUNT: u64 = 1_000_000;
    block_on(async {
        let (actor, finished) = sink(COUNT).await;
        let start = Instant::now();
        for number in 0..COUNT {
            actor.cast(Message::Take(Payload::new(number))).expect("sent");
        }
        finished.await.expect("done");
        let took = Took::since(start, COUNT);
        actor.stop(None);
        took
    })
}

pub fn fan_in() -> Took {
    const EACH: u64 = 125_000;
    block_on(async {
        let (actor, finished) = sink(8 * EACH).await;
        let start = Instant::now();
        for _ in 0..8 {
            let actor = actor.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    actor.cast(Message::Take(Payload::new(number))).expect("sent");
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        finished.await.expect("done");
        let took = Took::since(start, 8 * EACH);
        actor.stop(None);
        took
    })
}

async fn echo(actor: &ActorRef<Message>, number: u64) {
    let (reply, answer) = concurrency::oneshot();
    actor
        .cast(Message::Echo(Payload::new(number), reply.into()))
        .expect("sent");
    answer.await.expect("answered");
}

pub fn ask_many() -> Took {
    const COUNT: u64 = 300_000;
    block_on(async {
        let (actor, _finished) = sink(u64::MAX).await;
        let start = Instant::now();
        let mut flying = FuturesUnordered::new();
        for number in 0..COUNT {
            if flying.len() == 64 {
                flying.next().await;
            }
            flying.push(echo(&actor, number));
        }
        while flying.next().await.is_some() {}
        let took = Took::since(start, COUNT);
        actor.stop(None);
        took
    })
}

pub fn ask_one() -> Took {
    const COUNT: u64 = 100_000;
    block_on(async {
        let (actor, _finished) = sink(u64::MAX).await;
        let start = Instant::now();
        for number in 0..COUNT {
            echo(&actor, number).await;
        }
        let took = Took::since(start, COUNT);
        actor.stop(None);
        took
    })
}

/// A step of a generator whose numbers look random and are always the same.
pub fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

pub fn many() -> Took {
    const AGENTS: u64 = 10_000;
    const COUNT: u64 = 500_000;
    block_on(async {
        let mut actors = Vec::new();
        for number in 0..AGENTS {
            let name = format!("peer-{number}");
            let (actor, _) = Actor::spawn(Some(name), Sink, (u64::MAX, None))
                .await
                .expect("it starts");
            actors.push(actor);
        }
        let names: Vec<String> = (0..AGENTS).map(|n| format!("peer-{n}")).collect();
        let mut state = 7;
        let start = Instant::now();
        let mut flying = FuturesUnordered::new();
        for number in 0..COUNT {
            let target = (next(&mut state) % AGENTS) as usize;
            let actor: ActorRef<Message> = ractor::registry::where_is(names[target].clone())
                .expect("registered")
                .into();
            if number % 1000 == 999 {
                flying.push(async move { echo(&actor, number).await });
                if flying.len() == 8 {
                    flying.next().await;
                }
            } else {
                actor.cast(Message::Take(Payload::new(number))).expect("sent");
            }
        }
        while flying.next().await.is_some() {}
        for actor in &actors {
            echo(actor, 0).await;
        }
        let took = Took::since(start, COUNT + AGENTS);
        for actor in actors {
            actor.stop_and_wait(None, None).await.expect("it stops");
        }
        took
    })
}

pub fn spawn() -> Took {
    const COUNT: u64 = 5_000;
    block_on(async {
        let mut actors = Vec::with_capacity(COUNT as usize);
        let start = Instant::now();
        for _ in 0..COUNT {
            let (actor, _) = Actor::spawn(None, Sink, (1, None)).await.expect("it starts");
            actors.push(actor);
        }
        let took = Took::since(start, COUNT);
        for actor in actors {
            actor.stop(None);
        }
        took
    })
}

pub fn idle(agents: u64, resident: fn() -> f64) -> (f64, f64) {
    block_on(async move {
        let mut actors = Vec::with_capacity(agents as usize);
        let before = resident();
        for _ in 0..agents {
            let (actor, _) = Actor::spawn(None, Sink, (u64::MAX, None))
                .await
                .expect("it starts");
            echo(&actor, 1).await;
            actors.push(actor);
        }
        (before, resident())
    })
}

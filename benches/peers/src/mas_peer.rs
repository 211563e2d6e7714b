//! mas, level `direct`.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mas::Query;
use mas::prelude::*;
use tokio::sync::oneshot;

use crate::ractor_peer::next;
use crate::{Payload, Took, block_on};

#[agent(id = "sink", max_restarts = 1000000)]
struct Sink {
    left: u64,
    sum: u64,
    done: Option<oneshot::Sender<u64>>,
}

#[agent]
impl Sink {
    #[on("take")]
    async fn take(&mut self, payload: Payload) {
        self.sum = self.sum.wrapping_add(payload.number());
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            let _ = done.send(self.sum);
        }
    }

    #[on("echo")]
    async fn echo(&mut self, payload: Payload) -> u64 {
        payload.number()
    }

    #[on("fail")]
    async fn fail(&mut self, ctx: &mut Context<Self>) {
        ctx.fail("as asked");
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("as asked");
    }
}

#[agent(id = "finder")]
struct Plain;

#[agent]
impl Plain {
    #[on("nothing")]
    async fn nothing(&self) {}
}

/// The few that are looked for.
#[agent(id = "rare", capabilities = ["rare", "common"])]
struct Rare;

#[agent]
impl Rare {
    #[on("nothing")]
    async fn nothing(&self) {}
}

async fn runtime() -> Runtime {
    Runtime::builder()
        .without_restart_backoff()
        .start()
        .await
        .expect("it starts")
}

fn sink(left: u64) -> (Sink, oneshot::Receiver<u64>) {
    let (done, finished) = oneshot::channel();
    let sink = Sink {
        left,
        sum: 0,
        done: Some(done),
    };
    (sink, finished)
}

pub fn tell() -> Took {
    const COUNT: u64 = 1_000_000;
    block_on(async {
        let runtime = runtime().await;
        let (agent, finished) = sink(COUNT);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        for number in 0..COUNT {
            agent.take(Payload::new(number)).tell().await.expect("sent");
        }
        finished.await.expect("done");
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn tell_by_type() -> Took {
    const COUNT: u64 = 1_000_000;
    block_on(async {
        let runtime = runtime().await;
        let (agent, finished) = sink(COUNT);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        for number in 0..COUNT {
            agent.tell("take", &Payload::new(number)).await.expect("sent");
        }
        finished.await.expect("done");
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn fan_in() -> Took {
    const EACH: u64 = 125_000;
    block_on(async {
        let runtime = runtime().await;
        let (agent, finished) = sink(8 * EACH);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        for _ in 0..8 {
            let agent = agent.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    agent.take(Payload::new(number)).tell().await.expect("sent");
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        finished.await.expect("done");
        let took = Took::since(start, 8 * EACH);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn ask_many() -> Took {
    const COUNT: u64 = 300_000;
    block_on(async {
        let runtime = runtime().await;
        let (agent, _finished) = sink(u64::MAX);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        let mut flying = FuturesUnordered::new();
        for number in 0..COUNT {
            if flying.len() == 64 {
                flying.next().await;
            }
            flying.push(agent.echo(Payload::new(number)));
        }
        while flying.next().await.is_some() {}
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn ask_one() -> Took {
    const COUNT: u64 = 100_000;
    block_on(async {
        let runtime = runtime().await;
        let (agent, _finished) = sink(u64::MAX);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        for number in 0..COUNT {
            agent.echo(Payload::new(number)).await.expect("answered");
        }
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn many() -> Took {
    const AGENTS: u64 = 10_000;
    const COUNT: u64 = 500_000;
    block_on(async {
        let runtime = runtime().await;
        let names: Vec<String> = (0..AGENTS).map(|n| format!("peer-{n}")).collect();
        for name in &names {
            let (agent, _) = sink(u64::MAX);
            runtime.spawn_as(name, agent).await.expect("it starts");
        }
        let mut state = 7;
        let start = Instant::now();
        let mut flying = FuturesUnordered::new();
        for number in 0..COUNT {
            let target = (next(&mut state) % AGENTS) as usize;
            let agent = SinkRef::attach(&runtime, &names[target]).expect("an id");
            if number % 1000 == 999 {
                flying.push(agent.echo(Payload::new(number)));
                if flying.len() == 8 {
                    flying.next().await;
                }
            } else {
                agent.take(Payload::new(number)).tell().await.expect("sent");
            }
        }
        while flying.next().await.is_some() {}
        for name in &names {
            let agent = SinkRef::attach(&runtime, name).expect("an id");
            agent.echo(Payload::new(0)).await.expect("answered");
        }
        let took = Took::since(start, COUNT + AGENTS);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn spawn() -> Took {
    const COUNT: u64 = 5_000;
    block_on(async {
        let runtime = runtime().await;
        let names: Vec<String> = (0..COUNT).map(|n| format!("peer-{n}")).collect();
        let start = Instant::now();
        for name in &names {
            runtime.spawn_as(name, sink(1).0).await.expect("it starts");
        }
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn idle(agents: u64, resident: fn() -> f64) -> (f64, f64) {
    block_on(async move {
        let runtime = runtime().await;
        let before = resident();
        for number in 0..agents {
            let agent = runtime
                .spawn_as(format!("peer-{number}"), sink(u64::MAX).0)
                .await
                .expect("it starts");
            agent.echo(Payload::new(1)).await.expect("answered");
        }
        (before, resident())
    })
}

/// From the message that ends the instance to the answer of the next one.
fn restart(crash: fn(&SinkRef) -> mas::Call<()>) -> Took {
    const COUNT: u64 = 2_000;
    block_on(async move {
        let runtime = runtime().await;
        let (agent, _finished) = sink(u64::MAX);
        let agent = runtime.spawn(agent).await.expect("it starts");
        let start = Instant::now();
        for number in 0..COUNT {
            let _ = crash(&agent).await;
            agent.echo(Payload::new(number)).await.expect("answered");
        }
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

pub fn restart_error() -> Took {
    restart(SinkRef::fail_call)
}

pub fn restart_panic() -> Took {
    restart(SinkRef::panic_call)
}

impl SinkRef {
    fn fail_call(&self) -> mas::Call<()> {
        self.fail()
    }

    fn panic_call(&self) -> mas::Call<()> {
        self.panic()
    }
}

pub fn discover() -> Took {
    const COUNT: u64 = 10_000;
    block_on(async {
        let runtime = runtime().await;
        for number in 0..100_000 {
            let id = format!("agent-{number}");
            if number % 10_000 == 0 {
                runtime.spawn_as(id, Rare).await.expect("it starts");
            } else {
                runtime.spawn_as(id, Plain).await.expect("it starts");
            }
        }
        let start = Instant::now();
        for _ in 0..COUNT {
            let found = runtime.discover(Query::all(["rare"])).await.expect("it answers");
            assert_eq!(found.len(), 10);
        }
        let took = Took::since(start, COUNT);
        runtime.shutdown().await.expect("it ends");
        took
    })
}

//! What one message costs: tell and ask, typed and by message type, volatile and kept in memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mas::prelude::*;

/// 64 bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Payload([u64; 8]);

#[agent(id = "sink")]
struct Sink(u64);

#[agent]
impl Sink {
    #[on("take")]
    async fn take(&mut self, payload: Payload) {
        self.0 = self.0.wrapping_add(payload.0[0]);
    }

    #[on("echo")]
    async fn echo(&mut self, payload: Payload) -> u64 {
        payload.0[0]
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    sum: u64,
}

#[agent(id = "durable-sink", state = Tally, durable)]
struct DurableSink;

#[agent]
impl DurableSink {
    #[on("add")]
    async fn add(&mut self, payload: Payload, ctx: &mut Context<Self>) -> u64 {
        ctx.update_state(|tally| {
            tally.sum = tally.sum.wrapping_add(payload.0[0]);
            tally.sum
        })
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The time of `count` rounds of `work` beside a fresh runtime, on a task of its own.
fn time<W, F>(count: u64, work: W) -> Duration
where
    W: FnOnce(Runtime, u64) -> F + Send + 'static,
    F: Future<Output = Duration> + Send + 'static,
{
    tokio_runtime().block_on(async move {
        let runtime = Runtime::builder().start().await.expect("it starts");
        let own = runtime.clone();
        let took = tokio::spawn(work(own, count)).await.expect("it ends");
        runtime.shutdown().await.expect("it ends");
        took
    })
}

async fn tells(runtime: Runtime, count: u64) -> Duration {
    let sink = runtime.spawn(Sink(0)).await.expect("it starts");
    let start = Instant::now();
    for number in 0..count {
        sink.take(Payload([number; 8])).tell().await.expect("sent");
    }
    // Answered after all that was told before it.
    black_box(sink.echo(Payload([1; 8])).await.expect("answered"));
    start.elapsed()
}

async fn tells_by_type(runtime: Runtime, count: u64) -> Duration {
    let sink = runtime.spawn(Sink(0)).await.expect("it starts");
    let start = Instant::now();
    for number in 0..count {
        let payload = Payload([number; 8]);
        sink.tell("take", &payload).await.expect("sent");
    }
    black_box(sink.echo(Payload([1; 8])).await.expect("answered"));
    start.elapsed()
}

async fn asks(runtime: Runtime, count: u64) -> Duration {
    let sink = runtime.spawn(Sink(0)).await.expect("it starts");
    let start = Instant::now();
    for number in 0..count {
        let answer = sink.echo(Payload([number; 8])).await;
        black_box(answer.expect("answered"));
    }
    start.elapsed()
}

async fn durable_asks(runtime: Runtime, count: u64) -> Duration {
    let sink = runtime.spawn(DurableSink).await.expect("it starts");
    let start = Instant::now();
    for number in 0..count {
        let answer = sink.add(Payload([number; 8])).await;
        black_box(answer.expect("answered"));
    }
    start.elapsed()
}

fn sending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sending");
    group.throughput(Throughput::Elements(1));
    group.bench_function("tell, typed", |b| b.iter_custom(|count| time(count, tells)));
    group.bench_function("tell, by message type", |b| {
        b.iter_custom(|count| time(count, tells_by_type));
    });
    group.bench_function("ask, typed", |b| b.iter_custom(|count| time(count, asks)));
    group.bench_function("ask, durable, memory engine", |b| {
        b.iter_custom(|count| time(count, durable_asks));
    });
    group.finish();
}

criterion_group!(benches, sending);
criterion_main!(benches);

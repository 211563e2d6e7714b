//! Several instances that share one id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mas::prelude::*;
use mas::store::MemoryEngine;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[agent(id = "pool", state = Tally)]
struct Worker {
    number: u32,
}

#[agent]
impl Worker {
    #[on("work")]
    async fn work(&mut self, ctx: &mut Context<Self>) -> u32 {
        let seen = ctx.state().done;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ctx.update_state(|tally| tally.done = seen + 1);
        self.number
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> u64 {
        ctx.state().done
    }
}

#[agent(id = "durable-pool", state = Tally, durable)]
struct DurableWorker {
    runs: Arc<AtomicU32>,
}

#[agent]
impl DurableWorker {
    #[on("work")]
    async fn work(&mut self, ctx: &mut Context<Self>) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let seen = ctx.state().done;
        tokio::time::sleep(Duration::from_millis(100)).await;
        ctx.update_state(|tally| {
            tally.done = seen + 1;
            tally.done
        })
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> u64 {
        ctx.state().done
    }
}

#[tokio::test]
async fn a_pool_spreads_its_work_and_loses_no_update() {
    let kit = TestKit::start().await;
    let next = AtomicU32::new(0);
    let pool = kit
        .spawn_pool("pool", 4, move || Worker {
            number: next.fetch_add(1, Ordering::SeqCst),
        })
        .await
        .unwrap();
    let answers = join_all((0..8).map(|_| pool.work())).await;
    let mut numbers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(pool.total().await.unwrap(), 8);
}

#[tokio::test]
async fn a_durable_pool_runs_again_on_newer_state_and_loses_no_update() {
    let kit = TestKit::builder().engine(MemoryEngine::new()).start().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&runs);
    let pool = kit
        .spawn_pool("durable-pool", 4, move || DurableWorker {
            runs: Arc::clone(&own),
        })
        .await
        .unwrap();
    let answers = join_all((0..40).map(|_| pool.work())).await;
    let mut answers: Vec<u64> = answers.into_iter().map(Result::unwrap).collect();
    answers.sort_unstable();
    assert_eq!(
        answers,
        (1..=40).collect::<Vec<_>>(),
        "each reply is of its own commit"
    );
    assert_eq!(pool.total().await.unwrap(), 40);
    assert!(runs.load(Ordering::SeqCst) >= 40);
}

#[tokio::test]
async fn a_pool_of_none_is_refused() {
    let kit = TestKit::start().await;
    let error = kit
        .spawn_pool("pool", 0, || Worker { number: 0 })
        .await
        .unwrap_err();
    assert!(
        matches!(error, mas::SpawnError::PoolSize { .. }),
        "{error:?}"
    );
}

/// Some of its work takes long.
#[agent(id = "uneven", durable)]
struct Uneven;

#[agent]
impl Uneven {
    #[on("work")]
    async fn work(&mut self, seconds: u64) {
        tokio::time::sleep(secs(seconds)).await;
    }
}

#[tokio::test]
async fn what_waits_behind_long_work_is_done_by_whoever_is_free() {
    let kit = TestKit::start().await;
    let pool = kit.spawn_pool("uneven", 2, || Uneven).await.unwrap();
    let long = tokio::spawn(pool.work(50).into_future());
    kit.advance(secs(1)).await;
    let before = kit.now();
    for answer in join_all((0..10).map(|_| pool.work(1))).await {
        answer.unwrap();
    }
    let took = kit.now().since(before);
    assert!(took < secs(12), "{took:?}");
    assert!(!long.is_finished());
}

/// `&self` handlers that keep moving the state, and one that needs it to stand still.
#[agent(id = "busy-pool", state = Tally, durable)]
struct Busy {
    runs: Arc<AtomicU32>,
}

#[agent]
impl Busy {
    #[on("move")]
    async fn move_on(&self, ctx: &Context<Self>) {
        ctx.update_state(|tally| tally.done += 1);
    }

    #[on("slow")]
    async fn slow(&mut self, ctx: &mut Context<Self>) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let seen = ctx.state().done;
        tokio::time::sleep(Duration::from_millis(500)).await;
        ctx.update_state(|tally| tally.done = seen + 1000);
        seen
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> u64 {
        ctx.state().done
    }
}

#[tokio::test]
async fn a_message_that_others_keep_overtaking_takes_its_turn_alone() {
    let kit = TestKit::start().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&runs);
    let make = move || Busy {
        runs: Arc::clone(&own),
    };
    let pool = kit.spawn_pool("busy-pool", 2, make).await.unwrap();
    let mover = pool.clone();
    let moves = tokio::spawn(async move {
        for _ in 0..100 {
            mover.move_on().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    pool.slow().timeout(secs(50)).await.unwrap();
    assert_eq!(
        runs.load(Ordering::SeqCst),
        9,
        "eight conflicts, then alone"
    );
    moves.await.unwrap();
    assert_eq!(pool.total().await.unwrap(), 1100, "no update is lost");
}

#[tokio::test]
async fn a_killed_instance_of_a_durable_pool_loses_nothing() {
    let kit = TestKit::start().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&runs);
    let make = move || DurableWorker {
        runs: Arc::clone(&own),
    };
    let pool = kit.spawn_pool("durable-pool", 3, make).await.unwrap();
    let asks: Vec<_> = (0..12)
        .map(|_| tokio::spawn(pool.work().into_future()))
        .collect();
    kit.advance(Duration::from_millis(150)).await;
    kit.crash_instance(&pool, 1);
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(pool.total().await.unwrap(), 12);
}

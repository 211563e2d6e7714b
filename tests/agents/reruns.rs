//! What a durable handler that runs again asks of others, and agents whose own code fails them as they start again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mas::prelude::*;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

/// Asks, and fails on its first attempt.
#[agent(id = "asker", durable)]
struct AskerAgent {
    attempts: Arc<AtomicU32>,
}

#[agent]
impl AskerAgent {
    #[on("impatient")]
    async fn impatient(&mut self, ctx: &mut Context<Self>) -> Result<u32> {
        let timeout = match self.attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Duration::from_millis(50),
            _ => secs(30),
        };
        Ok(ctx.ask("slow", "add", &()).timeout(timeout).await?)
    }

    #[on("reads")]
    async fn reads(&mut self, ctx: &mut Context<Self>) -> Result<u32> {
        let mut items = ctx.stream::<u32>("slow", "count", &()).await?;
        let mut read = 0;
        while let Some(item) = items.next().await {
            item?;
            read += 1;
        }
        match self.attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Failure::retryable("after the last item").into()),
            _ => Ok(read),
        }
    }
}

#[agent(id = "slow", state = Count, durable)]
struct Slow {
    runs: Arc<AtomicU32>,
}

#[agent]
impl Slow {
    #[on("add")]
    async fn add(&self, ctx: &Context<Self>) -> u32 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(secs(2)).await;
        ctx.update_state(|count| {
            count.value += 1;
            count.value
        })
    }

    #[on("count")]
    fn count(&self) -> impl Stream<Item = u32> {
        stream::iter(0..3)
    }
}

async fn agents() -> (TestKit, AskerAgentRef, Arc<AtomicU32>) {
    let kit = TestKit::start().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let slow = Slow {
        runs: Arc::clone(&runs),
    };
    kit.spawn(slow).await.unwrap();
    let attempts = Arc::default();
    let asker = kit.spawn(AskerAgent { attempts }).await.unwrap();
    (kit, asker, runs)
}

#[tokio::test]
async fn an_ask_that_is_repeated_while_it_is_worked_on_is_handled_once() {
    let (_kit, asker, runs) = agents().await;
    assert_eq!(asker.impatient().await.unwrap(), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_is_asked_for_again_has_its_items_again() {
    let (_kit, asker, _runs) = agents().await;
    assert_eq!(asker.reads().await.unwrap(), 3);
}

/// Panics when it is told to, and as it goes.
#[agent(id = "fragile")]
struct Fragile;

#[agent]
impl Fragile {
    #[on("panic")]
    async fn panic(&mut self) {
        panic!("in the middle");
    }

    #[on("answer")]
    async fn answer(&mut self) -> u8 {
        7
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("on the way out");
    }
}

#[tokio::test]
async fn a_factory_that_panics_at_a_restart_is_asked_again() {
    let kit = TestKit::start().await;
    let made = AtomicU32::new(0);
    let fragile = kit
        .spawn_with(move || match made.fetch_add(1, Ordering::SeqCst) {
            1 => panic!("not this time"),
            _ => Fragile,
        })
        .await
        .unwrap();
    assert!(fragile.panic().await.is_err());
    assert_eq!(fragile.answer().await.unwrap(), 7);
}

#[tokio::test]
async fn an_agent_that_panics_as_it_is_dropped_ends_all_the_same() {
    let kit = TestKit::start().await;
    let fragile = kit.spawn(Fragile).await.unwrap();
    fragile.stop().await.unwrap();
    assert!(kit.spawn(Fragile).await.is_ok(), "its id is free again");
}

#[test]
fn an_ask_from_a_runtime_that_ends_does_not_take_others_patience() {
    let home = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let grace = Duration::from_millis(50);
    let runtime = home.block_on(Runtime::builder().shutdown_grace(grace).start());
    let runtime = runtime.unwrap();
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sleeper = home.block_on(async { runtime.spawn(Sleeper).await.unwrap() });
    // It is polled once on a runtime that ends at once.
    other.block_on(async {
        let mut ask = std::pin::pin!(sleeper.forever().timeout(secs(60)).into_future());
        assert!(futures_util::poll!(&mut ask).is_pending());
    });
    drop(other);
    let asked = home.block_on(async {
        let ask = sleeper.forever().timeout(Duration::from_millis(50));
        tokio::time::timeout(secs(20), ask).await
    });
    assert!(asked.expect("its own timeout ends it").is_err());
    home.block_on(runtime.shutdown()).unwrap();
}

#[agent(id = "sleeper")]
struct Sleeper;

#[agent]
impl Sleeper {
    #[on("forever")]
    async fn forever(&self) {
        std::future::pending::<()>().await;
    }
}

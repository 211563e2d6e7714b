//! Messages that come twice, and messages that come too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::{AskError, FailureCode};

use crate::process::process;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

/// What is added is told back.
#[agent(id = "adder", state = Count, durable)]
struct Adder;

#[agent]
impl Adder {
    #[on("add")]
    async fn add(&mut self, number: u32, ctx: &mut Context<Self>) -> u32 {
        ctx.update_state(|count| {
            count.value += number;
            count.value
        })
    }

    #[on("value")]
    async fn value(&self, ctx: &Context<Self>) -> u32 {
        ctx.state().value
    }
}

/// Asks the adder, and then hangs where it is told to.
#[agent(id = "asker", durable)]
struct Asker {
    hangs: bool,
    heard: Arc<AtomicU32>,
}

#[agent]
impl Asker {
    #[on("go")]
    async fn go(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let sum: u32 = ctx.ask("adder", "add", &1_u32).await?;
        self.heard.store(sum, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

async fn kit(engine: &MemoryEngine) -> (TestKit, AdderRef) {
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let adder = kit.spawn(Adder).await.unwrap();
    (kit, adder)
}

async fn asker(kit: &TestKit, hangs: bool) -> (AskerRef, Arc<AtomicU32>) {
    let heard: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&heard);
    let asker = kit.spawn(Asker { hangs, heard: own }).await.unwrap();
    (asker, heard)
}

/// An engine whose process was killed while a handler hung that had asked already.
fn engine_with_an_ask() -> MemoryEngine {
    let engine = MemoryEngine::new();
    process(async {
        let (kit, adder) = kit(&engine).await;
        let (asker, heard) = asker(&kit, true).await;
        asker.go().tell().await.unwrap();
        kit.advance(secs(1)).await;
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        assert_eq!(adder.value().await.unwrap(), 1);
    });
    engine
}

#[test]
fn an_ask_that_is_repeated_by_the_next_process_gets_the_kept_reply() {
    let engine = engine_with_an_ask();
    process(async {
        let (kit, adder) = kit(&engine).await;
        adder.add(10).await.unwrap();
        let (_asker, heard) = asker(&kit, false).await;
        kit.advance(secs(5)).await;
        assert_eq!(heard.load(Ordering::SeqCst), 1, "as it was then");
        assert_eq!(adder.value().await.unwrap(), 11, "added once");
    });
}

#[test]
fn an_ask_that_is_repeated_after_the_window_is_handled_again() {
    let engine = engine_with_an_ask();
    process(async {
        let (kit, adder) = kit(&engine).await;
        kit.advance(secs(601)).await;
        adder.add(10).await.unwrap();
        let (_asker, heard) = asker(&kit, false).await;
        kit.advance(secs(5)).await;
        assert_eq!(heard.load(Ordering::SeqCst), 12);
        assert_eq!(adder.value().await.unwrap(), 12);
    });
}

#[tokio::test]
async fn an_ask_that_is_repeated_after_a_crash_gets_the_kept_reply() {
    let (kit, adder) = kit(&MemoryEngine::new()).await;
    let (asker, heard) = asker(&kit, true).await;
    asker.go().tell().await.unwrap();
    for _ in 0..3 {
        kit.advance(secs(5)).await;
        heard.store(0, Ordering::SeqCst);
        kit.crash(&asker);
        adder.add(10).await.unwrap();
        kit.advance(secs(5)).await;
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    }
    assert_eq!(adder.value().await.unwrap(), 31);
}

/// Takes long to start again.
#[agent(id = "sleeper", durable)]
struct Sleeper {
    starts: u64,
    handled: Arc<AtomicU32>,
}

#[agent]
impl Sleeper {
    #[on_start]
    async fn starting(&mut self) {
        tokio::time::sleep(secs(10) * u32::try_from(self.starts).unwrap()).await;
        self.starts += 1;
    }

    #[on("work")]
    async fn work(&mut self) {
        self.handled.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_deadline_that_passes_while_its_agent_restarts_ends_the_message() {
    let kit = TestKit::start().await;
    let handled: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&handled);
    let sleeper = Sleeper {
        starts: 0,
        handled: own,
    };
    let sleeper = kit.spawn(sleeper).await.unwrap();
    kit.crash(&sleeper);
    let error = sleeper.work().timeout(secs(5)).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut { .. }), "{error:?}");
    let error = sleeper.work().deadline(secs(1)).await.unwrap_err();
    assert!(
        matches!(&error, AskError::Failed(f) if f.code == FailureCode::EXPIRED),
        "{error:?}"
    );
    kit.advance(secs(10)).await;
    assert_eq!(handled.load(Ordering::SeqCst), 0);
    let letters = kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason.contains("deadline"))
    );
    sleeper.work().await.unwrap();
}

#[test]
fn a_deadline_that_passes_between_two_processes_ends_the_message() {
    let engine = MemoryEngine::new();
    let sleeper = |handled: &Arc<AtomicU32>| Sleeper {
        starts: 0,
        handled: Arc::clone(handled),
    };
    let handled: Arc<AtomicU32> = Arc::default();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let agent = kit.spawn(sleeper(&handled)).await.unwrap();
        agent.stop().await.unwrap();
        for seconds in [30, 300] {
            let told = agent.work().tell().deadline(secs(seconds));
            told.await.unwrap();
        }
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        kit.advance(secs(60)).await;
        kit.spawn(sleeper(&handled)).await.unwrap();
        kit.advance(Duration::from_millis(100)).await;
        assert_eq!(handled.load(Ordering::SeqCst), 1, "the other one");
        let letters = kit.dead_letters().list(10).await.unwrap();
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(letters[0].reason.contains("deadline"), "{letters:?}");
    });
}

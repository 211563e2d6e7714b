//! Dead letters when the process ends, and when the engine fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};

use crate::process::process;

/// Refuses its work while it is told to.
#[agent(id = "clerk", durable, max_attempts = 2)]
struct Clerk {
    refuses: bool,
    done: Arc<AtomicU32>,
}

#[agent]
impl Clerk {
    #[on("file")]
    async fn file(&mut self, _text: String) -> Result<()> {
        if self.refuses {
            return Err(Failure::retryable("the drawer is stuck").into());
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    #[on("open")]
    async fn open(&mut self) {
        self.refuses = false;
    }
}

async fn clerk(kit: &TestKit, refuses: bool) -> (ClerkRef, Arc<AtomicU32>) {
    let done: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&done);
    let clerk = kit.spawn(Clerk { refuses, done: own }).await.unwrap();
    (clerk, done)
}

/// An engine with one dead letter of the clerk's, left by a process that was killed.
fn engine_with_a_letter() -> MemoryEngine {
    let engine = MemoryEngine::new();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let (clerk, _) = clerk(&kit, true).await;
        clerk.file("a letter".into()).await.unwrap_err();
    });
    engine
}

#[test]
fn the_next_process_lists_and_shows_a_dead_letter() {
    let engine = engine_with_a_letter();
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let letters = kit.dead_letters();
        let listed = letters.list(10).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let letter = &listed[0];
        assert_eq!((letter.target.as_str(), letter.attempts), ("clerk", 2));
        assert!(letter.reason.contains("the drawer is stuck"), "{letter:?}");
        assert_eq!(
            letter.history.len(),
            1,
            "what the attempts before the last said"
        );
        let shown = letters.show(letter.number).await.unwrap();
        assert_eq!(shown.as_ref(), Some(letter));
    });
}

#[test]
fn a_dead_letter_of_an_earlier_process_is_handled_once_when_it_is_retried() {
    let engine = engine_with_a_letter();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let (_clerk, done) = clerk(&kit, false).await;
        let letters = kit.dead_letters();
        let number = letters.list(10).await.unwrap()[0].number;
        letters.retry(number).await.unwrap();
        assert!(letters.retry(number).await.is_err(), "it is no letter now");
        kit.advance(secs(1)).await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let (_clerk, done) = clerk(&kit, false).await;
        kit.advance(secs(60)).await;
        assert_eq!(done.load(Ordering::SeqCst), 0, "nothing is left of it");
        assert!(kit.dead_letters().list(10).await.unwrap().is_empty());
    });
}

#[test]
fn a_dead_letter_that_is_retried_before_its_agent_runs_waits_for_it() {
    let engine = engine_with_a_letter();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let letters = kit.dead_letters();
        let number = letters.list(10).await.unwrap()[0].number;
        letters.retry(number).await.unwrap();
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let (_clerk, done) = clerk(&kit, false).await;
        kit.advance(secs(1)).await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_dead_letter_that_was_dropped_is_gone_from_the_next_process_too() {
    let engine = engine_with_a_letter();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let letters = kit.dead_letters();
        let number = letters.list(10).await.unwrap()[0].number;
        assert!(letters.drop(number).await.unwrap());
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let letters = kit.dead_letters();
        assert!(letters.list(10).await.unwrap().is_empty());
    });
}

/// A clerk that refuses no more, one dead letter of it, and an engine to break.
async fn scene() -> (TestKit, FaultyEngine, ClerkRef, Arc<AtomicU32>, u64) {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let (clerk, done) = clerk(&kit, true).await;
    clerk.file("a letter".into()).await.unwrap_err();
    clerk.open().await.unwrap();
    let number = kit.dead_letters().list(10).await.unwrap()[0].number;
    (kit, engine, clerk, done, number)
}

#[tokio::test]
async fn a_retry_that_the_engine_refuses_loses_nothing() {
    let (kit, engine, _clerk, done, number) = scene().await;
    let letters = kit.dead_letters();
    for fault in [Fault::Errors, Fault::Reads] {
        engine.suffer(fault);
        assert!(letters.retry(number).await.is_err());
        engine.heal();
        kit.advance(secs(5)).await;
        assert_eq!(letters.list(10).await.unwrap().len(), 1, "{fault:?}");
        assert_eq!(done.load(Ordering::SeqCst), 0, "{fault:?}");
    }
    letters.retry(number).await.unwrap();
    kit.advance(secs(5)).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert!(letters.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_retry_that_was_stored_and_answered_by_an_error_is_handled_once() {
    let (kit, engine, _clerk, done, number) = scene().await;
    let letters = kit.dead_letters();
    engine.suffer(Fault::StoredThenError);
    assert!(letters.retry(number).await.is_err());
    engine.heal();
    kit.advance(secs(5)).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert!(letters.retry(number).await.is_err(), "it is no letter now");
    kit.advance(secs(5)).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_drop_that_the_engine_refuses_loses_nothing() {
    let (kit, engine, _clerk, _, number) = scene().await;
    let letters = kit.dead_letters();
    engine.suffer(Fault::Errors);
    assert!(letters.drop(number).await.is_err());
    engine.heal();
    assert!(letters.show(number).await.unwrap().is_some());
    assert!(letters.drop(number).await.unwrap());
    assert!(letters.list(10).await.unwrap().is_empty());
}

//! Streamed replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};
use mas::{AskError, SendError};

use crate::process::process;

#[agent(id = "counter", timeout = "5s")]
struct Counter {
    made: Arc<AtomicUsize>,
}

#[agent]
impl Counter {
    #[on("count")]
    fn count(&self, to: usize) -> impl Stream<Item = usize> {
        let made = Arc::clone(&self.made);
        stream::iter(0..to).inspect(move |_| {
            made.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[on("count.slowly")]
    fn count_slowly(&self, to: usize) -> impl Stream<Item = usize> + use<> {
        stream::iter(0..to).then(|n| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            n
        })
    }

    #[on("count.failing")]
    fn count_failing(&self) -> impl Stream<Item = Result<u8>> {
        stream::iter([Ok(1), Err(Failure::permanent("no more").into()), Ok(2)])
    }

    #[on("alone")]
    async fn alone(&mut self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

async fn kit() -> (TestKit, CounterRef) {
    let kit = TestKit::start().await;
    let made = Arc::default();
    let counter = kit.spawn(Counter { made }).await.unwrap();
    (kit, counter)
}

#[tokio::test]
async fn every_item_arrives_in_order() {
    let (_kit, counter) = kit().await;
    let items = counter.stream::<usize>("count", &100).await.unwrap();
    let items: Vec<usize> = items.map(|item| item.unwrap()).collect().await;
    assert_eq!(items, (0..100).collect::<Vec<_>>());
    let typed = counter.count(3).await.unwrap();
    assert_eq!(
        typed.map(|item| item.unwrap()).collect::<Vec<_>>().await,
        [0, 1, 2]
    );
}

#[tokio::test]
async fn a_slow_asker_holds_the_handler_back() {
    let (kit, counter) = kit().await;
    let mut items = counter.count(10_000).await.unwrap();
    items.next().await.unwrap().unwrap();
    kit.advance(secs(1)).await;
    let made = counter_made(&counter).await;
    assert!(made < 100, "{made} items were made for one that was read");
}

async fn counter_made(counter: &CounterRef) -> usize {
    // A stream that borrows the agent holds `&mut self` handlers off until its asker has taken nothing for the timeout.
    counter.alone().await.unwrap()
}

#[tokio::test]
async fn dropping_the_stream_ends_the_handler() {
    let (kit, counter) = kit().await;
    let mut items = counter.count_slowly(1_000).await.unwrap();
    assert_eq!(items.next().await.unwrap().unwrap(), 0);
    drop(items);
    let before = kit.now();
    counter.alone().await.unwrap();
    assert!(
        kit.now().since(before) < secs(1),
        "the agent is free at once"
    );
}

#[tokio::test]
async fn an_error_ends_the_stream() {
    let (_kit, counter) = kit().await;
    let items: Vec<_> = counter.count_failing().await.unwrap().collect().await;
    assert_eq!(items.len(), 2);
    assert_eq!(*items[0].as_ref().unwrap(), 1);
    assert!(matches!(&items[1], Err(AskError::Failed(f)) if f.message == "no more"));
}

#[tokio::test]
async fn asking_in_the_wrong_way_is_told() {
    let (_kit, counter) = kit().await;
    let error = counter.ask::<u8>("count", &1).await.unwrap_err();
    assert!(matches!(
        error,
        AskError::Send(SendError::AnswersByStream { .. })
    ));
    let error = counter.stream::<u8>("alone", &()).await.unwrap_err();
    assert!(matches!(
        error,
        AskError::Send(SendError::AnswersOnce { .. })
    ));
}

#[tokio::test]
async fn a_crash_cuts_the_stream_off_with_an_error() {
    let (kit, counter) = kit().await;
    let mut items = counter.count_slowly(100).await.unwrap();
    items.next().await.unwrap().unwrap();
    kit.crash(&counter);
    let last = items.map(|item| item.is_err()).collect::<Vec<_>>().await;
    assert_eq!(last.last(), Some(&true), "not an end like any other");
}

#[tokio::test]
async fn an_asker_that_waits_too_long_for_an_item_gives_up() {
    let (_kit, counter) = kit().await;
    let mut items = counter
        .count_slowly(3)
        .timeout(Duration::from_millis(100))
        .await
        .unwrap();
    let first = items.next().await.unwrap();
    assert!(matches!(first, Err(AskError::TimedOut { .. })), "{first:?}");
    assert!(items.next().await.is_none());
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Streamed {
    times: u32,
}

#[agent(id = "durable-counter", state = Streamed, durable, timeout = "5s")]
struct DurableCounter {
    runs: Arc<AtomicUsize>,
}

#[agent]
impl DurableCounter {
    #[on("count.then.fail")]
    fn count_then_fail(
        &mut self,
        items: u8,
        ctx: &mut Context<Self>,
    ) -> impl Stream<Item = Result<u8>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        ctx.update_state(|streamed| streamed.times += 1);
        stream::iter((0..items).map(Ok)).chain(stream::once(async {
            Err(Failure::retryable("the well is dry").into())
        }))
    }

    #[on("count.slowly")]
    fn count_slowly(&mut self, items: u8, ctx: &mut Context<Self>) -> impl Stream<Item = u8> {
        ctx.update_state(|streamed| streamed.times += 1);
        stream::iter(0..items).then(|n| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            n
        })
    }

    #[on("count.shared")]
    fn count_shared(&self, items: u8) -> impl Stream<Item = u8> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        stream::iter(0..items).then(|n| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            n
        })
    }

    #[on("panic")]
    async fn panic(&self) -> Result<()> {
        panic!("as asked");
    }

    #[on("times")]
    async fn times(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.state().times
    }
}

async fn durable_kit() -> (TestKit, DurableCounterRef, Arc<AtomicUsize>) {
    let kit = TestKit::start().await;
    let runs: Arc<AtomicUsize> = Arc::default();
    let own = Arc::clone(&runs);
    let counter = kit.spawn(DurableCounter { runs: own }).await.unwrap();
    (kit, counter, runs)
}

#[tokio::test]
async fn a_stream_that_fails_in_the_middle_keeps_nothing_and_repeats_no_item() {
    let (_kit, counter, runs) = durable_kit().await;
    let items: Vec<_> = counter.count_then_fail(2).await.unwrap().collect().await;
    assert_eq!(items.len(), 3, "{items:?}");
    assert!(
        items[2]
            .as_ref()
            .is_err_and(|e| e.to_string().contains("dry"))
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(counter.times().await.unwrap(), 0, "its update is undone");
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_item_is_tried_again() {
    let (_kit, counter, runs) = durable_kit().await;
    let items: Vec<_> = counter.count_then_fail(0).await.unwrap().collect().await;
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 5, "all attempts");
}

#[tokio::test]
async fn a_stream_of_an_exclusive_handler_lasts_as_long_as_it_is_read() {
    let (_kit, counter, _) = durable_kit().await;
    let items: Vec<_> = counter.count_slowly(20).await.unwrap().collect().await;
    assert_eq!(items.len(), 20);
    assert!(items.iter().all(Result::is_ok), "{items:?}");
    assert_eq!(counter.times().await.unwrap(), 1);
}

#[tokio::test]
async fn a_killed_durable_stream_is_not_streamed_twice() {
    let (kit, counter, _) = durable_kit().await;
    let mut items = counter.count_slowly(20).await.unwrap();
    items.next().await.unwrap().unwrap();
    kit.crash(&counter);
    let rest: Vec<_> = items.collect().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].is_err());
    assert_eq!(counter.times().await.unwrap(), 0);
}

#[tokio::test]
async fn a_durable_stream_that_a_crash_beside_it_cuts_off_is_not_streamed_twice() {
    let (kit, counter, runs) = durable_kit().await;
    let items = counter.count_shared(200).await.unwrap();
    let items = tokio::spawn(items.collect::<Vec<_>>());
    kit.advance(Duration::from_millis(1500)).await;
    counter.panic().tell().await.unwrap();
    // It crashes again for each attempt, and each time soon: nothing else runs.
    kit.advance(secs(60)).await;
    assert!(items.is_finished(), "it is still read");
    let items = items.await.unwrap();
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 6);
    assert_eq!(items.len(), 7, "and an error");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(counter.times().await.unwrap(), 0);
}

#[test]
fn a_durable_stream_that_its_process_cut_off_is_run_again_for_nobody() {
    let engine = MemoryEngine::new();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let runs = Arc::default();
        let counter = kit.spawn(DurableCounter { runs }).await.unwrap();
        let mut items = counter.count_slowly(20).await.unwrap();
        items.next().await.unwrap().unwrap();
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let runs = Arc::default();
        let counter = kit.spawn(DurableCounter { runs }).await.unwrap();
        kit.advance(secs(60)).await;
        assert_eq!(counter.times().await.unwrap(), 1, "its effects happen once");
    });
}

#[tokio::test]
async fn a_durable_stream_whose_commit_fails_repeats_no_item_and_settles_later() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let runs = Arc::default();
    let counter = kit.spawn(DurableCounter { runs }).await.unwrap();
    let mut items = counter.count_slowly(3).await.unwrap();
    items.next().await.unwrap().unwrap();
    engine.suffer(Fault::Errors);
    kit.advance(secs(10)).await;
    engine.heal();
    let rest: Vec<_> = items.collect().await;
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest[2].is_err(), "{rest:?}");
    kit.advance(secs(60)).await;
    assert_eq!(counter.times().await.unwrap(), 1, "its effects happen once");
}

/// Streams for as long as it is read, and does other things side by side.
#[agent(id = "fountain", timeout = "3s")]
struct Fountain;

#[agent]
impl Fountain {
    #[on("flow")]
    fn flow(&self) -> impl Stream<Item = u64> {
        stream::iter(0..).then(|n| async move {
            tokio::time::sleep(secs(1)).await;
            n
        })
    }

    #[on("panic")]
    async fn panic(&self) {
        panic!("as asked");
    }

    #[on("quit")]
    async fn quit(&self, ctx: &Context<Self>) {
        ctx.stop();
    }

    #[on("ping")]
    async fn ping(&self) {}

    #[on("alone")]
    async fn alone(&mut self) {}
}

/// Reads to the end.
fn read(items: impl Stream<Item = Result<u64, AskError>> + Send + 'static) -> Reader {
    tokio::spawn(items.collect())
}

type Reader = tokio::task::JoinHandle<Vec<Result<u64, AskError>>>;

/// Reads an endless stream, and gives the stream's agent.
async fn reading(kit: &TestKit) -> (FountainRef, Reader) {
    let fountain = kit.spawn(Fountain).await.unwrap();
    let items = read(fountain.flow().await.unwrap());
    kit.advance(Duration::from_millis(4500)).await;
    (fountain, items)
}

/// What was read of a stream that was cut off: it got 4 items before there was a reason to, and some of the timeout.
async fn assert_cut_off(items: Reader) {
    assert!(items.is_finished(), "it is still read");
    let items = items.await.unwrap();
    assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 7);
    assert!(items.last().unwrap().is_err(), "not an end like any other");
}

#[tokio::test]
async fn a_crash_waits_no_longer_than_the_timeout_for_a_stream_that_is_read() {
    let kit = TestKit::start().await;
    let (fountain, items) = reading(&kit).await;
    fountain.panic().await.unwrap_err();
    kit.advance(secs(4)).await;
    assert_cut_off(items).await;
    fountain.ping().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_stops_itself_waits_no_longer_than_the_timeout_for_a_stream() {
    let kit = TestKit::start().await;
    let (fountain, items) = reading(&kit).await;
    fountain.quit().await.unwrap();
    kit.advance(secs(4)).await;
    assert_cut_off(items).await;
    assert!(fountain.ping().await.is_err(), "it has stopped");
}

#[tokio::test]
async fn a_stop_is_heard_while_a_message_waits_for_the_end_of_a_stream() {
    let kit = TestKit::start().await;
    let (fountain, items) = reading(&kit).await;
    let waits = tokio::spawn(fountain.alone().into_future());
    kit.advance(Duration::from_millis(100)).await;
    let before = kit.now();
    fountain.stop().await.unwrap();
    let took = kit.now().since(before);
    assert!(
        took < secs(4),
        "{took:?}: the timeout, not the grace period"
    );
    assert_cut_off(items).await;
    assert!(waits.await.unwrap().is_err(), "it was not begun");
}

#[tokio::test]
async fn a_message_that_comes_while_a_stream_is_cut_off_hears_of_the_end() {
    let kit = TestKit::start().await;
    let (fountain, items) = reading(&kit).await;
    let stopping = fountain.clone();
    let stopping = tokio::spawn(async move { stopping.stop().await });
    kit.advance(Duration::from_millis(100)).await;
    assert!(fountain.ping().await.is_err());
    stopping.await.unwrap().unwrap();
    assert_cut_off(items).await;
}

/// Has two children that start again together.
#[agent(strategy = "one_for_all")]
struct Basin;

#[agent]
impl Basin {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.spawn(Fountain).await?;
        ctx.spawn_as("narrow", Narrow).await?;
        Ok(())
    }
}

/// Has no room for anything beside a stream.
#[agent(timeout = "3s", concurrency = 1)]
struct Narrow;

#[agent]
impl Narrow {
    #[on("flow")]
    fn flow(&self) -> impl Stream<Item = u64> {
        Fountain.flow()
    }

    #[on("flow.alone")]
    fn flow_alone(&mut self) -> impl Stream<Item = u64> {
        Fountain.flow()
    }

    #[on("ping")]
    async fn ping(&self) {}
}

#[tokio::test]
async fn a_restart_with_a_sibling_is_heard_by_an_agent_that_takes_nothing_more() {
    let kit = TestKit::start().await;
    kit.spawn(Basin).await.unwrap();
    let narrow = NarrowRef::attach(kit.runtime(), "narrow").unwrap();
    let fountain = FountainRef::attach(kit.runtime(), "fountain").unwrap();
    for is_alone in [false, true] {
        let items = match is_alone {
            false => narrow.flow().await.unwrap(),
            true => narrow.flow_alone().await.unwrap(),
        };
        let items = read(items);
        kit.advance(Duration::from_millis(4500)).await;
        fountain.panic().await.unwrap_err();
        kit.advance(secs(4)).await;
        assert_cut_off(items).await;
        narrow.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_ends_in_time_is_not_cut_off() {
    let kit = TestKit::start().await;
    let fountain = kit.spawn(Fountain).await.unwrap();
    let items = fountain.flow().await.unwrap();
    let items = read(items.take(2));
    kit.advance(Duration::from_millis(500)).await;
    fountain.panic().await.unwrap_err();
    let items = items.await.unwrap();
    assert!(items.iter().all(Result::is_ok), "{items:?}");
}

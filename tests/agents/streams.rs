//! Streamed replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use mas::prelude::*;
use mas::{AskError, SendError};

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

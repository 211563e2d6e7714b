//! What is told of the runtime itself.

use mas::EventKind;
use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

#[agent(id = "counter", state = Count, durable)]
struct Counter;

#[agent]
impl Counter {
    #[on("add")]
    async fn add(&mut self, ctx: &mut Context<Self>) {
        tokio::time::sleep(secs(1)).await;
        ctx.update_state(|count| count.value += 1);
    }

    #[on("value")]
    async fn value(&self, ctx: &Context<Self>) -> u32 {
        ctx.state().value
    }
}

#[tokio::test]
async fn an_engine_that_fails_is_told_and_so_is_why() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let counter = kit.spawn(Counter).await.unwrap();
    let mut events = kit.events();
    counter.add().tell().await.unwrap();
    engine.suffer(Fault::DiskFull);
    let event = events.next().await.unwrap();
    let EventKind::EngineFailed { reason } = &event.kind else {
        panic!("{event:?}")
    };
    assert!(reason.contains("a fault was asked for"), "{reason}");
    assert!(event.at.since_origin() >= secs(1));
    engine.heal();
    kit.advance(secs(60)).await;
    assert_eq!(counter.value().await.unwrap(), 1);
}

#[tokio::test]
async fn a_reader_that_lags_misses_the_oldest_events_and_goes_on() {
    const MISSED: usize = 10;
    let kit = TestKit::start().await;
    let mut events = kit.events();
    let ghost = kit.agent("ghost").unwrap();
    let kept = mas::model::limits::EVENTS_MAX;
    for number in 0..kept + MISSED {
        let name = format!("number-{number}");
        ghost.tell(&name, &()).await.unwrap();
    }
    let mut read = Vec::new();
    while let Some(event) = events.try_next() {
        if let EventKind::DeadLetter { message_type, .. } = event.kind {
            read.push(message_type.to_string());
        }
    }
    assert_eq!(read.len(), kept);
    assert_eq!(read[0], format!("number-{MISSED}"));
    ghost.tell("one.more", &()).await.unwrap();
    let next = events.next().await.unwrap();
    assert!(
        matches!(&next.kind, EventKind::DeadLetter { message_type, .. } if message_type.as_str() == "one.more"),
        "{next:?}"
    );
}

#[tokio::test]
async fn events_end_with_their_runtime() {
    let kit = TestKit::start().await;
    let mut events = kit.events();
    kit.shutdown().await.unwrap();
    drop(kit);
    while let Some(event) = events.next().await {
        assert!(!matches!(event.kind, EventKind::EngineFailed { .. }));
    }
}

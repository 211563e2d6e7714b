//! Engines that fail to read.

use std::time::Duration;

use mas::SpawnError;
use mas::prelude::*;
use mas::store::{MemoryEngine, StoreError};
use mas::testkit::{Fault, FaultyEngine};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: Vec<u32>,
}

#[agent(id = "narrow", state = Tally, durable, mailbox = 4)]
struct Narrow;

#[agent]
impl Narrow {
    #[on("take")]
    async fn take(&mut self, number: u32, ctx: &mut Context<Self>) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ctx.update_state(|tally| tally.done.push(number));
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

async fn kit() -> (TestKit, FaultyEngine) {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    (kit, engine)
}

#[tokio::test]
async fn a_spawn_says_that_the_engine_cannot_be_read_and_works_once_it_can() {
    let (kit, engine) = kit().await;
    let narrow = kit.spawn(Narrow).await.unwrap();
    narrow.take(1).await.unwrap();
    narrow.stop().await.unwrap();
    for number in 2..20 {
        narrow.take(number).tell().await.unwrap();
    }
    engine.suffer(Fault::Reads);
    let error = kit.spawn(Narrow).await.unwrap_err();
    let SpawnError::Store { id, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*id, "narrow");
    assert!(matches!(source, StoreError::Io { .. }), "{source:?}");
    engine.heal();
    kit.spawn(Narrow).await.unwrap();
    kit.advance(secs(10)).await;
    assert_eq!(narrow.total().await.unwrap(), (1..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_inbox_that_could_not_be_read_for_a_while_is_worked_off_in_order() {
    let (kit, engine) = kit().await;
    let narrow = kit.spawn(Narrow).await.unwrap();
    for number in 0..100 {
        narrow.take(number).tell().await.unwrap();
    }
    engine.suffer(Fault::Reads);
    kit.advance(secs(30)).await;
    for number in 100..150 {
        narrow.take(number).tell().await.unwrap();
    }
    kit.advance(secs(30)).await;
    engine.heal();
    kit.advance(secs(30)).await;
    assert_eq!(narrow.total().await.unwrap(), (0..150).collect::<Vec<_>>());
}

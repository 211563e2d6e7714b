//! Instances that are killed between what their handlers did and what follows from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

/// Sends to a durable agent, to a probe, and to itself later, all with its state in one commit.
#[agent(id = "worker", state = Count, durable)]
struct Worker {
    runs: Arc<AtomicU32>,
}

#[agent]
impl Worker {
    #[on("work")]
    async fn work(&mut self, ctx: &mut Context<Self>) -> Result<u32> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        ctx.update_state(|count| count.value += 1);
        ctx.tell("sink", "add", &1).await?;
        ctx.tell("log", "worked", &()).await?;
        ctx.schedule(Duration::from_secs(60), "later", &())?;
        Ok(ctx.state().value)
    }

    #[on("work.shared")]
    async fn work_shared(&self, ctx: &Context<Self>) -> u32 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        ctx.update_state(|count| count.value += 1);
        ctx.update_state(|count| count.value += 10);
        ctx.state().value
    }

    #[on("fail")]
    async fn fail(&mut self) -> Result<()> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        Err(Failure::permanent("it can't be done").into())
    }

    #[on("later")]
    async fn later(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "later", &()).await?;
        Ok(())
    }

    #[on("value")]
    async fn value(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.state().value
    }
}

#[agent(id = "sink", state = Count, durable)]
struct Sink;

#[agent]
impl Sink {
    #[on("add")]
    async fn add(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|count| count.value += number);
    }

    #[on("value")]
    async fn value(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.state().value
    }
}

struct Scene {
    kit: TestKit,
    engine: FaultyEngine,
    worker: WorkerRef,
    sink: SinkRef,
    log: mas::testkit::Probe,
    runs: Arc<AtomicU32>,
}

impl Scene {
    async fn set() -> Self {
        let engine = FaultyEngine::new(MemoryEngine::new());
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let log = kit.probe("log").await.unwrap();
        let sink = kit.spawn(Sink).await.unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let worker = kit
            .spawn(Worker {
                runs: Arc::clone(&runs),
            })
            .await
            .unwrap();
        Self {
            kit,
            engine,
            worker,
            sink,
            log,
            runs,
        }
    }

    /// Kills the worker while its handler is over and its commit is on its way.
    async fn kill_in_the_commit(&self) {
        self.kit.advance(Duration::from_millis(1500)).await;
        assert_eq!(self.runs.load(Ordering::SeqCst), 1, "the handler has run");
        self.kit.crash(&self.worker);
    }
}

#[tokio::test]
async fn what_was_committed_is_released_although_its_instance_is_killed() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks = tokio::spawn(scene.worker.work().into_future());
    scene.kill_in_the_commit().await;
    assert_eq!(asks.await.unwrap().unwrap(), 1, "the asker is answered");
    scene.engine.heal();
    scene.log.next::<()>("worked").await.unwrap();
    scene.log.next::<()>("later").await.unwrap();
    assert_eq!(scene.sink.value().await.unwrap(), 1);
    assert_eq!(scene.worker.value().await.unwrap(), 1);
    assert_eq!(scene.runs.load(Ordering::SeqCst), 1, "it did not run again");
}

#[tokio::test]
async fn a_killed_side_by_side_handler_makes_its_updates_once() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks = tokio::spawn(scene.worker.work_shared().into_future());
    scene.kill_in_the_commit().await;
    assert_eq!(asks.await.unwrap().unwrap(), 11);
    scene.engine.heal();
    assert_eq!(scene.worker.value().await.unwrap(), 11);
}

#[tokio::test]
async fn a_failure_is_told_although_its_instance_is_killed() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks = tokio::spawn(scene.worker.fail().into_future());
    scene.kill_in_the_commit().await;
    let error = asks.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it can't be done"), "{error}");
    scene.engine.heal();
    assert_eq!(scene.runs.load(Ordering::SeqCst), 1);
    let letters = scene.kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
}

#[tokio::test]
async fn a_commit_that_was_stored_and_answered_by_an_error_takes_effect_once() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::StoredThenError);
    let asks = tokio::spawn(scene.worker.work().into_future());
    scene.kit.advance(Duration::from_millis(50)).await;
    scene.engine.heal();
    // The send was stored, too: its asker hears an error, and can't know.
    assert!(asks.await.unwrap().is_err());
    scene.log.next::<()>("worked").await.unwrap();
    scene.log.next::<()>("later").await.unwrap();
    assert_eq!(scene.sink.value().await.unwrap(), 1);
    assert_eq!(scene.worker.value().await.unwrap(), 1);
}

#[tokio::test]
async fn a_settlement_that_was_stored_and_answered_by_an_error_is_found_again() {
    let scene = Scene::set().await;
    // Only the handler's own commit is in doubt: the send is stored well before.
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks = tokio::spawn(scene.worker.work().into_future());
    scene.kit.advance(Duration::from_millis(500)).await;
    scene.engine.suffer(Fault::StoredThenError);
    scene.kit.advance(Duration::from_secs(1)).await;
    scene.engine.heal();
    assert_eq!(asks.await.unwrap().unwrap(), 1, "the kept reply");
    scene.log.next::<()>("worked").await.unwrap();
    scene.log.next::<()>("later").await.unwrap();
    assert_eq!(scene.sink.value().await.unwrap(), 1);
    assert_eq!(scene.worker.value().await.unwrap(), 1);
}

#[tokio::test]
async fn what_waits_for_a_killed_instance_is_handled_by_the_next() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks: Vec<_> = (0..3)
        .map(|_| tokio::spawn(scene.worker.work().into_future()))
        .collect();
    scene.kill_in_the_commit().await;
    scene.engine.heal();
    let mut values = Vec::new();
    for ask in asks {
        values.push(ask.await.unwrap().unwrap());
    }
    values.sort_unstable();
    assert_eq!(values, [1, 2, 3]);
    scene.log.arrives(3).await;
    assert_eq!(scene.sink.value().await.unwrap(), 3);
}

#[tokio::test]
async fn a_side_by_side_update_that_was_stored_and_answered_by_an_error_is_made_once() {
    let scene = Scene::set().await;
    scene.engine.suffer(Fault::Slow(Duration::from_secs(1)));
    let asks = tokio::spawn(scene.worker.work_shared().into_future());
    scene.kit.advance(Duration::from_millis(500)).await;
    scene.engine.suffer(Fault::StoredThenError);
    scene.kit.advance(Duration::from_millis(600)).await;
    scene.engine.heal();
    assert_eq!(asks.await.unwrap().unwrap(), 11);
    assert_eq!(scene.runs.load(Ordering::SeqCst), 2, "it ran again");
    assert_eq!(scene.worker.value().await.unwrap(), 11);
}

//! The end of a runtime.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};
use mas::{EventKind, SpawnError};

#[agent(id = "slow-starter")]
struct SlowStarter {
    stops: Arc<AtomicU32>,
}

#[agent]
impl SlowStarter {
    #[on_start]
    async fn starting(&mut self) {
        tokio::time::sleep(secs(2)).await;
    }

    #[on_stop]
    async fn stopping(&mut self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_agent_that_is_being_spawned_is_stopped_too() {
    let kit = TestKit::start().await;
    let stops: Arc<AtomicU32> = Arc::default();
    let mut events = kit.events();
    let own = Arc::clone(&stops);
    let spawning = kit.spawn(SlowStarter { stops: own });
    let spawning = tokio::spawn(spawning);
    kit.advance(secs(1)).await;
    let before = kit.now();
    kit.shutdown().await.unwrap();
    assert!(
        kit.now().since(before) < secs(5),
        "as soon as it has started"
    );
    assert_eq!(stops.load(Ordering::SeqCst), 1);
    let spawned = spawning.await.unwrap();
    assert!(matches!(spawned, Err(SpawnError::ShutDown)), "{spawned:?}");
    let stopped = std::iter::from_fn(|| events.try_next())
        .filter(|event| matches!(event.kind, EventKind::Stopped { .. }));
    assert_eq!(stopped.count(), 1);
}

/// Starts another agent with its last breath, or while it starts.
#[agent(id = "ancestor")]
struct Ancestor {
    stops: Arc<AtomicU32>,
    early: bool,
}

impl Ancestor {
    fn heir(&self) -> SlowStarter {
        SlowStarter {
            stops: Arc::clone(&self.stops),
        }
    }
}

#[agent]
impl Ancestor {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) {
        if self.early {
            drop(tokio::spawn(ctx.spawn(self.heir())));
        }
    }

    #[on_stop]
    async fn stopping(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        if !self.early {
            ctx.spawn(self.heir()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_child_that_is_spawned_at_the_wrong_time_is_stopped_too() {
    // One that the end of the runtime refuses has nothing to stop.
    for (early, shuts_down, want) in [
        (false, false, 1),
        (false, true, 0),
        (true, false, 1),
        (true, true, 1),
    ] {
        let kit = TestKit::start().await;
        let stops: Arc<AtomicU32> = Arc::default();
        let own = Arc::clone(&stops);
        let ancestor = kit.spawn(Ancestor { stops: own, early }).await.unwrap();
        kit.advance(secs(1)).await;
        match shuts_down {
            true => kit.shutdown().await.unwrap(),
            false => ancestor.stop().await.unwrap(),
        }
        let stops = stops.load(Ordering::SeqCst);
        assert_eq!(stops, want, "early: {early}, shuts down: {shuts_down}");
    }
}

/// Leaves a task behind that starts another agent once this one has ended.
#[agent]
struct Ghost {
    spawned: Arc<Mutex<Option<Result<(), SpawnError>>>>,
}

#[agent]
impl Ghost {
    #[on_stop]
    async fn stopping(&mut self, ctx: &mut Context<Self>) {
        let spawning = ctx.spawn(SlowStarter {
            stops: Arc::default(),
        });
        let spawned = Arc::clone(&self.spawned);
        tokio::spawn(async move {
            tokio::time::sleep(secs(1)).await;
            *spawned.lock().unwrap() = Some(spawning.await.map(drop));
        });
    }
}

#[tokio::test]
async fn an_agent_that_has_ended_gets_no_child() {
    let kit = TestKit::start().await;
    let spawned: Arc<Mutex<_>> = Arc::default();
    let own = Arc::clone(&spawned);
    let ghost = kit.spawn(Ghost { spawned: own }).await.unwrap();
    ghost.stop().await.unwrap();
    kit.advance(secs(5)).await;
    let spawned = spawned.lock().unwrap().take();
    assert!(
        matches!(&spawned, Some(Err(SpawnError::ParentEnded { parent, .. })) if *parent == "ghost"),
        "{spawned:?}"
    );
}

#[tokio::test]
async fn an_agent_that_never_starts_does_not_hold_up_the_end() {
    #[agent]
    struct Never;

    #[agent]
    impl Never {
        #[on_start]
        async fn starting(&mut self) {
            std::future::pending::<()>().await;
        }
    }

    let kit = TestKit::start().await;
    let spawning = kit.spawn(Never);
    let spawning = tokio::spawn(spawning);
    kit.advance(secs(1)).await;
    let before = kit.now();
    kit.shutdown().await.unwrap();
    let took = kit.now().since(before);
    assert!(took < secs(6), "{took:?}: one grace period");
    assert!(spawning.await.unwrap().is_err());
}

/// Starts well once.
#[agent]
struct Relapsing {
    starts: u32,
    stops: Arc<AtomicU32>,
}

#[agent]
impl Relapsing {
    #[on_start]
    async fn starting(&mut self) {
        self.starts += 1;
        if self.starts > 1 {
            std::future::pending::<()>().await;
        }
    }

    #[on_stop]
    async fn stopping(&mut self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_restart_that_hangs_is_cut_off_by_a_stop() {
    let kit = TestKit::start().await;
    let stops: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&stops);
    let agent = Relapsing {
        starts: 0,
        stops: own,
    };
    let agent = kit.spawn(agent).await.unwrap();
    kit.crash(&agent);
    kit.advance(secs(1)).await;
    let before = kit.now();
    agent.stop().await.unwrap();
    let took = kit.now().since(before);
    assert!(took < secs(6), "{took:?}: one grace period");
    assert_eq!(stops.load(Ordering::SeqCst), 1);
}

/// Crashes when it is told to, and says when it stops.
#[agent(max_restarts = 100)]
struct Brittle {
    stops: Arc<AtomicU32>,
}

#[agent]
impl Brittle {
    #[on_stop]
    async fn stopping(&mut self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("as asked");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_an_agent_that_waits_to_restart() {
    let kit = TestKit::start().await;
    let stops: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&stops);
    let brittle = kit.spawn(Brittle { stops: own }).await.unwrap();
    let mut events = kit.events();
    for _ in 0..12 {
        brittle.panic().tell().await.unwrap();
    }
    let waits = loop {
        let event = events.next().await.unwrap();
        if let EventKind::Restarted { backoff, .. } = event.kind
            && backoff > secs(4)
        {
            break backoff;
        }
    };
    let before = kit.now();
    kit.shutdown().await.unwrap();
    let took = kit.now().since(before);
    assert!(
        took < secs(1),
        "{took:?}, and it would have waited {waits:?}"
    );
    assert_eq!(stops.load(Ordering::SeqCst), 1);
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

#[agent(state = Count, durable)]
struct Keeper;

#[agent]
impl Keeper {
    #[on("keep")]
    async fn keep(&mut self, ctx: &mut Context<Self>) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ctx.update_state(|count| count.value += 1);
    }

    #[on("value")]
    async fn value(&self, ctx: &Context<Self>) -> u32 {
        ctx.state().value
    }
}

#[tokio::test]
async fn a_shutdown_on_an_engine_that_fails_ends_and_loses_nothing() {
    for fault in [Fault::Errors, Fault::Reads, Fault::Slow(secs(3))] {
        let memory = MemoryEngine::new();
        let engine = FaultyEngine::new(memory.clone());
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let keeper = kit.spawn(Keeper).await.unwrap();
        for _ in 0..3 {
            keeper.keep().tell().await.unwrap();
        }
        engine.suffer(fault);
        kit.advance(Duration::from_millis(100)).await;
        let before = kit.now();
        let _ = kit.shutdown().await;
        let took = kit.now().since(before);
        assert!(took < secs(20), "{fault:?} took {took:?}");
        let next = TestKit::builder().engine(memory).start().await;
        let keeper = next.spawn(Keeper).await.unwrap();
        next.advance(secs(30)).await;
        assert_eq!(keeper.value().await.unwrap(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn two_shutdowns_at_once_end_together() {
    let kit = TestKit::start().await;
    let keeper = kit.spawn(Keeper).await.unwrap();
    let kept = tokio::spawn(keeper.keep().into_future());
    kit.advance(Duration::from_millis(100)).await;
    let before = kit.now();
    let runtime = kit.runtime().clone();
    let first = tokio::spawn(async move { runtime.shutdown().await });
    kit.advance(Duration::from_millis(100)).await;
    kit.shutdown().await.unwrap();
    assert!(first.is_finished(), "neither ends before the other");
    let took = kit.now().since(before);
    assert!(took >= Duration::from_millis(400), "{took:?}");
    first.await.unwrap().unwrap();
    kept.await.unwrap().unwrap();
}

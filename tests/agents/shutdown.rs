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

/// Ends things from inside its own handlers.
#[agent(state = Count, durable)]
struct Ender {
    end: End,
}

type End = Arc<dyn Fn() -> Ending + Send + Sync>;
type Ending = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[agent]
impl Ender {
    #[on("end")]
    async fn end(&mut self, ctx: &mut Context<Self>) -> Result<u32> {
        ctx.update_state(|count| count.value += 1);
        ctx.tell("keeper", "keep", &()).await?;
        (self.end)().await?;
        ctx.tell("keeper", "keep", &()).await?;
        Ok(ctx.state().value)
    }

    #[on("end.shared")]
    async fn end_shared(&self, ctx: &Context<Self>) -> Result<u32> {
        ctx.update_state(|count| count.value += 1);
        ctx.tell("keeper", "keep", &()).await?;
        (self.end)().await?;
        ctx.tell("keeper", "keep", &()).await?;
        Ok(ctx.state().value)
    }

    #[on("value")]
    async fn value(&self, ctx: &Context<Self>) -> u32 {
        ctx.state().value
    }
}

/// Spawns an [`Ender`] as its child.
#[agent]
struct Above {
    end: End,
}

#[agent]
impl Above {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let end = Arc::clone(&self.end);
        ctx.spawn(Ender { end }).await?;
        Ok(())
    }
}

/// What an agent calls to end itself and others.
fn ending<F>(kit: &TestKit, end: impl Fn(Runtime) -> F + Send + Sync + 'static) -> End
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let runtime = kit.runtime().clone();
    Arc::new(move || Box::pin(end(runtime.clone())))
}

#[tokio::test]
async fn a_handler_that_shuts_its_runtime_down_loses_nothing() {
    for is_shared in [false, true] {
        let engine = MemoryEngine::new();
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        kit.spawn(Keeper).await.unwrap();
        let end = ending(&kit, |runtime| async move { runtime.shutdown().await });
        let ender = kit.spawn(Ender { end }).await.unwrap();
        let before = kit.now();
        let ended = match is_shared {
            false => ender.end().await,
            true => ender.end_shared().await,
        };
        assert_eq!(ended.unwrap(), 1, "its message settles");
        kit.shutdown().await.unwrap();
        let took = kit.now().since(before);
        assert!(took < secs(2), "{took:?}: nobody waits for itself");

        let next = TestKit::builder().engine(engine).start().await;
        let keeper = next.spawn(Keeper).await.unwrap();
        let end = ending(&next, |_| async { Ok(()) });
        let ender = next.spawn(Ender { end }).await.unwrap();
        next.advance(secs(30)).await;
        assert_eq!(ender.value().await.unwrap(), 1, "it ran once");
        assert_eq!(keeper.value().await.unwrap(), 2, "what it sent arrived");
    }
}

#[tokio::test]
async fn an_agent_stops_and_removes_itself_and_its_parent_from_its_own_handler() {
    let ends: [fn(Runtime) -> Ending; 5] = [
        |runtime| Box::pin(async move { runtime.stop("ender").await }),
        |runtime| Box::pin(async move { runtime.agent("ender")?.stop().await }),
        |runtime| Box::pin(async move { runtime.stop("above").await }),
        |runtime| Box::pin(async move { runtime.remove("above").await }),
        |runtime| Box::pin(async move { runtime.remove_with_data("ender").await }),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let kit = TestKit::start().await;
        let keeper = kit.spawn(Keeper).await.unwrap();
        let end = ending(&kit, end);
        kit.spawn(Above { end }).await.unwrap();
        let ender = EnderRef::attach(kit.runtime(), "ender").unwrap();
        let before = kit.now();
        assert_eq!(ender.end().await.unwrap(), 1, "end {number}");
        let took = kit.now().since(before);
        assert!(took < secs(1), "end {number} took {took:?}");
        kit.advance(secs(2)).await;
        assert!(ender.value().await.is_err(), "end {number}: it has ended");
        assert_eq!(keeper.value().await.unwrap(), 2, "end {number}");
    }
}

#[tokio::test]
async fn an_agent_that_removes_itself_with_its_data_leaves_nothing() {
    let kit = TestKit::start().await;
    let end = ending(&kit, |runtime| async move {
        runtime.remove_with_data("ender").await
    });
    let agent = || Ender {
        end: Arc::clone(&end),
    };
    kit.spawn(agent()).await.unwrap().end().await.unwrap();
    kit.advance(secs(1)).await;
    let ender = kit.spawn(agent()).await.unwrap();
    assert_eq!(ender.value().await.unwrap(), 0);
}

#[tokio::test]
async fn a_handler_that_stops_another_agent_waits_for_its_end() {
    let kit = TestKit::start().await;
    let keeper = kit.spawn(Keeper).await.unwrap();
    let end = ending(&kit, |runtime| async move {
        runtime.stop("keeper").await?;
        assert!(
            runtime
                .agent("keeper")?
                .ask::<u32>("value", &())
                .await
                .is_err()
        );
        Ok(())
    });
    let ender = kit.spawn(Ender { end }).await.unwrap();
    keeper.keep().tell().await.unwrap();
    kit.advance(Duration::from_millis(100)).await;
    let before = kit.now();
    assert_eq!(ender.end().await.unwrap(), 1);
    let took = kit.now().since(before);
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn a_handler_that_shuts_another_runtime_down_waits_for_its_end() {
    let other = TestKit::start().await;
    let keeper = other.spawn(Keeper).await.unwrap();
    keeper.keep().tell().await.unwrap();
    other.advance(Duration::from_millis(100)).await;
    let kit = TestKit::start().await;
    let end = ending(&other, |runtime| async move { runtime.shutdown().await });
    let ender = kit.spawn(Ender { end }).await.unwrap();
    let before = kit.now();
    assert_eq!(ender.end().await.unwrap(), 1);
    let took = kit.now().since(before);
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

/// Shuts its runtime down at a turn of its life.
#[agent]
struct Brief {
    runtime: Runtime,
    as_it_stops: bool,
}

#[agent]
impl Brief {
    #[on_start]
    async fn starting(&mut self) -> Result<()> {
        match self.as_it_stops {
            true => Ok(()),
            false => self.runtime.shutdown().await,
        }
    }

    #[on_stop]
    async fn stopping(&mut self) -> Result<()> {
        self.runtime.shutdown().await
    }
}

#[tokio::test]
async fn an_agent_may_shut_its_runtime_down_as_it_starts_or_stops() {
    for as_it_stops in [false, true] {
        let kit = TestKit::start().await;
        let runtime = kit.runtime().clone();
        let brief = Brief {
            runtime,
            as_it_stops,
        };
        let before = kit.now();
        match kit.spawn(brief).await {
            Ok(brief) => brief.stop().await.unwrap(),
            Err(error) => assert!(matches!(error, SpawnError::ShutDown), "{error}"),
        }
        kit.shutdown().await.unwrap();
        let took = kit.now().since(before);
        assert!(took < secs(1), "stops: {as_it_stops}, {took:?}");
    }
}

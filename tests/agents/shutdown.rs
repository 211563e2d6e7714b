//! The end of a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mas::prelude::*;
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
async fn a_child_whose_parent_is_gone_is_stopped_too() {
    for early in [false, true] {
        let kit = TestKit::start().await;
        let stops: Arc<AtomicU32> = Arc::default();
        let own = Arc::clone(&stops);
        let ancestor = kit.spawn(Ancestor { stops: own, early }).await.unwrap();
        kit.advance(secs(1)).await;
        if !early {
            ancestor.stop().await.unwrap();
            assert_eq!(stops.load(Ordering::SeqCst), 0);
        }
        kit.shutdown().await.unwrap();
        assert_eq!(stops.load(Ordering::SeqCst), 1, "early: {early}");
    }
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
    assert!(kit.now().since(before) < secs(20));
    spawning.abort();
}

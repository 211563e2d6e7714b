//! Agents that start agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mas::SpawnError;
use mas::prelude::*;

#[agent(id = "hand")]
struct Hand {
    holds: u32,
}

#[agent]
impl Hand {
    #[on("take")]
    async fn take(&mut self, more: u32) -> u32 {
        self.holds += more;
        self.holds
    }

    #[on("slip")]
    async fn slip(&mut self) {
        panic!("as asked");
    }

    #[on("which")]
    async fn which(&mut self, ctx: &mut Context<Self>) -> u32 {
        tokio::time::sleep(secs(1)).await;
        ctx.instance()
    }
}

#[agent(id = "body")]
struct Body {
    made: Arc<AtomicU32>,
}

#[agent]
impl Body {
    #[on("grow")]
    async fn grow(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let made = Arc::clone(&self.made);
        ctx.spawn_with(move || {
            made.fetch_add(1, Ordering::SeqCst);
            Hand { holds: 0 }
        })
        .await?;
        Ok(())
    }

    #[on("grow.many")]
    async fn grow_many(&mut self, count: usize, ctx: &mut Context<Self>) -> Result<String> {
        let made = Arc::clone(&self.made);
        let hands = ctx
            .spawn_pool("hands", count, move || {
                made.fetch_add(1, Ordering::SeqCst);
                Hand { holds: 0 }
            })
            .await;
        match hands {
            Ok(hands) => Ok(hands.id().to_string()),
            Err(SpawnError::PoolSize { instances, .. }) => Ok(format!("not {instances}")),
            Err(error) => Err(error.into()),
        }
    }
}

async fn kit() -> (TestKit, BodyRef, Arc<AtomicU32>) {
    let kit = TestKit::start().await;
    let made: Arc<AtomicU32> = Arc::default();
    let own = Arc::clone(&made);
    let body = kit.spawn(Body { made: own }).await.unwrap();
    (kit, body, made)
}

fn hand(kit: &TestKit, id: &str) -> HandRef {
    HandRef::attach(kit.runtime(), id).unwrap()
}

#[tokio::test]
async fn a_child_of_a_factory_is_a_fresh_one_after_a_panic() {
    let (kit, body, made) = kit().await;
    body.grow().await.unwrap();
    let hand = hand(&kit, "hand");
    assert_eq!(hand.take(3).await.unwrap(), 3);
    hand.slip().await.unwrap_err();
    assert_eq!(hand.take(1).await.unwrap(), 1);
    assert_eq!(made.load(Ordering::SeqCst), 2);
    body.stop().await.unwrap();
    assert!(hand.take(1).await.is_err(), "it stopped with its parent");
}

#[tokio::test]
async fn a_pool_may_be_a_child() {
    let (kit, body, made) = kit().await;
    assert_eq!(body.grow_many(3).await.unwrap(), "hands");
    let hands = hand(&kit, "hands");
    let before = kit.now();
    let asks = (0..3).map(|_| hands.which());
    let mut which: Vec<u32> = futures_util::future::join_all(asks)
        .await
        .into_iter()
        .map(|which| which.unwrap())
        .collect();
    which.sort_unstable();
    assert_eq!(which, [0, 1, 2]);
    assert!(kit.now().since(before) < secs(2), "side by side");
    hands.slip().await.unwrap_err();
    kit.advance(secs(1)).await;
    assert_eq!(made.load(Ordering::SeqCst), 4, "one was made anew");
    body.stop().await.unwrap();
    assert!(hands.which().await.is_err(), "it stopped with its parent");
}

#[tokio::test]
async fn a_pool_of_none_is_refused() {
    let (_kit, body, made) = kit().await;
    assert_eq!(body.grow_many(0).await.unwrap(), "not 0");
    assert_eq!(made.load(Ordering::SeqCst), 0);
}

/// A family of three generations: `elder` has `left` and `right`, and `right` has `grandchild`.
#[agent(strategy = "one_for_all")]
struct Elder {
    log: Log,
}

type Log = Arc<std::sync::Mutex<Vec<String>>>;

#[agent]
impl Elder {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        for (name, child) in [("left", None), ("right", Some("grandchild"))] {
            let log = Arc::clone(&self.log);
            ctx.spawn_as(name, Relative { log, child }).await?;
        }
        Ok(())
    }
}

#[agent]
struct Relative {
    log: Log,
    child: Option<&'static str>,
}

impl Relative {
    fn log(&self, ctx: &Context<Self>, what: &str) {
        let line = format!("{} {what}", ctx.id());
        self.log.lock().unwrap().push(line);
    }
}

#[agent]
impl Relative {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        self.log(ctx, "starts");
        if let Some(name) = self.child {
            let log = Arc::clone(&self.log);
            ctx.spawn_as(name, Self { log, child: None }).await?;
        }
        Ok(())
    }

    #[on_stop]
    async fn stopping(&mut self, ctx: &mut Context<Self>) {
        self.log(ctx, "stops");
    }

    #[on("adopt")]
    async fn adopt(&mut self, name: String, ctx: &mut Context<Self>) -> Result<()> {
        let log = Arc::clone(&self.log);
        ctx.spawn_as(name, Self { log, child: None }).await?;
        Ok(())
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("as asked");
    }
}

#[tokio::test]
async fn a_sibling_that_restarts_stops_its_own_children_first() {
    let kit = TestKit::start().await;
    let log = Log::default();
    let own = Arc::clone(&log);
    kit.spawn(Elder { log: own }).await.unwrap();
    let relative = |id| RelativeRef::attach(kit.runtime(), id).unwrap();
    relative("right").adopt("adopted".into()).await.unwrap();
    log.lock().unwrap().clear();
    relative("left").panic().await.unwrap_err();
    kit.advance(secs(10)).await;
    let own = |line: &&String| !line.starts_with("left");
    let seen: Vec<String> = log.lock().unwrap().iter().filter(own).cloned().collect();
    let want = [
        "adopted stops",
        "grandchild stops",
        "right starts",
        "grandchild starts",
    ];
    assert_eq!(seen, want);
    assert!(relative("adopted").panic().await.is_err_and(|error| {
        matches!(
            error,
            mas::AskError::Send(mas::SendError::UnknownAgent { .. })
        )
    }));
}

/// Three children, of which the later ones lean on the earlier.
#[agent(strategy = "rest_for_one")]
struct Tower {
    log: Log,
}

#[agent]
impl Tower {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        for name in ["ground", "middle", "top"] {
            let log = Arc::clone(&self.log);
            ctx.spawn_as(name, Relative { log, child: None }).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_child_that_crashes_restarts_those_that_came_after_it() {
    for (crashed, restarted) in [
        ("ground", &["ground", "middle", "top"][..]),
        ("middle", &["middle", "top"]),
        ("top", &["top"]),
    ] {
        let kit = TestKit::start().await;
        let log = Log::default();
        let own = Arc::clone(&log);
        kit.spawn(Tower { log: own }).await.unwrap();
        log.lock().unwrap().clear();
        let relative = RelativeRef::attach(kit.runtime(), crashed).unwrap();
        kit.crash(&relative);
        kit.advance(secs(10)).await;
        let mut seen = log.lock().unwrap().clone();
        seen.sort();
        let want: Vec<_> = restarted.iter().map(|id| format!("{id} starts")).collect();
        assert_eq!(seen, want, "{crashed} crashed");
    }
}

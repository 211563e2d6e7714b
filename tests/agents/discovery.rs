//! Who is found, and who hears of whose end, when agents crash.

use std::time::Duration;

use mas::prelude::*;
use mas::{AgentRecord, AgentStatus, Ended, EventKind, Query};

#[agent(id = "finder", capabilities = ["find"], timeout = "1000s", max_restarts = 2)]
struct Finder;

#[agent]
impl Finder {
    #[on("hang")]
    async fn hang(&mut self) {
        std::future::pending::<()>().await;
    }

    #[on("ping")]
    async fn ping(&mut self) {}

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("as asked");
    }
}

async fn kit() -> TestKit {
    let builder = TestKit::builder();
    let often = |builder: mas::Builder| builder.heartbeat(secs(10), secs(20));
    builder.configure(often).start().await
}

async fn found(kit: &TestKit) -> Vec<AgentRecord> {
    kit.discover(["find"]).await.unwrap()
}

async fn all(kit: &TestKit) -> Vec<AgentRecord> {
    let query = Query::all(["find"]).also_inactive();
    kit.discover(query).await.unwrap()
}

#[tokio::test]
async fn a_crashed_agent_is_found_again() {
    let kit = kit().await;
    let finder = kit.spawn(Finder).await.unwrap();
    kit.crash(&finder);
    finder.ping().await.unwrap();
    kit.advance(secs(60)).await;
    let found = found(&kit).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].status, AgentStatus::Active);
}

#[tokio::test]
async fn a_lapsed_lease_is_inactive_until_a_crash_frees_the_agent() {
    let kit = kit().await;
    let mut events = kit.events();
    let finder = kit.spawn(Finder).await.unwrap();
    finder.hang().tell().await.unwrap();
    kit.advance(Duration::from_millis(1)).await;
    finder.ping().tell().await.unwrap();
    kit.advance(secs(60)).await;
    assert!(found(&kit).await.is_empty());
    assert_eq!(all(&kit).await[0].status, AgentStatus::Inactive);
    let lapsed = std::iter::from_fn(|| events.try_next())
        .filter(|event| matches!(event.kind, EventKind::Inactive { .. }));
    assert_eq!(lapsed.count(), 1);
    kit.crash(&finder);
    finder.ping().await.unwrap();
    kit.advance(secs(10)).await;
    assert_eq!(found(&kit).await[0].status, AgentStatus::Active);
}

#[tokio::test]
async fn an_agent_that_stopped_or_failed_is_gone() {
    let kit = kit().await;
    let finder = kit.spawn(Finder).await.unwrap();
    finder.stop().await.unwrap();
    assert!(all(&kit).await.is_empty(), "stopped");
    let finder = kit.spawn(Finder).await.unwrap();
    for _ in 0..3 {
        let _ = finder.panic().await;
    }
    kit.advance(secs(10)).await;
    assert!(all(&kit).await.is_empty(), "failed");
}

/// Watches as it is told, and says what it heard.
#[agent]
struct Watcher;

#[agent]
impl Watcher {
    #[on("watch")]
    async fn watch(&mut self, agent: String, ctx: &mut Context<Self>) -> Result<()> {
        ctx.watch(agent).await
    }

    #[on("agent.ended")]
    async fn ended(&mut self, ended: Ended, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ended", &ended).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_watcher_hears_why_an_agent_failed() {
    let kit = kit().await;
    let log = kit.probe("log").await.unwrap();
    let finder = kit.spawn(Finder).await.unwrap();
    let watcher = kit.spawn(Watcher).await.unwrap();
    watcher.watch("finder".into()).await.unwrap();
    for _ in 0..3 {
        let _ = finder.panic().await;
    }
    let ended: Ended = log.next("ended").await.unwrap();
    assert!(ended.failed);
    assert!(
        ended
            .reason
            .as_deref()
            .is_some_and(|why| why.contains("as asked")),
        "{ended:?}"
    );
    kit.advance(secs(10)).await;
    assert_eq!(log.count(), 1, "once");
}

#[tokio::test]
async fn a_watcher_that_crashes_keeps_its_watch() {
    let kit = kit().await;
    let log = kit.probe("log").await.unwrap();
    let finder = kit.spawn(Finder).await.unwrap();
    let watcher = kit.spawn(Watcher).await.unwrap();
    watcher.watch("finder".into()).await.unwrap();
    kit.crash(&watcher);
    finder.stop().await.unwrap();
    let ended: Ended = log.next("ended").await.unwrap();
    assert_eq!((ended.agent.as_str(), ended.failed), ("finder", false));
}

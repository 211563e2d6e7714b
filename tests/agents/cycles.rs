//! Agents that wait for each other, and chains of messages that never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mas::prelude::*;
use mas::{AskError, SendError};

#[agent]
struct Node;

#[agent]
impl Node {
    #[on("chain")]
    async fn chain(&mut self, mut path: Vec<String>, ctx: &mut Context<Self>) -> Result<String> {
        if path.is_empty() {
            return Ok("end".into());
        }
        let next = path.remove(0);
        Ok(ctx.ask(next, "chain", &path).await?)
    }

    #[on("chain.shared")]
    async fn chain_shared(&self, mut path: Vec<String>, ctx: &Context<Self>) -> Result<String> {
        if path.is_empty() {
            return Ok("end".into());
        }
        let next = path.remove(0);
        Ok(ctx.ask(next, "chain.shared", &path).await?)
    }

    #[on("loop")]
    async fn endless(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell(ctx.id(), "loop", &()).await?;
        Ok(())
    }

    #[on("hops")]
    async fn hops(&mut self, ctx: &mut Context<Self>) -> Result<u8> {
        Ok(ctx.meta().hops)
    }

    #[on("flood")]
    async fn flood(&mut self, count: u32, ctx: &mut Context<Self>) -> Result<u32> {
        for sent in 0..count {
            match ctx.tell("sink", "drop", &sent).await {
                Ok(()) => {}
                Err(SendError::BudgetSpent) => return Ok(sent),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    #[on("drop")]
    async fn take(&self, _number: u32) {}
}

async fn kit(ids: &[&str]) -> TestKit {
    let kit = TestKit::start().await;
    for id in ids {
        kit.spawn_as(id, Node).await.unwrap();
    }
    kit
}

fn path(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn an_agent_that_asks_itself_is_told_at_once() {
    let kit = kit(&["a"]).await;
    let before = kit.now();
    let error = kit
        .agent("a")
        .unwrap()
        .ask::<String>("chain", &path(&["a"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a -> a"), "{error}");
    assert_eq!(kit.now(), before, "no time passed");
}

#[tokio::test]
async fn a_circle_of_three_is_told_with_its_path() {
    let kit = kit(&["a", "b", "c"]).await;
    let error = kit
        .agent("a")
        .unwrap()
        .ask::<String>("chain", &path(&["b", "c", "a"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("c -> a -> b -> c"), "{error}");
    let fine: String = kit
        .agent("a")
        .unwrap()
        .ask("chain", &path(&["b", "c"]))
        .await
        .unwrap();
    assert_eq!(fine, "end");
}

#[tokio::test]
async fn handlers_side_by_side_may_ask_in_a_circle() {
    let kit = kit(&["a", "b"]).await;
    let end: String = kit
        .agent("a")
        .unwrap()
        .ask("chain.shared", &path(&["b", "a", "b", "a"]))
        .await
        .unwrap();
    assert_eq!(end, "end");
}

#[tokio::test]
async fn a_loop_of_messages_ends_by_its_hops() {
    let kit = kit(&["a"]).await;
    kit.agent("a").unwrap().tell("loop", &()).await.unwrap();
    kit.advance(secs(1)).await;
    let dispatched = kit
        .trace()
        .iter()
        .filter(|line| line.contains("dispatch 0 loop"))
        .count();
    assert_eq!(dispatched, 65, "the root message and 64 hops");
}

#[tokio::test]
async fn one_message_causes_no_more_than_its_budget() {
    let kit = kit(&["a", "sink"]).await;
    let sent: u32 = kit
        .agent("a")
        .unwrap()
        .ask("flood", &20_000_u32)
        .await
        .unwrap();
    assert_eq!(sent, 10_000);
}

#[tokio::test]
async fn a_ref_used_without_its_context_inherits_the_same() {
    #[agent]
    struct Holder {
        other: NodeRef,
    }

    #[agent]
    impl Holder {
        #[on("go")]
        async fn go(&mut self) -> Result<u8> {
            let other = self.other.clone();
            let spawned = tokio::spawn(other.hops());
            Ok(self.other.hops().await? + spawned.await??)
        }
    }

    let kit = kit(&["a"]).await;
    let other = NodeRef::attach(kit.runtime(), "a").unwrap();
    let holder = kit.spawn(Holder { other }).await.unwrap();
    assert_eq!(holder.go().await.unwrap(), 2, "one hop each");
    assert_eq!(
        NodeRef::attach(kit.runtime(), "a")
            .unwrap()
            .hops()
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_deadline_is_inherited() {
    #[agent]
    struct Relay;

    #[agent]
    impl Relay {
        #[on("left")]
        async fn left(&self, ctx: &Context<Self>) -> u64 {
            ctx.time_left().unwrap_or_default().as_secs()
        }

        #[on("relay")]
        async fn relay(&self, ctx: &Context<Self>) -> Result<u64> {
            Ok(ctx.ask("relay-2", "left", &()).await?)
        }
    }

    let kit = TestKit::start().await;
    let relay = kit.spawn(Relay).await.unwrap();
    kit.spawn_as("relay-2", Relay).await.unwrap();
    assert_eq!(relay.relay().timeout(secs(7)).await.unwrap(), 7);
    assert_eq!(relay.relay().await.unwrap(), 60);
    let error = kit.agent("relay-3").unwrap().ask::<u8>("left", &()).await;
    assert!(matches!(error, Err(AskError::Send(_))));
}

/// Waits, counts its runs, and passes on what it got.
#[agent(durable)]
struct Station {
    runs: Arc<AtomicU32>,
}

#[agent]
impl Station {
    #[on("pass")]
    async fn pass(&mut self, mut path: Vec<String>, ctx: &mut Context<Self>) -> Result<()> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(secs(2)).await;
        if !path.is_empty() {
            let next = path.remove(0);
            ctx.tell(next, "pass", &path).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_chain_through_a_crashed_agent_keeps_its_count() {
    let kit = TestKit::start().await;
    let end = kit.probe("end").await.unwrap();
    let runs: Arc<AtomicU32> = Arc::default();
    let mut stations = Vec::new();
    for id in ["one", "two", "three"] {
        let runs = Arc::clone(&runs);
        stations.push(kit.spawn_as(id, Station { runs }).await.unwrap());
    }
    let way = path(&["two", "three", "end"]);
    stations[0].pass(way).tell().await.unwrap();
    kit.advance(secs(3)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    kit.crash(&stations[1]);
    end.arrives(1).await;
    assert_eq!(runs.load(Ordering::SeqCst), 4, "one of them ran twice");
    assert_eq!(end.with(|seen| seen[0].meta.hops), 3);
}

/// Sends as much as it may; its first run fails.
#[agent(durable)]
struct Spender {
    runs: Arc<std::sync::Mutex<Vec<u32>>>,
}

#[agent]
impl Spender {
    #[on("split")]
    async fn split(&mut self, ways: u32, ctx: &mut Context<Self>) -> Result<()> {
        for _ in 1..ways {
            ctx.tell("sink", "drop", &0_u32).await?;
        }
        ctx.tell(ctx.id(), "spend", &()).await?;
        Ok(())
    }

    #[on("spend")]
    async fn spend(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let mut sent = 0;
        while ctx.tell("sink", "take", &()).await.is_ok() {
            sent += 1;
        }
        let mut runs = self.runs.lock().unwrap();
        runs.push(sent);
        if runs.len() == 1 {
            return Err(Failure::retryable("once more").into());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_durable_handler_that_runs_again_spends_its_budget_once() {
    let kit = TestKit::start().await;
    let sink = kit.probe("sink").await.unwrap();
    let runs: Arc<std::sync::Mutex<Vec<u32>>> = Arc::default();
    let own = Arc::clone(&runs);
    let spender = kit.spawn(Spender { runs: own }).await.unwrap();
    spender.split(100).await.unwrap();
    kit.advance(secs(30)).await;
    // 10 000, less the 100 that were sent, split among these.
    assert_eq!(
        *runs.lock().unwrap(),
        [99, 99],
        "a rerun has what the first had"
    );
    let taken = sink.with(|seen| seen.iter().filter(|e| e.message_type == "take").count());
    assert_eq!(taken, 99, "and what the first sent is undone");
}

/// Asks back whoever is waiting for it.
#[agent]
struct Echo;

#[agent]
impl Echo {
    #[on("chain")]
    async fn chain(&mut self, path: Vec<String>, ctx: &mut Context<Self>) -> Result<String> {
        tokio::time::sleep(secs(10)).await;
        Ok(ctx.ask(&path[0], "chain", &Vec::<String>::new()).await?)
    }
}

#[tokio::test]
async fn a_waiter_that_crashed_is_in_no_circle() {
    for crashes in [false, true] {
        let kit = kit(&["a"]).await;
        let echo = kit.spawn(Echo).await.unwrap();
        let waiter = kit.agent("a").unwrap();
        let asked = waiter.ask::<String>("chain", &path(&["echo", "a"]));
        let asked = tokio::spawn(asked.into_future());
        kit.advance(secs(5)).await;
        if crashes {
            kit.crash(&waiter);
        }
        let traced = |kit: &TestKit, what: &str| {
            let trace = kit.trace();
            trace.iter().filter(|line| line.contains(what)).count()
        };
        kit.advance(secs(10)).await;
        assert!(asked.await.unwrap().is_err(), "crashes: {crashes}");
        // The second dispatch of `a` is that of the ask back.
        let asked_back = traced(&kit, "a dispatch 0 chain from echo");
        assert_eq!(asked_back, usize::from(crashes));
        echo.chain(path(&["a"])).await.unwrap();
    }
}

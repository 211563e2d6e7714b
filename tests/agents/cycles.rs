//! Agents that wait for each other, and chains of messages that never end.

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

//! The test kit itself: its clock, its probes and its faults.

use std::time::Duration;

use mas::AskError;
use mas::prelude::*;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Heard {
    all: Vec<u32>,
}

/// The same handlers for an agent that is durable and for one that is not.
macro_rules! hears {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("hear")]
            async fn hear(&mut self, number: u32, ctx: &mut Context<Self>) -> u32 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                ctx.update_state(|heard| heard.all.push(number));
                number
            }

            #[on("all")]
            async fn all(&self, ctx: &Context<Self>) -> Vec<u32> {
                ctx.state().all.clone()
            }

            #[on("pass")]
            async fn pass(&mut self, to: String, ctx: &mut Context<Self>) -> Result<()> {
                ctx.tell(to, "hear", &7_u32).await?;
                Ok(())
            }

            #[on("ask")]
            async fn ask_for(&mut self, to: String, ctx: &mut Context<Self>) -> Result<u32> {
                Ok(ctx.ask(to, "hear", &8_u32).timeout(secs(5)).await?)
            }
        }
    };
}

#[agent(state = Heard, durable, max_attempts = 1)]
struct Durable;

#[agent(state = Heard)]
struct Volatile;

hears!(Durable);
hears!(Volatile);

async fn kit() -> (TestKit, DurableRef, VolatileRef) {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    let volatile = kit.spawn(Volatile).await.unwrap();
    (kit, durable, volatile)
}

#[test]
fn a_runtime_of_several_threads_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let started = runtime.block_on(async { tokio::spawn(TestKit::start()).await });
    let panic = started.unwrap_err().into_panic();
    let said = panic.downcast_ref::<&str>().unwrap();
    assert!(said.contains("a runtime of several threads"), "{said}");
}

#[tokio::test]
async fn a_probe_that_waited_in_vain_reads_what_comes_later() {
    let kit = TestKit::start().await;
    let probe = kit.probe("probe").await.unwrap();
    assert!(probe.next::<u32>("number").await.is_err(), "nothing came");
    let cancelled = tokio::time::timeout(secs(1), probe.next::<u32>("number"));
    assert!(cancelled.await.is_err());
    for number in [1, 2] {
        probe.tell("number", &number).await.unwrap();
    }
    assert_eq!(probe.next::<u32>("number").await.unwrap(), 1);
    assert!(probe.next::<u32>("other").await.is_err(), "it is no other");
    probe.tell("number", &3).await.unwrap();
    assert_eq!(probe.next::<u32>("number").await.unwrap(), 3);
}

#[tokio::test]
async fn so_many_messages_to_mailboxes_are_dropped_and_none_to_inboxes() {
    let (kit, durable, volatile) = kit().await;
    kit.drop_next(2);
    durable.hear(1).await.unwrap();
    volatile.hear(1).tell().await.unwrap();
    let before = kit.now();
    let error = volatile.hear(2).timeout(secs(5)).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut { .. }), "{error:?}");
    assert!(
        kit.now().since(before) >= secs(5),
        "it waits for what is lost"
    );
    volatile.hear(3).await.unwrap();
    assert_eq!(volatile.all().await.unwrap(), [3]);
    assert_eq!(durable.all().await.unwrap(), [1]);
}

#[tokio::test]
async fn a_partition_loses_tells_and_asks_until_it_is_healed() {
    for to in ["durable", "volatile"] {
        let (kit, durable, volatile) = kit().await;
        let from = kit.spawn_as("from", Volatile).await.unwrap();
        kit.partition("from", to);
        from.pass(to.into()).await.unwrap();
        let before = kit.now();
        assert!(from.ask_for(to.into()).await.is_err(), "{to}");
        assert!(
            kit.now().since(before) >= secs(5),
            "{to}: it waits for what is lost"
        );
        let all = async || match to {
            "durable" => durable.all().await.unwrap(),
            _ => volatile.all().await.unwrap(),
        };
        assert!(all().await.is_empty(), "{to}: the program is on both sides");
        kit.heal();
        assert_eq!(from.ask_for(to.into()).await.unwrap(), 8);
        kit.advance(secs(5)).await;
        assert_eq!(all().await, [8], "{to}: what was lost stays lost");
    }
}

#[tokio::test]
async fn a_partition_loses_what_is_for_a_durable_agent_that_does_not_run() {
    let (kit, durable, volatile) = kit().await;
    durable.stop().await.unwrap();
    kit.partition("volatile", "durable");
    volatile.pass("durable".into()).await.unwrap();
    kit.heal();
    let durable = kit.spawn(Durable).await.unwrap();
    kit.advance(secs(1)).await;
    assert!(durable.all().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_durable_handler_sent_waits_for_the_end_of_a_partition() {
    let (kit, durable, volatile) = kit().await;
    let other = kit.spawn_as("other", Durable).await.unwrap();
    for to in ["other", "volatile"] {
        kit.partition("durable", to);
        durable.pass(to.into()).await.unwrap();
    }
    kit.advance(secs(30)).await;
    assert!(other.all().await.unwrap().is_empty());
    assert!(volatile.all().await.unwrap().is_empty());
    kit.heal();
    kit.advance(secs(5)).await;
    assert_eq!(other.all().await.unwrap(), [7]);
    assert_eq!(volatile.all().await.unwrap(), [7]);
}

#[tokio::test]
async fn a_reply_crosses_a_partition_that_began_after_its_ask() {
    let (kit, durable, volatile) = kit().await;
    for (from, to) in [("durable", "volatile"), ("volatile", "durable")] {
        let asked = match from {
            "durable" => tokio::spawn(durable.ask_for(to.into()).into_future()),
            _ => tokio::spawn(volatile.ask_for(to.into()).into_future()),
        };
        kit.advance(Duration::from_millis(50)).await;
        kit.partition(from, to);
        assert_eq!(asked.await.unwrap().unwrap(), 8, "{from}");
        kit.heal();
    }
}

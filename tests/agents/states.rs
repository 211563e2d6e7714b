//! State that is made the default again.

use mas::prelude::*;
use mas::store::MemoryEngine;

use crate::process::process;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

/// The same handlers for an agent that is durable and for one that only keeps its state.
macro_rules! counts {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("add")]
            async fn add(&mut self, ctx: &mut Context<Self>) -> u32 {
                ctx.update_state(|count| {
                    count.value += 1;
                    count.value
                })
            }

            #[on("reset")]
            async fn reset(&mut self, ctx: &mut Context<Self>) -> u32 {
                ctx.reset_state();
                ctx.state().value
            }

            #[on("reset.shared")]
            async fn reset_shared(&self, ctx: &Context<Self>) -> u32 {
                ctx.reset_state();
                ctx.state().value
            }

            #[on("reset.then.fail")]
            async fn reset_then_fail(&mut self, ctx: &mut Context<Self>) -> Result<()> {
                ctx.reset_state();
                Err(Failure::permanent("no").into())
            }

            #[on("reset.then.hang")]
            async fn reset_then_hang(&mut self, ctx: &mut Context<Self>) {
                ctx.reset_state();
                std::future::pending::<()>().await;
            }

            #[on("value")]
            async fn value(&self, ctx: &Context<Self>) -> u32 {
                ctx.state().value
            }
        }
    };
}

#[agent(state = Count, durable, max_attempts = 1)]
struct Durable;

#[agent(state = Count)]
struct Kept;

counts!(Durable);
counts!(Kept);

#[tokio::test]
async fn a_reset_makes_the_state_the_default() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    let kept = kit.spawn(Kept).await.unwrap();
    assert_eq!(
        (durable.add().await.unwrap(), kept.add().await.unwrap()),
        (1, 1)
    );
    assert_eq!(
        (durable.reset().await.unwrap(), kept.reset().await.unwrap()),
        (0, 0)
    );
    assert_eq!(
        (durable.add().await.unwrap(), kept.add().await.unwrap()),
        (1, 1)
    );
    assert_eq!(durable.reset_shared().await.unwrap(), 0);
    assert_eq!(kept.reset_shared().await.unwrap(), 0);
    assert_eq!(
        (durable.value().await.unwrap(), kept.value().await.unwrap()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_reset_is_undone_when_its_message_fails() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    let kept = kit.spawn(Kept).await.unwrap();
    durable.add().await.unwrap();
    kept.add().await.unwrap();
    assert!(durable.reset_then_fail().await.is_err());
    assert!(kept.reset_then_fail().await.is_err());
    assert_eq!(
        (durable.value().await.unwrap(), kept.value().await.unwrap()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_crash_undoes_a_reset_that_had_not_settled_and_no_other() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    let kept = kit.spawn(Kept).await.unwrap();
    durable.add().await.unwrap();
    kept.add().await.unwrap();
    let one = tokio::spawn(durable.reset_then_hang().into_future());
    let other = tokio::spawn(kept.reset_then_hang().into_future());
    kit.advance(secs(1)).await;
    kit.crash(&durable);
    kit.crash(&kept);
    assert!(one.await.unwrap().is_err() && other.await.unwrap().is_err());
    assert_eq!(
        (durable.value().await.unwrap(), kept.value().await.unwrap()),
        (1, 1)
    );
    durable.reset().await.unwrap();
    kept.reset().await.unwrap();
    kit.crash(&durable);
    kit.crash(&kept);
    assert_eq!(
        (durable.value().await.unwrap(), kept.value().await.unwrap()),
        (0, 0)
    );
}

#[test]
fn the_next_process_finds_the_state_as_it_was_reset() {
    let engine = MemoryEngine::new();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let durable = kit.spawn(Durable).await.unwrap();
        durable.add().await.unwrap();
        durable.add().await.unwrap();
        durable.reset().await.unwrap();
        durable.add().await.unwrap();
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let durable = kit.spawn(Durable).await.unwrap();
        assert_eq!(durable.value().await.unwrap(), 1);
    });
}

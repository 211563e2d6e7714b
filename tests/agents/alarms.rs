//! Timers of agents that crash, and of processes that are killed.

use std::time::Duration;

use mas::TimerHandle;
use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine, Probe};

use crate::process::process;

/// The same handlers for an agent that is durable and for one that is not.
macro_rules! rings {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("once")]
            async fn once(&mut self, seconds: u64, ctx: &mut Context<Self>) -> Result<()> {
                self.timer = Some(ctx.schedule(secs(seconds), "ring", &())?);
                Ok(())
            }

            #[on("often")]
            async fn often(&mut self, seconds: u64, ctx: &mut Context<Self>) -> Result<()> {
                self.timer = Some(ctx.every(secs(seconds), "ring", &())?);
                Ok(())
            }

            #[on("cancel")]
            async fn cancel(&mut self, ctx: &mut Context<Self>) -> bool {
                let timer = self.timer.as_ref();
                timer.is_some_and(|timer| ctx.cancel(timer))
            }

            #[on("cancel.then.fail")]
            async fn cancel_then_fail(&mut self, ctx: &mut Context<Self>) -> Result<()> {
                let timer = self.timer.as_ref();
                assert!(timer.is_some_and(|timer| ctx.cancel(timer)));
                Err(Failure::permanent("on second thoughts").into())
            }

            #[on("ring")]
            async fn ring(&mut self, ctx: &mut Context<Self>) -> Result<()> {
                ctx.tell("log", "rang", &ctx.now().since_origin().as_secs())
                    .await?;
                Ok(())
            }
        }
    };
}

#[agent(durable)]
struct Durable {
    timer: Option<TimerHandle>,
}

#[agent]
struct Volatile {
    timer: Option<TimerHandle>,
}

rings!(Durable);
rings!(Volatile);

/// When it rang, in seconds since the kit started.
fn rang(log: &Probe) -> Vec<u64> {
    let at = |envelope: &Envelope| envelope.payload.decode().unwrap();
    log.with(|seen| seen.iter().map(at).collect())
}

#[test]
fn a_timer_whose_process_is_killed_as_it_fires_fires_once() {
    for fault in [Fault::Errors, Fault::StoredThenError, Fault::Slow(secs(5))] {
        let memory = MemoryEngine::new();
        let before = process(async {
            let engine = FaultyEngine::new(memory.clone());
            let kit = TestKit::builder().engine(engine.clone()).start().await;
            let log = kit.probe("log").await.unwrap();
            let durable = kit.spawn(Durable { timer: None }).await.unwrap();
            durable.once(10).await.unwrap();
            kit.advance(secs(9)).await;
            engine.suffer(fault);
            kit.advance(secs(2)).await;
            log.count()
        });
        let after = process(async {
            let kit = TestKit::builder().engine(memory).start().await;
            let log = kit.probe("log").await.unwrap();
            kit.spawn(Durable { timer: None }).await.unwrap();
            kit.advance(secs(60)).await;
            log.count()
        });
        assert_eq!(before + after, 1, "{fault:?}");
    }
}

#[test]
fn a_timer_that_came_due_between_two_processes_fires_once() {
    let engine = MemoryEngine::new();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let durable = kit.spawn(Durable { timer: None }).await.unwrap();
        durable.once(10).await.unwrap();
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let log = kit.probe("log").await.unwrap();
        kit.advance(secs(30)).await;
        kit.spawn(Durable { timer: None }).await.unwrap();
        kit.advance(secs(60)).await;
        assert_eq!(rang(&log), [30], "at once");
    });
}

#[tokio::test]
async fn a_crash_does_not_move_a_rhythm() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let durable = kit.spawn(Durable { timer: None }).await.unwrap();
    durable.often(10).await.unwrap();
    kit.advance(secs(15)).await;
    kit.crash(&durable);
    kit.advance(secs(20)).await;
    assert_eq!(rang(&log), [10, 20, 30]);
    durable.cancel().await.unwrap();
    let volatile = kit.spawn(Volatile { timer: None }).await.unwrap();
    volatile.often(10).await.unwrap();
    kit.advance(secs(15)).await;
    kit.crash(&volatile);
    kit.advance(secs(10)).await;
    assert_eq!(rang(&log)[3..], [45, 55]);
}

#[tokio::test]
async fn what_was_cancelled_stays_cancelled_after_a_crash() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let durable = kit.spawn(Durable { timer: None }).await.unwrap();
    let volatile = kit.spawn(Volatile { timer: None }).await.unwrap();
    durable.often(10).await.unwrap();
    volatile.often(10).await.unwrap();
    assert!(durable.cancel().await.unwrap());
    assert!(volatile.cancel().await.unwrap());
    kit.crash(&durable);
    kit.crash(&volatile);
    kit.advance(secs(60)).await;
    assert!(!durable.cancel().await.unwrap(), "there is none");
    assert!(!volatile.cancel().await.unwrap(), "there is none");
    assert_eq!(log.count(), 0);
}

#[test]
fn what_was_cancelled_stays_cancelled_in_the_next_process() {
    let engine = MemoryEngine::new();
    process(async {
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let durable = kit.spawn(Durable { timer: None }).await.unwrap();
        durable.often(10).await.unwrap();
        kit.advance(Duration::from_secs(1)).await;
        assert!(durable.cancel().await.unwrap());
    });
    process(async {
        let kit = TestKit::builder().engine(engine).start().await;
        let log = kit.probe("log").await.unwrap();
        kit.spawn(Durable { timer: None }).await.unwrap();
        kit.advance(secs(60)).await;
        assert_eq!(log.count(), 0);
    });
}

#[tokio::test]
async fn a_durable_message_that_fails_cancels_nothing() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let durable = kit.spawn(Durable { timer: None }).await.unwrap();
    let volatile = kit.spawn(Volatile { timer: None }).await.unwrap();
    durable.once(10).await.unwrap();
    volatile.once(20).await.unwrap();
    assert!(durable.cancel_then_fail().await.is_err());
    assert!(volatile.cancel_then_fail().await.is_err());
    kit.advance(secs(60)).await;
    assert_eq!(
        rang(&log),
        [10],
        "one that is not durable has cancelled at once"
    );
}

//! Messages that an agent sends itself later.

use std::time::Duration;

use mas::TimerHandle;
use mas::prelude::*;
use mas::store::MemoryEngine;

#[agent(id = "clock")]
struct Clock {
    timer: Option<TimerHandle>,
}

#[agent]
impl Clock {
    #[on("once")]
    async fn once(&mut self, millis: u64, ctx: &mut Context<Self>) -> Result<()> {
        self.timer = Some(ctx.schedule(Duration::from_millis(millis), "tick", &1)?);
        Ok(())
    }

    #[on("often")]
    async fn often(&mut self, millis: u64, ctx: &mut Context<Self>) -> Result<()> {
        self.timer = Some(ctx.every(Duration::from_millis(millis), "tick", &2)?);
        Ok(())
    }

    #[on("cancel")]
    async fn cancel(&mut self, ctx: &mut Context<Self>) -> bool {
        self.timer.take().is_some_and(|timer| ctx.cancel(&timer))
    }

    #[on("tick")]
    async fn tick(&mut self, number: u8, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ticked", &number).await?;
        Ok(())
    }
}

#[agent(id = "durable-clock", durable)]
struct DurableClock;

#[agent]
impl DurableClock {
    #[on("once")]
    async fn once(&mut self, secs: u64, ctx: &mut Context<Self>) -> Result<()> {
        ctx.schedule(Duration::from_secs(secs), "tick", &1)?;
        Ok(())
    }

    #[on("often")]
    async fn often(&mut self, secs: u64, ctx: &mut Context<Self>) -> Result<()> {
        ctx.every(Duration::from_secs(secs), "tick", &2)?;
        Ok(())
    }

    #[on("once.then.error")]
    async fn once_then_error(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.schedule(Duration::from_secs(1), "tick", &3)?;
        Err(Failure::permanent("no").into())
    }

    #[on("tick")]
    async fn tick(&mut self, number: u8, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ticked", &number).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_timer_fires_once_at_its_time() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(Clock { timer: None }).await.unwrap();
    clock.once(5_000).await.unwrap();
    kit.advance(Duration::from_millis(4_900)).await;
    assert_eq!(log.count(), 0);
    kit.advance(Duration::from_millis(200)).await;
    assert_eq!(log.count(), 1);
    kit.advance(secs(60)).await;
    assert_eq!(log.count(), 1);
}

#[tokio::test]
async fn a_periodic_timer_goes_on_until_it_is_cancelled() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(Clock { timer: None }).await.unwrap();
    clock.often(1_000).await.unwrap();
    kit.advance(Duration::from_millis(5_500)).await;
    assert_eq!(log.count(), 5);
    assert!(clock.cancel().await.unwrap());
    assert!(!clock.cancel().await.unwrap());
    kit.advance(secs(10)).await;
    assert_eq!(log.count(), 5);
}

#[tokio::test]
async fn timers_end_with_their_agent() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(Clock { timer: None }).await.unwrap();
    clock.often(1_000).await.unwrap();
    clock.stop().await.unwrap();
    kit.advance(secs(10)).await;
    assert_eq!(log.count(), 0);
}

#[tokio::test]
async fn a_durable_timer_survives_a_restart_of_the_process() {
    let engine = MemoryEngine::new();
    let first = TestKit::builder().engine(engine.clone()).start().await;
    first.probe("log").await.unwrap();
    let clock = first.spawn(DurableClock).await.unwrap();
    clock.once(30).await.unwrap();
    clock.often(20).await.unwrap();
    first.advance(secs(5)).await;
    first.shutdown().await.unwrap();

    // The second kit's wall clock begins where the first one's did.
    let second = TestKit::builder().engine(engine.clone()).start().await;
    let log = second.probe("log").await.unwrap();
    second.spawn(DurableClock).await.unwrap();
    second.advance(secs(31)).await;
    assert_eq!(log.count(), 2, "one each");
    second.advance(secs(20)).await;
    assert_eq!(log.count(), 3);
}

#[tokio::test]
async fn a_failed_message_starts_no_timer() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(DurableClock).await.unwrap();
    assert!(clock.once_then_error().await.is_err());
    kit.advance(secs(10)).await;
    assert_eq!(log.count(), 0);
}

#[tokio::test]
async fn a_timer_survives_a_crash_of_its_agent() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(Clock { timer: None }).await.unwrap();
    clock.once(5_000).await.unwrap();
    kit.crash(&clock);
    kit.advance(secs(6)).await;
    assert_eq!(log.count(), 1);
}

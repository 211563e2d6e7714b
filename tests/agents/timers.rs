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

/// Starts its timers on each start, as most agents do.
#[agent(id = "starter")]
struct Starter;

#[agent]
impl Starter {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.every(secs(10), "tick", &1)?;
        ctx.every(secs(10), "tick", &2)?;
        Ok(())
    }

    #[on("tick")]
    async fn tick(&mut self, number: u8, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ticked", &number).await?;
        Ok(())
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("in the middle");
    }

    #[on("unhandled")]
    async fn unhandled(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.schedule(secs(1), "tikc", &1)?;
        Ok(())
    }
}

#[agent(id = "durable-starter", durable)]
struct DurableStarter {
    period: u64,
    fails: bool,
}

#[agent]
impl DurableStarter {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.every(secs(self.period), "tick", &1)?;
        ctx.tell("log", "started", &0).await?;
        if self.fails {
            return Err(Failure::permanent("not today").into());
        }
        Ok(())
    }

    #[on("tick")]
    async fn tick(&mut self, number: u8, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ticked", &number).await?;
        Ok(())
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("in the middle");
    }
}

#[tokio::test]
async fn a_timer_of_on_start_is_the_same_one_after_a_restart() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let starter = kit.spawn(Starter).await.unwrap();
    for _ in 0..3 {
        assert!(starter.panic().await.is_err());
        kit.advance(secs(1)).await;
    }
    kit.advance(secs(8)).await;
    assert_eq!(log.count(), 2, "one tick of each, at its own time");
    kit.advance(secs(10)).await;
    assert_eq!(log.count(), 4);
}

#[tokio::test]
async fn a_durable_timer_of_on_start_is_the_same_one_in_the_next_process() {
    let engine = MemoryEngine::new();
    for round in 0..3_usize {
        let kit = TestKit::builder()
            .engine(engine.clone())
            .seed(round as u64)
            .start()
            .await;
        let log = kit.probe("log").await.unwrap();
        let (period, fails) = (10, false);
        let starter = kit.spawn(DurableStarter { period, fails }).await.unwrap();
        assert!(starter.panic().await.is_err());
        // Each kit's wall clock begins where the first one's did, and the timer goes on by it.
        let end = secs(10 * (round as u64 + 1)) + Duration::from_millis(500);
        kit.advance(end - kit.now().since_origin()).await;
        let ticks = log.with(|all| all.iter().filter(|e| e.message_type == "ticked").count());
        assert_eq!(ticks, 1, "round {round}");
        kit.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn another_period_takes_the_place_of_the_one_before() {
    let engine = MemoryEngine::new();
    for (seed, period) in [(1, 10), (2, 25)] {
        let kit = TestKit::builder()
            .engine(engine.clone())
            .seed(seed)
            .start()
            .await;
        let log = kit.probe("log").await.unwrap();
        let fails = false;
        kit.spawn(DurableStarter { period, fails }).await.unwrap();
        kit.advance(secs(51)).await;
        let ticks = log.with(|all| all.iter().filter(|e| e.message_type == "ticked").count());
        assert_eq!(ticks as u64, 50 / period);
        kit.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_durable_agent_that_does_not_start_sends_nothing() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let (period, fails) = (10, true);
    assert!(kit.spawn(DurableStarter { period, fails }).await.is_err());
    kit.advance(secs(60)).await;
    assert_eq!(log.count(), 0);
}

#[tokio::test]
async fn a_timer_for_a_message_type_that_nobody_handles_is_refused() {
    let kit = TestKit::start().await;
    let starter = kit.spawn(Starter).await.unwrap();
    let error = starter.unhandled().await.unwrap_err();
    assert!(
        error.to_string().contains("no handler for `tikc`"),
        "{error}"
    );
}

/// The next version of `durable-clock`, which has another handler.
#[agent(id = "durable-clock", durable)]
struct NextClock;

#[agent]
impl NextClock {
    #[on("tock")]
    async fn tock(&mut self) {}
}

#[tokio::test]
async fn a_stored_timer_that_nobody_handles_any_more_is_given_up_on() {
    let engine = MemoryEngine::new();
    let first = TestKit::builder().engine(engine.clone()).start().await;
    let clock = first.spawn(DurableClock).await.unwrap();
    clock.often(20).await.unwrap();
    first.shutdown().await.unwrap();

    let second = TestKit::builder().engine(engine.clone()).start().await;
    second.spawn(NextClock).await.unwrap();
    second.advance(secs(100)).await;
    let letters = second.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].reason.contains("no handler for `tick`"));
}

#[tokio::test]
async fn a_timer_that_the_engine_stores_but_calls_failed_fires_once() {
    let engine = mas::testkit::FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let log = kit.probe("log").await.unwrap();
    let clock = kit.spawn(DurableClock).await.unwrap();
    clock.once(10).await.unwrap();
    kit.advance(secs(9)).await;
    engine.suffer(mas::testkit::Fault::StoredThenError);
    kit.advance(secs(2)).await;
    engine.heal();
    kit.advance(secs(60)).await;
    assert_eq!(log.count(), 1);
}

//! One agent in a harness, with what it says to itself: timers, stops, messages.

use std::time::Duration;

use mas::TimerHandle;
use mas::prelude::*;
use mas::testkit::Timer;

#[agent]
struct Clock {
    timer: Option<TimerHandle>,
}

#[agent]
impl Clock {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        self.timer = Some(ctx.every(secs(3600), "chime", "on the hour")?);
        Ok(())
    }

    #[on("wake.me")]
    async fn wake_me(&mut self, minutes: u64, ctx: &mut Context<Self>) -> Result<()> {
        self.timer = Some(ctx.schedule(secs(minutes * 60), "ring", &minutes)?);
        Ok(())
    }

    #[on("change.its.mind")]
    async fn change(&mut self, ctx: &mut Context<Self>) -> Result<bool> {
        let timer = ctx.schedule(secs(1), "ring", &0)?;
        Ok(ctx.cancel(&timer))
    }

    #[on("never.mind")]
    async fn never_mind(&mut self, ctx: &mut Context<Self>) -> (bool, bool) {
        let timer = self.timer.take().unwrap();
        (ctx.cancel(&timer), ctx.cancel(&timer))
    }

    #[on("zero")]
    async fn zero(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.every(Duration::ZERO, "ring", &0)?;
        Ok(())
    }

    #[on("nudge")]
    async fn nudge(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        Ok(ctx.myself().tell("ring", &7_u64).await?)
    }

    #[on("quit")]
    async fn quit(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }

    #[on("chime")]
    async fn chime(&mut self, _text: String) {}

    #[on("ring")]
    async fn ring(&mut self, minutes: u64) -> u64 {
        minutes
    }
}

fn seen(timers: &[Timer]) -> Vec<(&str, Duration, Option<Duration>)> {
    let seen = |timer: &Timer| (timer.after(), timer.period());
    let of = |timer| {
        let (after, period) = seen(timer);
        (timer.message_type().as_str(), after, period)
    };
    timers.iter().map(of).collect()
}

#[tokio::test]
async fn a_handler_s_timers_are_shown_and_do_not_run() {
    let mut clock = Harness::new(Clock { timer: None });
    let outcome = clock.deliver("wake.me", &5_u64).await;
    outcome.reply::<()>().unwrap();
    assert_eq!(seen(&outcome.timers), [("ring", secs(300), None)]);
    assert_eq!(outcome.timers[0].payload::<u64>().unwrap(), 5);
    assert!(outcome.sent.is_empty());
    let outcome = clock.deliver("change.its.mind", &()).await;
    assert!(outcome.reply::<bool>().unwrap());
    assert!(outcome.timers.is_empty());
    assert_eq!(clock.timers().len(), 1);
    let outcome = clock.deliver("never.mind", &()).await;
    assert_eq!(outcome.reply::<(bool, bool)>().unwrap(), (true, false));
    assert!(clock.timers().is_empty());
    assert!(clock.deliver("zero", &()).await.failure().is_some());
}

#[tokio::test]
async fn timers_of_the_start_run_until_they_are_cancelled() {
    let mut clock = Harness::new(Clock { timer: None });
    clock.start().await.unwrap();
    let hour = secs(3600);
    assert_eq!(seen(&clock.timers()), [("chime", hour, Some(hour))]);
    assert!(clock.deliver("ring", &1_u64).await.timers.is_empty());
    clock.deliver("never.mind", &()).await;
    assert!(clock.timers().is_empty());
}

#[tokio::test]
async fn a_stop_is_shown_and_the_harness_goes_on() {
    let mut clock = Harness::new(Clock { timer: None });
    assert!(clock.deliver("quit", &()).await.stopped);
    let outcome = clock.deliver("ring", &3_u64).await;
    assert_eq!(
        (outcome.reply::<u64>().unwrap(), outcome.stopped),
        (3, false)
    );
}

#[tokio::test]
async fn a_message_to_itself_is_among_those_sent() {
    let mut clock = Harness::new(Clock { timer: None });
    let outcome = clock.deliver("nudge", &()).await;
    outcome.reply::<()>().unwrap();
    let sent = &outcome.sent[0];
    assert_eq!(
        (sent.target.as_str(), sent.message_type.as_str()),
        ("clock", "ring")
    );
    assert_eq!(sent.payload.decode::<u64>().unwrap(), 7);
}

#[agent(durable)]
struct Buyer {
    timer: Option<TimerHandle>,
}

#[agent]
impl Buyer {
    #[on("plan")]
    async fn plan(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        self.timer = Some(ctx.schedule(secs(1), "plan", &())?);
        Ok(())
    }

    #[on("buy")]
    async fn buy(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "buys", &()).await?;
        ctx.schedule(secs(2), "plan", &())?;
        if let Some(timer) = &self.timer {
            ctx.cancel(timer);
        }
        let price: u32 = ctx.ask("shop", "price", &()).await?;
        Err(Failure::permanent(format!("{price} is too much")).into())
    }
}

#[tokio::test]
async fn a_durable_handler_that_fails_has_sent_its_asks_only() {
    let mut buyer = Harness::new(Buyer { timer: None }).answers("shop", "price", &3_u32);
    buyer.deliver("plan", &()).await.reply::<()>().unwrap();
    let outcome = buyer.deliver("buy", &()).await;
    assert!(outcome.failure().unwrap().message.contains("3 is too much"));
    let sent: Vec<_> = outcome
        .sent
        .iter()
        .map(|sent| sent.target.as_str())
        .collect();
    assert_eq!(sent, ["shop"]);
    assert!(outcome.timers.is_empty());
    assert_eq!(seen(&buyer.timers()), [("plan", secs(1), None)]);
}

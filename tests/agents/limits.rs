//! One more than a limit allows, and more than a reply or a message may be.

use std::time::Duration;

use mas::model::PayloadError;
use mas::model::limits::{DEAD_LETTERS_MAX, INBOX_ENTRIES_MAX, OUTBOX_ENTRIES_MAX, TIMERS_MAX};
use mas::prelude::*;
use mas::{AgentRef, AskError, Error, FailureCode, RequestError, SendError};

/// The same handlers for an agent that is durable and for one that is not.
macro_rules! takes {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("take")]
            async fn take(&mut self, _text: String) {}

            #[on("hang")]
            async fn hang(&mut self) {
                std::future::pending::<()>().await;
            }

            #[on("reply")]
            async fn reply(&mut self, bytes: usize, ctx: &mut Context<Self>) -> Result<()> {
                ctx.reply(&"x".repeat(bytes))
            }

            #[on("schedule")]
            async fn schedule(&mut self, bytes: usize, ctx: &mut Context<Self>) -> Result<()> {
                ctx.schedule(secs(1), "take", &"x".repeat(bytes))?;
                Ok(())
            }

            #[on("schedule.many")]
            async fn schedule_many(&mut self, ctx: &mut Context<Self>) -> Result<bool> {
                for _ in 0..TIMERS_MAX {
                    ctx.schedule(secs(1_000), "take", "")?;
                }
                let one_more = ctx.schedule(secs(1_000), "take", "");
                let refused = one_more.err();
                let refused = refused.as_ref().and_then(Error::downcast_ref);
                let too_many = RequestError::TooManyTimers {
                    agent: ctx.id().clone(),
                    timers_max: TIMERS_MAX,
                };
                Ok(refused == Some(&too_many))
            }
        }
    };
}

#[agent(durable, timeout = "1000s")]
struct Durable;

#[agent]
struct Volatile;

takes!(Durable);
takes!(Volatile);

/// A kit whose payloads have at most 100 bytes.
async fn narrow_kit() -> (TestKit, DurableRef, VolatileRef) {
    let kit = TestKit::builder()
        .configure(|builder| builder.payload_bytes_max(100))
        .start()
        .await;
    let durable = kit.spawn(Durable).await.unwrap();
    let volatile = kit.spawn(Volatile).await.unwrap();
    (kit, durable, volatile)
}

fn is_too_large(error: &SendError) -> bool {
    matches!(
        error,
        SendError::Payload(PayloadError::TooLarge {
            bytes: 202,
            bytes_max: 100
        })
    )
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_by_every_way_of_sending() {
    let (kit, durable, volatile) = narrow_kit().await;
    let long = "x".repeat(200);
    let refs: [AgentRef; 2] = [durable.untyped(), volatile.untyped()];
    for agent in refs {
        let told = agent.tell("take", &long).await.unwrap_err();
        assert!(is_too_large(&told), "{told:?}");
        let asked = agent.ask::<()>("take", &long).await.unwrap_err();
        assert!(
            matches!(&asked, AskError::Send(e) if is_too_large(e)),
            "{asked:?}"
        );
    }
    let called = durable.take(long.clone()).await.unwrap_err();
    assert!(
        matches!(&called, AskError::Send(e) if is_too_large(e)),
        "{called:?}"
    );
    let told = durable.take(long.clone()).tell().await.unwrap_err();
    assert!(is_too_large(&told), "{told:?}");
    kit.subscribe("volatile", "take").unwrap();
    let published = kit.publish("take", &long).await.unwrap_err();
    assert!(is_too_large(&published), "{published:?}");
    assert!(kit.dead_letters().list(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_timer_whose_payload_is_over_the_limit_is_refused() {
    let (_kit, durable, volatile) = narrow_kit().await;
    for error in [
        durable.schedule(200).await.unwrap_err(),
        volatile.schedule(200).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("the limit is 100"), "{error}");
    }
    durable.schedule(20).await.unwrap();
    volatile.schedule(20).await.unwrap();
}

#[tokio::test]
async fn a_reply_over_the_limit_fails_the_message_of_a_durable_agent() {
    let (_kit, durable, _) = narrow_kit().await;
    let error = durable.ask::<String>("reply", &200).await.unwrap_err();
    assert!(
        matches!(&error, AskError::Failed(f) if f.code == FailureCode::BAD_REPLY),
        "{error:?}"
    );
    assert!(error.to_string().contains("the limit is 100"), "{error}");
}

#[tokio::test]
async fn an_ask_of_an_unknown_message_type_lists_those_that_are_handled() {
    let (_kit, durable, volatile) = narrow_kit().await;
    let refs: [AgentRef; 2] = [durable.untyped(), volatile.untyped()];
    for agent in refs {
        let error = agent.ask::<()>("tkae", &()).await.unwrap_err();
        let AskError::Send(SendError::UnknownMessageType { handled, .. }) = &error else {
            panic!("{error:?}")
        };
        assert!(handled.contains(&"take".to_owned()), "{handled:?}");
        assert!(error.to_string().contains("`take`"), "{error}");
    }
}

/// Has others work for it, and answers itself.
#[agent]
struct Front;

#[agent]
impl Front {
    #[on("which")]
    async fn which(&mut self, ctx: &mut Context<Self>) -> Result<String> {
        ctx.tell("back", "which", &()).await?;
        tokio::time::sleep(secs(1)).await;
        Ok("front".to_owned())
    }
}

#[agent]
struct Back;

#[agent]
impl Back {
    #[on("which")]
    async fn which(&mut self, ctx: &mut Context<Self>) -> Result<String> {
        ctx.reply("back")?;
        ctx.tell(ctx.sender(), "which", &()).await?;
        Ok("back".to_owned())
    }
}

#[tokio::test]
async fn a_reply_counts_only_from_the_agent_that_was_asked() {
    let kit = TestKit::start().await;
    let front = kit.spawn(Front).await.unwrap();
    kit.spawn(Back).await.unwrap();
    assert_eq!(front.which().await.unwrap(), "front");
    assert_eq!(kit.late_replies(), 0);
}

#[tokio::test]
async fn one_entry_more_than_an_inbox_holds_is_refused_until_there_is_room() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    durable.hang().tell().await.unwrap();
    for _ in 1..INBOX_ENTRIES_MAX {
        durable.take(String::new()).tell().try_now().await.unwrap();
    }
    let error = durable
        .take(String::new())
        .tell()
        .try_now()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SendError::InboxFull { target, entries: INBOX_ENTRIES_MAX } if *target == "durable"),
        "{error:?}"
    );
    let waits = tokio::spawn(durable.take(String::new()).tell().into_future());
    kit.advance(secs(1)).await;
    assert!(!waits.is_finished(), "it waits for room");
    kit.remove("durable").await.unwrap();
    assert!(waits.await.unwrap().is_err());
    let error = kit.agent("durable").unwrap().tell("take", "").await;
    // It is known no more: what is in its inbox stays, and no more comes in.
    error.unwrap();
    assert_eq!(kit.dead_letters().list(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_entry_more_than_the_inbox_of_a_stopped_agent_holds_is_refused() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    durable.stop().await.unwrap();
    for _ in 0..INBOX_ENTRIES_MAX {
        durable.take(String::new()).tell().await.unwrap();
    }
    let error = durable.take(String::new()).tell().await.unwrap_err();
    assert!(matches!(error, SendError::InboxFull { .. }), "{error:?}");
    kit.remove_with_data("durable").await.unwrap();
    kit.spawn(Durable).await.unwrap().stop().await.unwrap();
    durable.take(String::new()).tell().await.unwrap();
}

#[agent(id = "flooder", durable, timeout = "1000s")]
struct Flooder;

#[agent]
impl Flooder {
    /// Sends to nobody as long as its outbox takes it, and says how often it did.
    #[on("flood")]
    async fn flood(&mut self, count: usize, ctx: &mut Context<Self>) -> Result<usize> {
        for sent in 0..count {
            match ctx.tell("nobody", "drop", &()).await {
                Ok(()) => {}
                Err(SendError::OutboxFull { .. }) => return Ok(sent),
                Err(other) => return Err(other.into()),
            }
        }
        Ok(count)
    }
}

#[tokio::test]
async fn one_handler_puts_no_more_into_an_outbox_than_there_is_room() {
    let kit = TestKit::start().await;
    let flooder = kit.spawn(Flooder).await.unwrap();
    let each = OUTBOX_ENTRIES_MAX / 11;
    let mut sent = 0;
    for _ in 0..11 {
        sent += flooder.flood(each).timeout(secs(1_000)).await.unwrap();
    }
    let left = OUTBOX_ENTRIES_MAX - sent;
    assert!(left < each, "there is room for a part of the next run");
    let last = flooder.flood(each).timeout(secs(1_000)).await.unwrap();
    assert_eq!(last, left);
}

#[tokio::test]
async fn one_timer_more_than_the_limit_is_refused() {
    let kit = TestKit::start().await;
    let durable = kit.spawn(Durable).await.unwrap();
    let volatile = kit.spawn(Volatile).await.unwrap();
    assert!(
        durable.schedule_many().await.unwrap(),
        "it says what is too many"
    );
    assert!(
        volatile.schedule_many().await.unwrap(),
        "it says what is too many"
    );
}

#[tokio::test]
async fn one_dead_letter_more_than_the_limit_puts_the_oldest_out() {
    let kit = TestKit::start().await;
    let ghost = kit.agent("ghost").unwrap();
    for number in 0..=DEAD_LETTERS_MAX {
        ghost.tell(&format!("n{number}"), &()).await.unwrap();
    }
    kit.advance(Duration::from_millis(1)).await;
    let letters = kit.dead_letters().list(DEAD_LETTERS_MAX * 2).await.unwrap();
    assert_eq!(letters.len(), DEAD_LETTERS_MAX);
    assert_eq!(letters[0].message_type, "n1");
}

//! Publish and subscribe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mas::prelude::*;
use mas::store::MemoryEngine;

use crate::process::process;

#[agent]
struct Reader;

#[agent]
impl Reader {
    #[on("follow")]
    async fn follow(&mut self, pattern: String, ctx: &mut Context<Self>) -> Result<()> {
        ctx.subscribe(pattern).await
    }

    #[on("leave")]
    async fn leave(&mut self, pattern: String, ctx: &mut Context<Self>) -> Result<bool> {
        ctx.unsubscribe(pattern).await
    }

    #[on_any]
    async fn any(&mut self, envelope: Envelope, ctx: &mut Context<Self>) -> Result<()> {
        let text: String = envelope.payload.decode()?;
        let line = format!("{} {} {text}", ctx.id(), envelope.message_type);
        ctx.tell("log", "read", &line).await?;
        Ok(())
    }
}

#[agent]
struct Press;

#[agent]
impl Press {
    #[on("print")]
    async fn print(&mut self, text: String, ctx: &mut Context<Self>) -> Result<usize> {
        Ok(ctx.publish("news.local", &text).await?)
    }
}

#[tokio::test]
async fn every_subscriber_gets_what_is_published_once() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let one = kit.spawn_as("one", Reader).await.unwrap();
    let two = kit.spawn_as("two", Reader).await.unwrap();
    one.follow("news.*".into()).await.unwrap();
    one.follow("news.sport".into()).await.unwrap();
    two.follow("news.sport".into()).await.unwrap();
    assert_eq!(kit.publish("news.sport", "goal").await.unwrap(), 2);
    assert_eq!(kit.publish("news.local", "rain").await.unwrap(), 1);
    assert_eq!(kit.publish("weather", "sun").await.unwrap(), 0);
    log.arrives(3).await;
    kit.advance(secs(1)).await;
    let mut lines: Vec<String> = log.with(|seen| {
        seen.iter()
            .map(|envelope| envelope.payload.decode().unwrap())
            .collect()
    });
    lines.sort();
    assert_eq!(
        lines,
        [
            "one news.local rain",
            "one news.sport goal",
            "two news.sport goal"
        ]
    );
}

#[tokio::test]
async fn an_agent_that_ended_or_left_gets_nothing() {
    let kit = TestKit::start().await;
    let reader = kit.spawn(Reader).await.unwrap();
    reader.follow("a.*".into()).await.unwrap();
    assert!(reader.leave("a.*".into()).await.unwrap());
    assert!(!reader.leave("a.*".into()).await.unwrap());
    assert_eq!(kit.publish("a.b", "x").await.unwrap(), 0);
    reader.follow("a.*".into()).await.unwrap();
    reader.stop().await.unwrap();
    assert_eq!(kit.publish("a.b", "x").await.unwrap(), 0);
}

#[tokio::test]
async fn agents_publish_too_and_bad_patterns_are_refused() {
    let kit = TestKit::start().await;
    kit.probe("log").await.unwrap();
    let reader = kit.spawn(Reader).await.unwrap();
    let press = kit.spawn(Press).await.unwrap();
    reader.follow("news.**".into()).await.unwrap();
    assert_eq!(press.print("hello".into()).await.unwrap(), 1);
    let error = reader.follow("a..b".into()).await.unwrap_err();
    assert!(error.to_string().contains("a word is empty"), "{error}");
}

#[tokio::test]
async fn a_slow_subscriber_keeps_nobody_else_waiting() {
    #[agent(id = "a-slow", mailbox = 1)]
    struct Slow;

    #[agent]
    impl Slow {
        #[on("stall")]
        async fn stall(&mut self) {
            tokio::time::sleep(secs(10)).await;
        }

        #[on("news.local")]
        async fn news(&mut self, _text: String) {}
    }

    let kit = TestKit::start().await;
    let slow = kit.spawn(Slow).await.unwrap();
    let fast = kit.probe("b-fast").await.unwrap();
    let press = kit.spawn(Press).await.unwrap();
    for agent in ["a-slow", "b-fast"] {
        kit.subscribe(agent, "news.*").unwrap();
    }
    slow.stall().tell().await.unwrap();
    kit.advance(secs(1)).await;
    slow.news("waits".into()).tell().await.unwrap();
    let runtime = kit.runtime().clone();
    let outside = tokio::spawn(async move { runtime.publish("news.local", "one").await });
    let inside = tokio::spawn(press.print("two".into()));
    kit.advance(secs(1)).await;
    assert_eq!(fast.count(), 2);
    assert!(!outside.is_finished() && !inside.is_finished());
    assert_eq!(outside.await.unwrap().unwrap(), 2);
    assert_eq!(inside.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn what_is_published_is_encoded_once() {
    #[derive(Default)]
    struct Counted(AtomicU32);

    impl Serialize for Counted {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            serializer.serialize_str("text")
        }
    }

    let kit = TestKit::start().await;
    let mut probes = Vec::new();
    for id in ["one", "two", "three"] {
        probes.push(kit.probe(id).await.unwrap());
        kit.subscribe(id, "news").unwrap();
    }
    let counted = Counted::default();
    assert_eq!(kit.publish("news", &counted).await.unwrap(), 3);
    assert_eq!(counted.0.load(Ordering::Relaxed), 1);
    for probe in probes {
        assert_eq!(probe.next::<String>("news").await.unwrap(), "text");
    }
}

#[tokio::test]
async fn a_subscriber_that_crashes_stays_subscribed() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let reader = kit.spawn(Reader).await.unwrap();
    reader.follow("news.*".into()).await.unwrap();
    kit.crash(&reader);
    assert_eq!(kit.publish("news.local", "rain").await.unwrap(), 1);
    let line: String = log.next("read").await.unwrap();
    assert_eq!(line, "reader news.local rain");
}

/// Fails or hangs after it has published, the first time.
#[agent(durable)]
struct DurablePress {
    runs: Arc<AtomicU32>,
}

#[agent]
impl DurablePress {
    #[on("print.then.fail")]
    async fn print_then_fail(&mut self, text: String, ctx: &mut Context<Self>) -> Result<()> {
        ctx.publish("news.local", &text).await?;
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(Failure::retryable("out of paper").into());
        }
        Ok(())
    }

    #[on("print.then.hang")]
    async fn print_then_hang(&mut self, text: String, ctx: &mut Context<Self>) -> Result<()> {
        ctx.publish("news.local", &text).await?;
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_durable_publisher_that_runs_again_publishes_once() {
    for hangs in [false, true] {
        let kit = TestKit::start().await;
        let reader = kit.probe("reader").await.unwrap();
        kit.subscribe("reader", "news.*").unwrap();
        let runs: Arc<AtomicU32> = Arc::default();
        let own = Arc::clone(&runs);
        let press = kit.spawn(DurablePress { runs: own }).await.unwrap();
        let printed = match hangs {
            true => press.print_then_hang("rain".into()),
            false => press.print_then_fail("rain".into()),
        };
        let printed = tokio::spawn(printed.into_future());
        kit.advance(secs(1)).await;
        if hangs {
            kit.crash(&press);
        }
        printed.await.unwrap().unwrap();
        kit.advance(secs(10)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2, "hangs: {hangs}");
        assert_eq!(reader.count(), 1, "hangs: {hangs}");
    }
}

/// Subscribes on each start, or when it is told to.
#[agent(durable)]
struct Subscriber {
    on_start: bool,
}

#[agent]
impl Subscriber {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        if self.on_start {
            ctx.subscribe("news.*").await?;
        }
        Ok(())
    }

    #[on("follow")]
    async fn follow(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.subscribe("news.*").await
    }

    #[on("news.local")]
    async fn news(&mut self, _text: String) {}
}

#[test]
fn a_subscription_ends_with_its_process_unless_on_start_makes_it() {
    for on_start in [false, true] {
        let engine = MemoryEngine::new();
        process(async {
            let kit = TestKit::builder().engine(engine.clone()).start().await;
            let subscriber = kit.spawn(Subscriber { on_start }).await.unwrap();
            subscriber.follow().await.unwrap();
            assert_eq!(kit.publish("news.local", "rain").await.unwrap(), 1);
        });
        process(async {
            let kit = TestKit::builder().engine(engine).start().await;
            kit.spawn(Subscriber { on_start }).await.unwrap();
            let subscribers = kit.publish("news.local", "rain").await.unwrap();
            assert_eq!(subscribers, usize::from(on_start));
        });
    }
}

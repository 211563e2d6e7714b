//! Publish and subscribe.

use mas::prelude::*;

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

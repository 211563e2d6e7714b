//! Publish and subscribe: a sender that does not know who listens.
//!
//! A topic is a message type: words joined by dots. A subscriber names a pattern: `*` is any one word, `**` at the end is
//! one or more.

use mas::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct News {
    headline: String,
}

/// Reads what its pattern lets through, and remembers the headlines.
#[agent]
struct Reader {
    pattern: &'static str,
    seen: Vec<String>,
}

#[agent]
impl Reader {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.subscribe(self.pattern).await
    }

    /// The topics are not known beforehand, so this takes whatever comes.
    #[on_any]
    async fn other(&mut self, news: News, ctx: &mut Context<Self>) {
        self.seen
            .push(format!("{} ({})", news.headline, ctx.message_type()));
    }

    #[on("reader.recall")]
    async fn recall(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    #[on("reader.leave")]
    async fn leave(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.unsubscribe(self.pattern).await?;
        Ok(())
    }
}

fn reader(pattern: &'static str) -> Reader {
    Reader {
        pattern,
        seen: Vec::new(),
    }
}

async fn publish(runtime: &Runtime, topic: &str, headline: &str) -> Result<()> {
    let news = News {
        headline: headline.to_owned(),
    };
    let readers = runtime.publish(topic, &news).await?;
    println!("{topic}: {headline}, to {readers}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = Runtime::builder().start().await?;
    let chess = runtime
        .spawn_as("chess", reader("news.sport.chess"))
        .await?;
    let sport = runtime.spawn_as("sport", reader("news.*.*")).await?;
    let all = runtime.spawn_as("all", reader("news.**")).await?;

    publish(&runtime, "news.sport.chess", "A draw").await?;
    publish(&runtime, "news.sport.tennis", "A tie-break").await?;
    publish(&runtime, "news.weather", "Rain").await?;
    publish(&runtime, "rumours.sport", "Nobody hears this").await?;

    // What was published is in their mailboxes; a question waits in line behind it.
    for reader in [&chess, &sport, &all] {
        println!("{}: {}", reader.id(), reader.recall().await?.join(", "));
    }

    all.leave().await?;
    publish(&runtime, "news.weather", "Sun").await?;

    runtime.shutdown().await
}

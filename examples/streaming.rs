//! Streaming: a reply that comes piece by piece.
//!
//! 1. The asker reads each piece as it comes.
//! 2. An error ends a stream, after the pieces before it.
//! 3. A slow asker slows the handler down: only a few pieces wait in between.
//! 4. An asker that drops the stream ends the handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mas::prelude::*;
use tokio::sync::Notify;
use tokio::time::sleep;

#[agent(id = "writer")]
struct Writer {
    /// How many numbers it has made. `main` looks at it, too.
    made: Arc<AtomicU64>,
    /// Rings when a stream of numbers has ended.
    ended: Arc<Notify>,
}

#[agent]
impl Writer {
    /// A handler that is not `async` and returns a stream answers by a stream.
    #[on("text.write")]
    fn write(&self, prompt: String) -> impl Stream<Item = String> {
        let answer = format!("You said {prompt} and I agree");
        let words: Vec<String> = answer.split(' ').map(str::to_owned).collect();
        stream::iter(words).then(|word| async {
            sleep(Duration::from_millis(20)).await;
            word
        })
    }

    /// Its items may be `Result`s.
    #[on("number.parse")]
    fn parse(&self, texts: Vec<String>) -> impl Stream<Item = Result<u32>> {
        stream::iter(texts).map(|text| Ok(text.parse()?))
    }

    /// Numbers without end.
    #[on("number.count")]
    fn count(&self) -> impl Stream<Item = u64> {
        let bell = RingsWhenDropped(Arc::clone(&self.ended));
        stream::repeat_with(move || {
            let _keep = &bell;
            self.made.fetch_add(1, Ordering::Relaxed)
        })
    }
}

struct RingsWhenDropped(Arc<Notify>);

impl Drop for RingsWhenDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = Runtime::builder().start().await?;
    let made = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(Notify::new());
    let writer = Writer {
        made: Arc::clone(&made),
        ended: Arc::clone(&ended),
    };
    let writer = runtime.spawn(writer).await?;

    println!("1. Each piece as it comes:");
    let mut words = writer.write("hello".to_owned()).await?;
    while let Some(word) = words.next().await {
        println!("   {}", word?);
    }

    println!("2. An error ends a stream:");
    let texts = ["1", "2", "three", "4"].map(str::to_owned).to_vec();
    let mut numbers = writer.parse(texts).await?;
    while let Some(number) = numbers.next().await {
        match number {
            Ok(number) => println!("   {number}"),
            Err(error) => println!("   error: {error}"),
        }
    }

    println!("3. A slow asker slows the handler down:");
    // By message type, as a program does that does not know the agent's Rust type.
    let mut numbers = writer.stream::<u64>("number.count", &()).await?;
    for _ in 0..3 {
        if let Some(number) = numbers.next().await {
            println!("   {}", number?);
        }
    }
    println!(
        "   3 taken, {} made: the handler waits",
        reaches(&made, MADE).await
    );

    println!("4. Dropping the stream ends the handler:");
    drop(numbers);
    ended.notified().await;
    println!("   ended");

    runtime.shutdown().await
}

/// What is made for three that are taken: 32 that wait in between, and one that finds no room.
const MADE: u64 = 3 + 32 + 1;

/// Waits until a number is this high, and gives what it is then.
async fn reaches(number: &AtomicU64, goal: u64) -> u64 {
    while number.load(Ordering::Relaxed) < goal {
        sleep(Duration::from_millis(1)).await;
    }
    number.load(Ordering::Relaxed)
}

//! Two agents: one counts words and remembers how many it has seen, the other asks it.
//!
//! Run it twice: the total goes on where the last run left it, because it is kept under `target/quickstart`.

use mas::prelude::*;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    texts: u64,
    words: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    words: u64,
    words_so_far: u64,
    texts_so_far: u64,
}

// ANCHOR: counter
/// Counts words; what it has counted is kept.
#[agent(id = "counter", capabilities = ["count.words"], state = Tally)]
struct Counter;

#[agent]
impl Counter {
    #[on("text.count")]
    async fn count(&mut self, text: String, ctx: &mut Context<Self>) -> Counted {
        let words = text.split_whitespace().count() as u64;
        ctx.update_state(|tally| {
            tally.texts += 1;
            tally.words += words;
            Counted {
                words,
                words_so_far: tally.words,
                texts_so_far: tally.texts,
            }
        })
    }
}
// ANCHOR_END: counter

// ANCHOR: reader
/// Finds somebody who can count words, and asks.
#[agent(id = "reader")]
struct Reader;

#[agent]
impl Reader {
    #[on("text.read")]
    async fn read(&self, text: String, ctx: &Context<Self>) -> Result<String> {
        let found = ctx.discover(["count.words"]).await?;
        let Some(counter) = found.first() else {
            return Err(Failure::permanent("nobody here counts words").into());
        };
        let counted: Counted = ctx.ask(&counter.id, "text.count", &text).await?;
        Ok(format!(
            "{} says: {} words; {} in all, with text number {}",
            counter.id, counted.words, counted.words_so_far, counted.texts_so_far
        ))
    }
}
// ANCHOR_END: reader

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<()> {
    let runtime = Runtime::builder()
        .data_dir("target/quickstart")
        .start()
        .await?;
    runtime.spawn(Counter).await?;
    let reader = runtime.spawn(Reader).await?;

    let answer = reader.read("the quick brown fox".to_owned()).await?;
    println!("{answer}");
    println!("Run it again: the counter goes on from here.");

    runtime.shutdown().await
}
// ANCHOR_END: main

//! Durability: a process that dies in the middle of its work loses nothing and does nothing twice.
//!
//! This program starts itself as a child, which takes five payments and dies while it handles the third. A second child
//! opens the same directory and goes on.

use std::path::Path;
use std::process::{Command, abort};
use std::sync::Arc;

use mas::prelude::*;
use tokio::sync::Notify;

const DATA: &str = "target/durable";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Ledger {
    payments: Vec<u32>,
}

// ANCHOR: teller
/// Books payments. Each takes effect exactly once, although its handler may run more often.
#[agent(id = "teller", state = Ledger, durable)]
struct Teller {
    /// In the first child: when to die.
    dies: Option<Arc<Notify>>,
}

#[agent]
impl Teller {
    #[on("payment.book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<()> {
        let dies = self.dies.as_ref().filter(|_| number == 3);
        if let Some(now) = dies {
            now.notified().await;
        }
        // What mas knows of (state, sends, the reply) happens once. It does not know of printing: that happens each time.
        println!("   the handler of payment {number} runs");
        ctx.update_state(|ledger| ledger.payments.push(number));
        ctx.tell("archive", "receipt.keep", &number).await?;
        if dies.is_some() {
            println!("   the process dies in the middle of it");
            abort();
        }
        Ok(())
    }

    #[on("ledger.show")]
    async fn show(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().payments.clone()
    }
}
// ANCHOR_END: teller

/// Keeps a receipt of each payment.
#[agent(id = "archive", state = Ledger, durable)]
struct Archive;

#[agent]
impl Archive {
    #[on("receipt.keep")]
    async fn keep(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|receipts| receipts.payments.push(number));
    }

    #[on("receipt.show")]
    async fn show(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().payments.clone()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("first") => first().await,
        Some("second") => second().await,
        _ => parent(),
    }
}

fn parent() -> Result<()> {
    if Path::new(DATA).exists() {
        std::fs::remove_dir_all(DATA)?;
    }
    for child in ["first", "second"] {
        println!("The {child} process");
        let ended = Command::new(std::env::current_exe()?).arg(child).status()?;
        println!(
            "   it ended {}",
            if ended.success() { "well" } else { "badly" }
        );
    }
    Ok(())
}

async fn first() -> Result<()> {
    let runtime = Runtime::builder().data_dir(DATA).start().await?;
    runtime.spawn(Archive).await?;
    let now = Arc::new(Notify::new());
    let dies = Some(Arc::clone(&now));
    let teller = runtime.spawn(Teller { dies }).await?;

    teller.book(1).await?;
    teller.book(2).await?;
    // Nobody waits for the answers of these three; each await ends when the message is on disk.
    teller.book(3).tell().await?;
    teller.book(4).tell().await?;
    teller.book(5).tell().await?;
    println!("   payments 1 and 2 are done; 3, 4 and 5 are accepted");
    now.notify_one();
    std::future::pending().await
}

async fn second() -> Result<()> {
    let runtime = Runtime::builder().data_dir(DATA).start().await?;
    let archive = runtime.spawn(Archive).await?;
    let teller = runtime.spawn(Teller { dies: None }).await?;

    // The questions wait in line behind what was left: they are answered when all of it is done.
    println!("   payments: {:?}", teller.show().await?);
    println!("   receipts: {:?}", archive.show().await?);
    runtime.shutdown().await
}

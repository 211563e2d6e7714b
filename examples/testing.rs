//! Testing: a test file to read.
//!
//! `cargo test -p mas-examples --example testing` runs it as tests; `cargo run --example testing` runs the same lessons one
//! after the other. In a test file of yours `#[cfg_attr(test, tokio::test)]` is plain `#[tokio::test]`.
//!
//! A `Harness` holds one agent and no runtime: for what a handler replies, keeps and sends. A `TestKit` is a runtime in
//! virtual time: for what agents do together, over time, and when something breaks.

use std::time::Duration;

use mas::prelude::*;
use mas::testkit::Probe;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stock {
    left: u32,
}

/// Sells what is in stock, and asks the bank first.
#[agent(id = "shop", state = Stock, durable)]
struct Shop;

#[agent]
impl Shop {
    #[on("item.buy")]
    async fn buy(&mut self, price: u32, ctx: &mut Context<Self>) -> Result<u32> {
        if ctx.state().left == 0 {
            return Err(Failure::permanent("sold out").into());
        }
        let paid: bool = ctx
            .ask("bank", "money.take", &price)
            .timeout(secs(5))
            .await?;
        if !paid {
            return Err(Failure::permanent("no money").into());
        }
        ctx.tell("auditor", "item.sold", &price).await?;
        Ok(ctx.update_state(|stock| {
            stock.left -= 1;
            stock.left
        }))
    }

    /// Reminds the auditor once an hour.
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.every(Duration::from_secs(3600), "stock.report", &())?;
        Ok(())
    }

    #[on("stock.report")]
    async fn report(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("auditor", "stock.left", &ctx.state().left).await?;
        Ok(())
    }

    #[on("stock.fill")]
    async fn fill(&mut self, items: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|stock| stock.left += items);
    }
}

/// Says yes after a while.
#[agent(id = "bank")]
struct Bank;

#[agent]
impl Bank {
    #[on("money.take")]
    async fn take(&self, amount: u32) -> bool {
        tokio::time::sleep(secs(2)).await;
        amount < 100
    }
}

// One agent alone: give it a state and a message, and look at what came of it.

// ANCHOR: harness
#[cfg_attr(test, tokio::test)]
async fn a_sale_takes_one_item_and_tells_the_auditor() -> Result<()> {
    let mut shop = Harness::new(Shop)
        .state(Stock { left: 3 })
        .answers("bank", "money.take", &true);
    let sale = shop.deliver("item.buy", &20).await;
    assert_eq!(sale.reply::<u32>()?, 2);
    assert_eq!(sale.state, Stock { left: 2 });
    let sent: Vec<&str> = sale.sent.iter().map(|e| e.message_type.as_str()).collect();
    assert_eq!(sent, ["money.take", "item.sold"]);
    Ok(())
}
// ANCHOR_END: harness

#[cfg_attr(test, tokio::test)]
async fn a_sale_without_money_changes_nothing() -> Result<()> {
    let mut shop =
        Harness::new(Shop)
            .state(Stock { left: 3 })
            .answers("bank", "money.take", &false);
    let sale = shop.deliver("item.buy", &20).await;
    assert!(sale.failure().is_some_and(|failure| !failure.retryable));
    assert_eq!(sale.state, Stock { left: 3 });
    assert!(sale.sent.iter().all(|e| e.message_type != "item.sold"));
    Ok(())
}

// Agents together, in virtual time: hours pass in no time, and a run is the same each time.

/// A shop with three items, a bank, and an auditor that records what it is told.
async fn open_shop(kit: &TestKit) -> Result<(ShopRef, Probe)> {
    kit.spawn(Bank).await?;
    let auditor = kit.probe("auditor").await?;
    let shop = kit.spawn(Shop).await?;
    shop.fill(3).await?;
    Ok((shop, auditor))
}

#[cfg_attr(test, tokio::test)]
async fn the_auditor_hears_of_the_stock_once_an_hour() -> Result<()> {
    let kit = TestKit::start().await;
    let (shop, auditor) = open_shop(&kit).await?;
    kit.advance(Duration::from_secs(2 * 3600 + 1)).await;
    shop.buy(20).await?;
    assert_eq!(auditor.next::<u32>("stock.left").await?, 3);
    assert_eq!(auditor.next::<u32>("stock.left").await?, 3);
    assert_eq!(auditor.next::<u32>("item.sold").await?, 20);
    assert_eq!(auditor.count(), 3);
    kit.shutdown().await
}

// ANCHOR: crash
#[cfg_attr(test, tokio::test)]
async fn a_crash_in_the_middle_of_a_sale_sells_one_item() -> Result<()> {
    let kit = TestKit::start().await;
    let (shop, auditor) = open_shop(&kit).await?;
    let sale = tokio::spawn(shop.buy(20));
    // The bank takes two seconds: after one the sale is under way.
    kit.advance(secs(1)).await;
    kit.crash(&shop);
    assert_eq!(sale.await??, 2);
    kit.advance(secs(60)).await;
    assert_eq!(
        auditor.count(),
        1,
        "one sale, although its handler ran twice"
    );
    kit.shutdown().await
}
// ANCHOR_END: crash

#[cfg_attr(test, tokio::test)]
async fn a_sale_waits_for_the_line_to_the_bank() -> Result<()> {
    let kit = TestKit::start().await;
    let (shop, _auditor) = open_shop(&kit).await?;
    kit.partition("shop", "bank");
    let sale = tokio::spawn(shop.buy(20));
    kit.advance(secs(8)).await;
    assert!(!sale.is_finished());
    kit.heal();
    assert_eq!(sale.await??, 2);
    kit.shutdown().await
}

#[cfg(not(test))]
fn main() -> Result<()> {
    run("a sale", a_sale_takes_one_item_and_tells_the_auditor())?;
    run("no money", a_sale_without_money_changes_nothing())?;
    run("hours", the_auditor_hears_of_the_stock_once_an_hour())?;
    run("a crash", a_crash_in_the_middle_of_a_sale_sells_one_item())?;
    run("a broken line", a_sale_waits_for_the_line_to_the_bank())
}

/// Runs a lesson as `#[tokio::test]` would: on one thread, in a tokio runtime of its own.
#[cfg(not(test))]
fn run(name: &str, lesson: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(lesson)?;
    println!("ok: {name}");
    Ok(())
}

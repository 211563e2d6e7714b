//! Supervision: what happens when an agent fails.
//!
//! 1. An error is an answer. The agent goes on.
//! 2. A panic restarts the agent. What waits in its mailbox is kept.
//! 3. An agent that fails too often is given up on. Its parent watches it and hears of it; everything else goes on.

use mas::prelude::*;
use mas::{Ended, EventKind};
use tokio::sync::oneshot;

/// A machine that jams. After two restarts within a minute it is given up on.
#[agent(id = "press", max_restarts = 2)]
struct Press;

#[agent]
impl Press {
    #[on("sheet.stamp")]
    async fn stamp(&mut self, sheet: String) -> Result<String> {
        match sheet.as_str() {
            "glass" => Err(Failure::permanent("glass can't be stamped").into()),
            "metal" => panic!("the press is jammed"),
            _ => Ok(format!("stamped {sheet}")),
        }
    }
}

/// Starts the press as its child, and wants to know when it ends.
#[agent(id = "workshop")]
struct Workshop {
    /// Tells `main` what it hears.
    heard: Option<oneshot::Sender<Ended>>,
}

#[agent]
impl Workshop {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.spawn(Press).await?;
        ctx.watch("press").await
    }

    #[on("agent.ended")]
    async fn ended(&mut self, ended: Ended) {
        if let Some(heard) = self.heard.take() {
            let _ = heard.send(ended);
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // The standard library prints each panic; here they are expected.
    std::panic::set_hook(Box::new(|_| {}));

    let runtime = Runtime::builder().start().await?;
    let mut events = runtime.events();
    let (tell, heard) = oneshot::channel();
    runtime.spawn(Workshop { heard: Some(tell) }).await?;
    let press = PressRef::attach(&runtime, "press")?;

    println!("1. An error is an answer.");
    show(press.stamp("paper".to_owned()).await);
    show(press.stamp("glass".to_owned()).await);
    show(press.stamp("paper".to_owned()).await);

    println!("2. A panic restarts the agent, and what waits is kept.");
    let jam = press.stamp("metal".to_owned());
    let behind = press.stamp("card".to_owned());
    let (jammed, stamped) = futures_util::join!(jam, behind);
    show(jammed);
    show(stamped);

    println!("3. An agent that fails too often is given up on.");
    show(press.stamp("metal".to_owned()).await);
    show(press.stamp("metal".to_owned()).await);
    let ended = heard.await?;
    println!(
        "   the workshop hears: `{}` has ended, failed: {}",
        ended.agent, ended.failed
    );
    show(press.stamp("paper".to_owned()).await);

    println!("What the runtime saw:");
    while let Some(event) = events.try_next() {
        match event.kind {
            EventKind::Started { agent } => println!("   {agent} started"),
            EventKind::Restarted { agent, reason, .. } => {
                println!("   {agent} restarted: {reason}")
            }
            EventKind::Failed { agent, reason, .. } => println!("   {agent} failed: {reason}"),
            _ => {}
        }
    }
    runtime.shutdown().await
}

fn show(answer: Result<String, mas::AskError>) {
    match answer {
        Ok(stamped) => println!("   {stamped}"),
        Err(error) => println!("   error: {error}"),
    }
}

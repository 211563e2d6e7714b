//! A pool: several instances of one agent share an id, its work and its state.
//!
//! 1. The instances work side by side.
//! 2. They share one state, and no update is lost.
//! 3. One that panics starts again, and the others go on meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use mas::prelude::*;
use tokio::sync::Barrier;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[agent(id = "worker", state = Tally, durable, max_attempts = 1)]
struct Worker {
    /// Opens when four jobs run at the same time.
    gate: Arc<Barrier>,
}

#[agent]
impl Worker {
    /// One instance does one job at a time, for the handler takes `&mut self`. So four jobs at once need four instances.
    #[on("job.together")]
    async fn together(&mut self, ctx: &mut Context<Self>) -> u32 {
        self.gate.wait().await;
        ctx.instance()
    }

    #[on("job.count")]
    async fn count(&mut self, ctx: &mut Context<Self>) -> u64 {
        ctx.update_state(|tally| {
            tally.done += 1;
            tally.done
        })
    }

    #[on("job.break")]
    async fn break_down(&mut self) {
        panic!("out of paper");
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // The standard library prints each panic; here one is expected.
    std::panic::set_hook(Box::new(|_| {}));

    let runtime = Runtime::builder().start().await?;
    let gate = Arc::new(Barrier::new(4));
    let make = move || Worker {
        gate: Arc::clone(&gate),
    };
    let pool = runtime.spawn_pool("worker", 4, make).await?;

    println!("1. Four jobs that wait for each other:");
    let instances = try_join_all((0..4).map(|_| pool.together())).await?;
    let instances: BTreeSet<u32> = instances.into_iter().collect();
    println!("   done, by the instances {instances:?}");

    println!("2. A hundred jobs that each add one to the state:");
    let counts = try_join_all((0..100).map(|_| pool.count())).await?;
    println!("   it is {}", counts.iter().max().unwrap_or(&0));

    println!("3. One job that breaks its instance, and five that do not:");
    let (broken, rest) = tokio::join!(pool.break_down(), join_all((0..5).map(|_| pool.count())));
    if let Err(error) = broken {
        println!("   error: {error}");
    }
    println!(
        "   {} of 5 others done",
        rest.iter().filter(|done| done.is_ok()).count()
    );

    runtime.shutdown().await
}

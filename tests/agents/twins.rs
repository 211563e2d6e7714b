//! Two entries of one message in a durable inbox, before a pool.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use mas::model::{AgentId, Priority};
use mas::prelude::*;
use mas::store::{Batch, Commit, Inbox, MemoryEngine, Op};
use mas::testkit::{Fault, FaultyEngine};
use tokio::sync::mpsc;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: Vec<u32>,
}

#[agent(id = "pool", state = Tally, durable)]
struct Worker {
    runs: mpsc::UnboundedSender<u32>,
    takes: Duration,
}

#[agent]
impl Worker {
    #[on("work")]
    async fn work(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<()> {
        tokio::time::sleep(self.takes).await;
        ctx.update_state(|tally| tally.done.push(number));
        self.runs.send(number)?;
        Ok(())
    }

    #[on("done")]
    async fn done(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

/// Leaves an inbox to the pool that holds the first of these numbers twice, as one message.
async fn leave_twins(runtime: &Runtime, engine: &FaultyEngine, numbers: &[u32]) {
    let (runs, _) = mpsc::unbounded_channel();
    let takes = Duration::ZERO;
    let make = move || Worker {
        runs: runs.clone(),
        takes,
    };
    let pool = runtime.spawn_pool("pool", 1, make).await.unwrap();
    pool.stop().await.unwrap();
    for number in numbers {
        pool.work(*number).tell().await.unwrap();
        if number == &numbers[0] {
            let agent = AgentId::new("pool").unwrap();
            let lane = Priority::Normal;
            let entry = engine.inbox_page(&agent, lane, 0, 1).await.unwrap();
            let (id, envelope) = (entry[0].id, entry[0].envelope.clone());
            let twin = Batch::new().inbox_append(agent, lane, id, envelope);
            engine.commit(twin).await.unwrap();
        }
    }
}

/// Holds off whoever begins with a message until another one begins with one.
#[derive(Default)]
struct Meeting {
    begun: Mutex<u32>,
    come: Condvar,
}

impl Meeting {
    fn join(&self) {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        self.come.notify_all();
        let enough = Duration::from_secs(10);
        let waited = self
            .come
            .wait_timeout_while(begun, enough, |begun| *begun < 2);
        assert!(!waited.unwrap().1.timed_out(), "nobody came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_that_find_one_message_in_the_same_instant_handle_it_once() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let runtime = Runtime::builder().engine(engine.clone()).start();
    let runtime = runtime.await.unwrap();
    leave_twins(&runtime, &engine, &[1, 2]).await;
    let meeting = Meeting::default();
    engine.on_commit(move |batch| {
        if matches!(batch.ops(), [Op::InboxClaim { .. }]) {
            tokio::task::block_in_place(|| meeting.join());
        }
    });
    let (runs, mut has_run) = mpsc::unbounded_channel();
    let takes = Duration::ZERO;
    let make = move || Worker {
        runs: runs.clone(),
        takes,
    };
    runtime.spawn_pool("pool", 2, make).await.unwrap();
    let mut first = [has_run.recv().await, has_run.recv().await];
    first.sort_unstable();
    assert_eq!(first, [Some(1), Some(2)]);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_whose_commit_is_in_doubt_is_a_repeat_for_whoever_has_its_twin() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    leave_twins(&kit, &engine, &[1]).await;
    let (runs, mut has_run) = mpsc::unbounded_channel();
    let takes = Duration::from_millis(500);
    let make = move || Worker {
        runs: runs.clone(),
        takes,
    };
    let pool = kit.spawn_pool("pool", 2, make).await.unwrap();
    kit.advance(Duration::from_millis(250)).await;
    engine.suffer(Fault::StoredThenError);
    assert_eq!(has_run.recv().await, Some(1));
    kit.advance(Duration::from_millis(1)).await;
    engine.heal();
    kit.advance(secs(10)).await;
    assert!(has_run.try_recv().is_err(), "it runs once");
    assert_eq!(pool.done().await.unwrap(), [1]);
    let agent = AgentId::new("pool").unwrap();
    assert_eq!(engine.inbox_counts(&agent).await.unwrap(), [0; 5]);
}

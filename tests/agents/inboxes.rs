//! The room in a durable inbox, whatever the engine suffers from and in whatever order it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mas::SendError;
use mas::model::AgentId;
use mas::model::limits::INBOX_ENTRIES_MAX;
use mas::prelude::*;
use mas::store::{Inbox, MemoryEngine};
use mas::testkit::{Fault, FaultyEngine};
use tokio::sync::Semaphore;

const MAX: u64 = INBOX_ENTRIES_MAX as u64;

/// What was handled: how many numbers, and their sum. No number is sent twice.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    count: u64,
    sum: u64,
}

impl Tally {
    /// The numbers from 0 up to this one.
    fn up_to(end: u64) -> Self {
        Self {
            count: end,
            sum: end * end.saturating_sub(1) / 2,
        }
    }
}

/// Takes as many numbers as it is let.
#[agent(id = "taker", state = Tally, durable, timeout = "100000s")]
struct Taker {
    gate: Arc<Semaphore>,
}

#[agent]
impl Taker {
    #[on("take")]
    async fn take(&mut self, number: u64, ctx: &mut Context<Self>) -> Result<()> {
        let _open = self.gate.acquire().await?;
        ctx.update_state(|tally| {
            tally.count += 1;
            tally.sum += number;
        });
        Ok(())
    }

    #[on("refuse")]
    async fn refuse(&mut self) -> Result<()> {
        Err(Failure::permanent("never").into())
    }

    #[on("total")]
    async fn total(&mut self, ctx: &mut Context<Self>) -> Tally {
        let tally = ctx.state();
        Tally { ..*tally }
    }
}

struct Scene {
    kit: TestKit,
    engine: FaultyEngine,
    taker: TakerRef,
    gate: Arc<Semaphore>,
}

impl Scene {
    /// A taker whose gate is open, or is not.
    async fn new(open: bool) -> Self {
        let engine = FaultyEngine::new(MemoryEngine::new());
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let gate = Arc::new(Semaphore::new(usize::from(open)));
        let own = Arc::clone(&gate);
        let taker = kit.spawn(Taker { gate: own }).await.unwrap();
        Self {
            kit,
            engine,
            taker,
            gate,
        }
    }

    /// Entries of the taker's inbox.
    async fn entries(&self) -> u64 {
        let taker = AgentId::new("taker").unwrap();
        self.engine.inbox_counts(&taker).await.unwrap().iter().sum()
    }

    /// Closes the gate and sends until it is refused. Gives how many went in.
    async fn fill(&self) -> u64 {
        self.gate.acquire().await.unwrap().forget();
        let mut sent = 0;
        loop {
            match self.taker.take(0).tell().try_now().await {
                Ok(()) => sent += 1,
                Err(SendError::InboxFull { .. }) => return sent,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn repeats(&self) -> usize {
        let trace = self.kit.trace();
        trace.iter().filter(|line| line.contains("repeat")).count()
    }
}

#[tokio::test]
async fn an_entry_that_settles_before_its_sender_hears_of_it_is_loaded_once_and_gives_its_room_back_once()
 {
    let scene = Scene::new(true).await;
    scene.taker.refuse().await.unwrap_err();
    let letters = scene.kit.dead_letters();
    let number = letters.list(1).await.unwrap()[0].number;

    // Stored at once, and answered later.
    scene.engine.suffer(Fault::Slow(secs(1)));
    let sender = tokio::spawn(scene.taker.take(7).tell().into_future());
    scene.kit.advance(Duration::from_millis(1)).await;
    scene.engine.heal();
    // What is moved back into the inbox has it read.
    letters.retry(number).await.unwrap();
    scene.kit.advance(Duration::from_millis(100)).await;
    assert_eq!(scene.entries().await, 0, "it has settled");
    assert!(!sender.is_finished());
    sender.await.unwrap().unwrap();
    scene.kit.advance(secs(1)).await;

    assert_eq!(scene.repeats(), 0, "it is loaded once");
    let total = scene.taker.total().await.unwrap();
    assert_eq!(total, Tally { count: 1, sum: 7 });
    assert_eq!(scene.fill().await, MAX);
}

#[tokio::test]
async fn senders_that_the_engine_cannot_answer_fill_an_inbox_no_further_than_others() {
    let scene = Scene::new(false).await;
    scene.engine.suffer(Fault::StoredThenError);
    let (senders, each) = (1_000, MAX / 1_000 + 10);
    let failed = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..senders)
        .map(|sender| {
            let (taker, failed) = (scene.taker.clone(), Arc::clone(&failed));
            tokio::spawn(async move {
                for number in sender * each..(sender + 1) * each {
                    match taker.take(number).tell().await {
                        Ok(()) => {}
                        Err(SendError::Commit(_)) => {
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    scene.kit.advance(secs(60)).await;
    assert_eq!(failed.load(Ordering::SeqCst), MAX, "the others wait");
    assert_eq!(scene.entries().await, MAX);

    scene.engine.heal();
    scene.gate.add_permits(1);
    for sent in join_all(tasks).await {
        sent.unwrap();
    }
    let total = scene.taker.total().timeout(secs(10_000)).await.unwrap();
    assert_eq!(total, Tally::up_to(senders * each), "each once");
    assert_eq!(failed.load(Ordering::SeqCst), MAX);
    assert_eq!(scene.fill().await, MAX);
}

/// Sends its numbers one after the other, each until it is accepted.
async fn persist(taker: TakerRef, numbers: std::ops::Range<u64>, sent: Arc<Sent>) {
    for number in numbers {
        loop {
            match taker.take(number).tell().await {
                Ok(()) => break,
                Err(SendError::Commit(_)) => sent.failed.fetch_add(1, Ordering::SeqCst),
                Err(error) => panic!("{error:?}"),
            };
            tokio::time::sleep(secs(1)).await;
        }
        sent.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Sent {
    accepted: AtomicU64,
    failed: AtomicU64,
}

#[tokio::test]
async fn a_flood_through_a_failing_engine_stays_within_the_inbox_and_is_handled_once() {
    let scene = Scene::new(false).await;
    let sent = Arc::new(Sent::default());
    let (senders, each) = (1_000, MAX / 1_000 + 10);
    let tasks: Vec<_> = (0..senders)
        .map(|sender| {
            let numbers = sender * each..(sender + 1) * each;
            tokio::spawn(persist(scene.taker.clone(), numbers, Arc::clone(&sent)))
        })
        .collect();
    for fault in [Fault::DiskFull, Fault::Slow(secs(1)), Fault::Errors] {
        scene.engine.suffer(fault);
        // What is on its way has got there.
        scene.kit.advance(secs(2)).await;
        let accepted = sent.accepted.load(Ordering::SeqCst);
        let failed = sent.failed.load(Ordering::SeqCst);
        scene.kit.advance(secs(40)).await;
        let slow = matches!(fault, Fault::Slow(_));
        let more = sent.accepted.load(Ordering::SeqCst) - accepted;
        assert_eq!(slow, more > 0, "{fault:?}: {more} accepted");
        let more = sent.failed.load(Ordering::SeqCst) - failed;
        assert_eq!(slow, more == 0, "{fault:?}: {more} failed");
        assert!(scene.entries().await < MAX);
    }
    scene.engine.suffer(Fault::Slow(secs(1)));
    scene.kit.advance(secs(200)).await;
    assert_eq!(sent.accepted.load(Ordering::SeqCst), MAX);
    assert_eq!(scene.entries().await, MAX, "the others wait");
    let refused = scene.taker.take(0).tell().try_now().await.unwrap_err();
    assert!(
        matches!(refused, SendError::InboxFull { .. }),
        "{refused:?}"
    );

    scene.engine.heal();
    scene.gate.add_permits(1);
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let total = scene.taker.total().timeout(secs(10_000)).await.unwrap();
    assert_eq!(total, Tally::up_to(senders * each), "each once");
    assert_eq!(scene.fill().await, MAX);
}

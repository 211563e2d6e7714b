//! A runtime in virtual time.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::clock::VirtualClock;
use super::probe::{Probe, Record, Recorder};
use crate::actor::{AgentRef, Delivery, Intercept, Trace};
use crate::model::{AgentId, Clock, Moment, Result};
use crate::runtime::{Builder, Runtime};
use crate::store::{Batch, Engine, MemoryEngine};

/// A runtime with a memory engine, virtual time, a seeded source of randomness, probes, and faults to inject.
///
/// It takes over tokio's clock: use it in a plain `#[tokio::test]`, which runs on one thread. Time stands still while
/// anybody works, and jumps to the next timer when everybody waits, so an hour passes in no time. Two runs with one seed do
/// the same, in the same order, at the same virtual times: [`TestKit::trace`] tells.
///
/// ```
/// # use mas_runtime::testkit::TestKit;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mas_runtime::model::Result<()> {
/// let kit = TestKit::start().await;
/// let auditor = kit.probe("auditor").await?;
/// kit.agent("auditor")?.tell("task.seen", "t-1").await?;
/// assert_eq!(auditor.next::<String>("task.seen").await?, "t-1");
/// # kit.shutdown().await
/// # }
/// ```
pub struct TestKit {
    runtime: Runtime,
    clock: Arc<VirtualClock>,
    faults: Arc<Faults>,
    lines: Arc<Lines>,
}

/// A kit to be.
#[must_use = "nothing runs before `start`"]
pub struct KitBuilder {
    seed: u64,
    builder: Builder,
    engine: Option<Arc<dyn Engine>>,
}

impl KitBuilder {
    /// The seed of ids, jitter and whatever else is random; 0 unless said.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Another engine than a fresh memory engine: a clone of one, to see what a restart finds. The engine counts the kits
    /// that start on it, so that each makes ids of its own from one seed.
    pub fn engine(mut self, engine: impl Engine + 'static) -> Self {
        self.engine = Some(Arc::new(engine));
        self
    }

    /// Changes the runtime's own settings.
    pub fn configure(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// On a runtime of several threads, where virtual time does not exist, and when the engine can't be used.
    pub async fn start(self) -> TestKit {
        pause();
        let clock = Arc::new(VirtualClock::new());
        let faults = Arc::new(Faults::default());
        let lines = Arc::new(Lines {
            clock: Arc::clone(&clock),
            lines: Mutex::default(),
        });
        let (engine, kits_before) = match self.engine {
            Some(engine) => {
                let kits_before = count_kit(&*engine).await;
                (engine, kits_before)
            }
            None => (Arc::new(MemoryEngine::new()) as Arc<dyn Engine>, 0),
        };
        let trace: Arc<dyn Trace> = Arc::clone(&lines) as _;
        let intercept: Arc<dyn Intercept> = Arc::clone(&faults) as _;
        let runtime = self
            .builder
            .shared_engine(engine)
            .clock(Shared(Arc::clone(&clock)))
            .seed(seed_of(self.seed, kits_before))
            .watched(trace, intercept)
            .start()
            .await
            .unwrap_or_else(|error| panic!("the kit does not start: {error}"));
        TestKit {
            runtime,
            clock,
            faults,
            lines,
        }
    }
}

/// The journal in which an engine counts the kits that have started on it.
const KITS_JOURNAL: &str = "testkit";

/// Counts a kit that starts on an engine. Gives how many started before.
async fn count_kit(engine: &dyn Engine) -> u64 {
    let batch = Batch::new().journal_append(KITS_JOURNAL.to_owned(), Bytes::new(), None);
    let counted = engine.commit(batch).await;
    let committed = counted.unwrap_or_else(|error| panic!("the kit does not start: {error}"));
    committed.seqs.last().copied().unwrap_or_default()
}

/// The seed of a kit on an engine that has had others: far from those that people choose. The first keeps its own.
const fn seed_of(seed: u64, kits_before: u64) -> u64 {
    // 2^64 divided by the golden ratio, as in SplitMix64.
    seed.wrapping_add(kits_before.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Stops tokio's clock, unless it stands still already.
///
/// # Panics
/// On a runtime of several threads, whose clock can't be stopped.
fn pause() {
    let flavor = Handle::current().runtime_flavor();
    assert!(
        flavor != RuntimeFlavor::MultiThread,
        "the kit does not start: virtual time does not exist on a runtime of several threads, use a plain `#[tokio::test]`"
    );
    // tokio has no question for it: a paused clock does not move while nobody waits.
    let paused = std::panic::catch_unwind(tokio::time::pause);
    if paused.is_err() {
        tracing::debug!("the clock was paused before");
    }
}

impl TestKit {
    /// A kit with seed 0.
    ///
    /// # Panics
    /// As [`KitBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A kit to be.
    pub fn builder() -> KitBuilder {
        KitBuilder {
            seed: 0,
            builder: Runtime::builder(),
            engine: None,
        }
    }

    /// The runtime.
    pub const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Starts an agent that records what it gets.
    ///
    /// # Errors
    /// As [`Runtime::spawn_as`].
    pub async fn probe(&self, id: &str) -> Result<Probe> {
        let record = Arc::new(Record::default());
        let recorder = Recorder {
            record: Arc::clone(&record),
        };
        let agent = self.runtime.spawn_as(id, recorder).await?;
        Ok(Probe::new(agent.untyped(), record))
    }

    /// Ends an agent's instances at their next await, as a crash would: what is in hand is tried again if it is durable.
    pub fn crash<A>(&self, agent: &AgentRef<A>) {
        self.runtime.crash(agent.id());
    }

    /// As [`TestKit::crash`], for one instance of a pool, from 0.
    pub fn crash_instance<A>(&self, agent: &AgentRef<A>, instance: usize) {
        self.runtime.crash_instance(agent.id(), instance);
    }

    /// Loses the next messages that would go into a mailbox: a tell is gone, an ask waits until its time is up. What is for
    /// a durable agent goes into its inbox, and replies go straight to their askers: neither is lost or counted.
    pub fn drop_next(&self, messages: u32) {
        self.faults.drop_next.fetch_add(messages, Ordering::Relaxed);
    }

    /// Loses what two agents send each other, until [`TestKit::heal`]: a tell is gone, an ask waits until its time is up,
    /// also where the target is durable. What a durable handler has sent waits in its outbox, and is not lost. Replies go
    /// straight to their askers: that to an ask from before arrives.
    pub fn partition(&self, a: impl AsRef<str>, b: impl AsRef<str>) {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let mut parted = self.faults.parted();
        parted.insert(pair(a.as_ref(), b.as_ref()));
        parted.insert(pair(b.as_ref(), a.as_ref()));
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.faults.parted().clear();
    }

    /// Lets virtual time pass; everything that is due meanwhile happens at its own time.
    pub async fn advance(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// The time since the kit started.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// What has happened so far, a line each: virtual time, agent, and the dispatch, reply, failure, commit, timer, restart,
    /// start or end.
    pub fn trace(&self) -> Vec<String> {
        self.lines
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Deref for TestKit {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

impl fmt::Debug for KitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KitBuilder")
            .field("seed", &self.seed)
            .field("builder", &self.builder)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TestKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKit")
            .field("runtime", &self.runtime)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// A clock in many hands.
#[derive(Debug)]
struct Shared(Arc<VirtualClock>);

impl Clock for Shared {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn unix(&self) -> Duration {
        self.0.unix()
    }
}

#[derive(Debug, Default)]
struct Faults {
    drop_next: AtomicU32,
    parted: Mutex<BTreeSet<(String, String)>>,
    /// What was lost: its askers wait until their time is up, as they would for an answer that never comes.
    lost: Mutex<Vec<Delivery>>,
}

impl Faults {
    fn parted(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, String)>> {
        self.parted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self, sender: &AgentId, target: &AgentId) -> bool {
        if self.parts(sender, target) {
            return true;
        }
        self.drop_next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

impl Intercept for Faults {
    fn parts(&self, sender: &AgentId, target: &AgentId) -> bool {
        let parted = self.parted();
        !parted.is_empty() && parted.contains(&(sender.to_string(), target.to_string()))
    }

    fn pass(&self, target: &AgentId, delivery: Delivery) -> Option<Delivery> {
        if !self.is_lost(delivery.sender(), target) {
            return Some(delivery);
        }
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.push(delivery);
        None
    }
}

struct Lines {
    clock: Arc<VirtualClock>,
    lines: Mutex<Vec<String>>,
}

impl Trace for Lines {
    fn line(&self, agent: &AgentId, what: fmt::Arguments<'_>) {
        let at = self.clock.now().since_origin();
        let line = format!("{:>12} {agent} {what}", at.as_micros());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }
}

//! A store on a simulated disk, driven step by step on the test's own thread.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::super::committer::Resealed;
use super::super::queue::{Answer, Ticket, Work};
use super::super::sealing::Hands;
use super::*;
use crate::model::{Clock, Entropy, MessageId, Moment, Priority};
use crate::store::Durability;
use crate::store::apply::Group;
use crate::store::disk::sim::SimDisk;
use crate::store::index::Index;
use crate::store::keys::{ENGINE_SPACE, Key, KeyRange};
use crate::store::record::Counters;
use crate::store::seal::Wanted;
use crate::store::tree::sim_index::SimIndexHome;

/// A clock that a test moves, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

/// All that a store holds.
pub(crate) type Contents = BTreeMap<Key, Bytes>;

/// What outlives the process: a disk and an index.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) home: SimIndexHome,
    /// Whether values are sealed, and the keys: what a user keeps elsewhere.
    pub(crate) wanted: Wanted,
    /// Bytes of a segment of the log.
    pub(crate) segment_bytes: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            disk: SimDisk::new(),
            home: SimIndexHome::default(),
            wanted: Wanted::default(),
            segment_bytes: 8 * 1024,
        }
    }
}

impl Machine {
    /// What a power cut may leave.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        Self {
            disk: self.disk.after_crash(seed),
            home: self.home.after_crash(seed ^ 0x5eed),
            wanted: self.wanted.clone(),
            segment_bytes: self.segment_bytes,
        }
    }

    /// What a killed process leaves.
    pub(crate) fn kill(&self) -> Self {
        Self {
            disk: self.disk.kill(),
            home: self.home.killed(),
            wanted: self.wanted.clone(),
            segment_bytes: self.segment_bytes,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            disk: Arc::new(self.disk.clone()),
            layout: Layout::of(Path::new("/data/store")),
            home: Arc::new(self.home.clone()),
            cache_bytes: 1 << 20,
            log: LogOptions {
                segment_bytes: self.segment_bytes,
            },
            pack_bytes: 32 * 1024,
            wanted: self.wanted.clone(),
            flush_bytes: 8 * 1024,
        }
    }

    /// A store that runs on it.
    pub(crate) fn open(&self) -> Result<Driven, OpenError> {
        Self::open_with(&self.plan())
    }

    /// A store that is kept as `plan` says. Whoever opens it has other random numbers.
    pub(crate) fn open_with(plan: &Plan) -> Result<Driven, OpenError> {
        let clock = Arc::new(TestClock::default());
        let names = plan.disk.names(&plan.layout.log).unwrap_or_default();
        let seed = names.concat().bytes().fold(0, |seed, byte| {
            u64::wrapping_add(u64::wrapping_mul(seed, 31), byte.into())
        });
        let opened = recovery::open(plan, &*clock, &Entropy::seeded(seed))?;
        let Opened {
            records,
            log,
            flusher,
            flushing,
            recovery,
            resealer,
            sealing,
        } = opened;
        let queue = Arc::new(Queue::default());
        let parts = committer::Parts {
            records: Arc::clone(&records),
            log,
            queue: Arc::clone(&queue),
            flushing: Arc::clone(&flushing),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let committer = Committer::new(parts);
        let committer = committer.map_err(|error| OpenError::of_store(&plan.layout.dir, error))?;
        Ok(Driven {
            committer,
            flusher,
            records,
            queue,
            flushing,
            clock,
            recovery,
            resealer,
            sealing,
        })
    }
}

/// A store without threads.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) committer: Committer,
    pub(crate) flusher: Flusher,
    pub(crate) records: Arc<Records>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) flushing: Arc<Flushing>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) recovery: Recovery,
    pub(crate) resealer: Option<Resealer>,
    pub(crate) sealing: Arc<Mutex<SealingProgress>>,
}

/// The hands of a store without threads.
struct DrivenHands<'d>(&'d mut Committer, &'d mut Flusher);

impl Hands for DrivenHands<'_> {
    fn reseal(&mut self, keys: Vec<Key>) -> Result<Resealed, StoreError> {
        self.0.reseal(&keys)
    }

    fn part_log(&mut self) -> Result<Option<u64>, StoreError> {
        self.1.turn()?;
        self.0.part_log()
    }

    fn renew_packs(&mut self) -> Result<(), StoreError> {
        self.1.renew_packs()
    }

    fn drop_log(&mut self, up_to: u64) -> Result<bool, StoreError> {
        self.0.drop_log(up_to)
    }
}

impl Driven {
    /// Commits batches as one group, and gives their answers.
    pub(crate) fn group(&mut self, batches: impl IntoIterator<Item = Batch>) -> Vec<Answer> {
        let push = |batch| self.queue.push(batch).unwrap();
        let tickets: Vec<Ticket> = batches.into_iter().map(push).collect();
        if tickets.is_empty() {
            return Vec::new();
        }
        let Work::Group(group) = self.queue.next(Some(Duration::ZERO)) else {
            panic!("no group");
        };
        // A stop is told by the answers, too.
        let _ = self.committer.commit(group);
        let answer = |ticket: Ticket| ticket.now_or_never().expect("everybody is answered");
        tickets.into_iter().map(answer).collect()
    }

    /// Commits one batch that must succeed.
    pub(crate) fn one(&mut self, batch: Batch) -> Committed {
        self.group([batch]).remove(0).unwrap()
    }

    /// Goes on sealing what is stored, and gives whether that is over.
    pub(crate) fn reseal_step(&mut self) -> Result<bool, StoreError> {
        let mut hands = DrivenHands(&mut self.committer, &mut self.flusher);
        let step = |resealer: &mut Resealer| resealer.step(&mut hands);
        self.resealer.as_mut().map_or(Ok(true), step)
    }

    /// The last commit that it knows.
    pub(crate) fn position(&self) -> u64 {
        self.committer.position()
    }

    /// Sends what was committed into the tree.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        self.committer.send_all()?;
        self.flusher.turn()
    }

    /// Ends in order, as the threads would.
    pub(crate) fn close(mut self) -> Result<(), StoreError> {
        self.queue.close();
        self.flushing.end();
        // What is frozen already would be waited for.
        self.flusher.turn()?;
        self.committer.run()?;
        self.flusher.run()?;
        self.committer.close()?;
        self.records.tree().index().close()
    }

    /// All that it holds, for readers.
    pub(crate) fn contents(&self) -> Result<Contents, StoreError> {
        contents(&*self.records)
    }
}

/// All that an index holds.
pub(crate) fn contents(index: &dyn Index) -> Result<Contents, StoreError> {
    let mut contents = Contents::new();
    let all = KeyRange {
        from: Vec::new(),
        to: vec![ENGINE_SPACE],
    };
    index.scan(&all, &mut |key, value| {
        contents.insert(key.to_vec(), value);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(contents)
}

/// What a store must hold after each of its commits.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// By position; what is forgotten is empty.
    states: Vec<Contents>,
    counters: Counters,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            states: vec![Contents::new()],
            counters: Counters::default(),
        }
    }
}

impl Model {
    pub(crate) fn now(&self) -> &Contents {
        &self.states[self.states.len() - 1]
    }

    /// The last commit.
    pub(crate) fn position(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub(crate) fn at(&self, position: u64) -> &Contents {
        &self.states[position as usize]
    }

    /// Decides a batch as every engine must.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Answer {
        let mut now = self.now().clone();
        let mut group = Group::new(&now, self.counters);
        let answer = group.add(batch);
        let (changes, counters) = group.finish();
        if answer.is_ok() {
            changes.apply_to(&mut now);
            self.counters = counters;
            self.states.push(now);
        }
        answer
    }

    /// Takes over commits that changed nothing, up to a position.
    pub(crate) fn pass_to(&mut self, position: u64) {
        while (self.states.len() as u64) <= position {
            self.commit(&Batch::new()).unwrap();
        }
    }

    /// Goes on from what a crash has left.
    pub(crate) fn cut(&mut self, position: u64) {
        self.states.truncate(position as usize + 1);
        self.counters = crate::store::apply::counters(self.now()).unwrap();
    }
}

fn agent(n: u64) -> AgentId {
    AgentId::new(format!("agent-{n}")).unwrap()
}

/// Batches as a runtime makes them: states, inboxes, outboxes, audit and history, and now and then one that is refused.
pub(crate) fn batch(entropy: &Entropy, model: &Contents) -> Batch {
    let n = entropy.below(4);
    let agent = agent(n);
    let size = match entropy.below(12) {
        0 => 5000 + entropy.below(4000),
        1..4 => 400 + entropy.below(1500),
        _ => entropy.below(120),
    };
    let bytes = Bytes::from(vec![entropy.next_u64() as u8; size as usize]);
    let version = read::load_state(model, &agent)
        .unwrap()
        .map_or(0, |state| state.version);
    let lane = Priority::from_lane(entropy.below(5) as u8).unwrap();
    let waiting = read::inbox_page(model, &agent, lane, 0, 1).unwrap();
    let staged = read::outbox_page(model, &agent, 0, 1).unwrap();
    let id = MessageId::from_bytes([entropy.next_u64() as u8; 16]);
    let mut batch = Batch::new().durability(match entropy.below(4) {
        0 => Durability::Buffered,
        1 => Durability::Relaxed,
        _ => Durability::Durable,
    });
    match entropy.below(8) {
        0 | 1 => batch = batch.inbox_append(agent, lane, id, bytes),
        // A handled message: state, ack, dedup, outbox, audit, in one.
        2..5 => {
            batch = batch.state_put(agent.clone(), version, version + 1, 1, bytes.clone());
            if let Some(entry) = waiting.first() {
                batch = batch.inbox_ack(agent.clone(), lane, entry.seq).dedup_put(
                    agent.clone(),
                    id,
                    None,
                    9,
                );
            }
            batch = batch.outbox_put(agent, bytes.clone()).journal_append(
                "audit".to_owned(),
                bytes,
                None,
            );
        }
        5 => match staged.first() {
            Some(entry) => {
                batch = batch.outbox_remove(agent.clone(), entry.seq).inbox_append(
                    agent,
                    lane,
                    id,
                    entry.envelope.clone(),
                );
            }
            None => batch = batch.journal_append(format!("history-{n}"), bytes, None),
        },
        6 => match waiting.first() {
            Some(entry) => {
                batch = batch.inbox_bury(agent, lane, entry.seq, "given up".to_owned(), 7)
            }
            None => batch = batch.timer_put(agent, n, 5, bytes),
        },
        // Refused: the version is another.
        _ => {
            batch = batch.outbox_put(agent.clone(), bytes.clone()).state_put(
                agent,
                version + 1,
                version + 2,
                1,
                bytes,
            )
        }
    }
    batch
}

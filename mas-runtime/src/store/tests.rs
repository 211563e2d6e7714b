//! Both engines against a plain model: random batches, in groups, with reopenings.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::{AgentId, MessageId, Priority};

/// What a store holds, as plainly as it can be said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    position: u64,
    seqs: u64,
    states: BTreeMap<AgentId, StoredState>,
    inbox: BTreeMap<(AgentId, Priority, u64), InboxEntry>,
    outbox: BTreeMap<(AgentId, u64), Bytes>,
    dedup: BTreeMap<(AgentId, MessageId), DedupEntry>,
    timers: BTreeMap<(AgentId, u64), TimerEntry>,
    directory: BTreeMap<AgentId, DirectoryEntry>,
    dead: BTreeMap<u64, DeadEntry>,
    /// Records, and how many of the first are gone.
    journals: BTreeMap<String, (Vec<Bytes>, usize)>,
    secrets: BTreeMap<String, Bytes>,
}

impl Model {
    /// Commits a batch; `None` when a condition fails.
    fn commit(&mut self, batch: &Batch) -> Option<Committed> {
        let mut next = self.clone();
        let mut seqs = Vec::new();
        for op in batch.ops() {
            next.op(op.clone(), &mut seqs)?;
        }
        next.position += 1;
        *self = next;
        Some(Committed::new(self.position, seqs))
    }

    fn seq(&mut self, seqs: &mut Vec<u64>) -> u64 {
        self.seqs += 1;
        seqs.push(self.seqs);
        self.seqs
    }

    #[rustfmt::skip]
    fn op(&mut self, op: Op, seqs: &mut Vec<u64>) -> Option<()> {
        let version = |model: &Self, agent: &AgentId| model.states.get(agent).map_or(0, |s| s.version);
        match op {
            Op::StatePut { agent, expected, next, schema, bytes } => {
                (version(self, &agent) == expected).then_some(())?;
                self.states.insert(agent, StoredState::new(next, schema, bytes));
            }
            Op::StateRemove { agent, expected } => {
                (version(self, &agent) == expected).then_some(())?;
                self.states.remove(&agent);
            }
            Op::InboxAppend { agent, lane, id, envelope } => {
                let seq = self.seq(seqs);
                self.inbox.insert((agent, lane, seq), InboxEntry::new(seq, lane, id, envelope));
            }
            Op::InboxClaim { agent, lane, seq, attempts } => {
                self.inbox.get_mut(&(agent, lane, seq))?.attempts = attempts;
            }
            Op::InboxAck { agent, lane, seq } => drop(self.inbox.remove(&(agent, lane, seq))?),
            Op::InboxNack { agent, lane, seq, attempts, not_before_unix_ms, reason } => {
                let entry = self.inbox.get_mut(&(agent, lane, seq))?;
                entry.attempts = attempts;
                entry.not_before_unix_ms = not_before_unix_ms;
                entry.history.push(reason);
            }
            Op::InboxBury { agent, lane, seq, reason, at_unix_ms } => {
                let entry = self.inbox.remove(&(agent.clone(), lane, seq))?;
                let letter = (agent, entry.id, entry.envelope, reason, at_unix_ms);
                self.bury(letter, entry.attempts, entry.history, seqs);
            }
            Op::DeadPut { agent, id, envelope, reason, at_unix_ms, attempts, history } => {
                self.bury((agent, id, envelope, reason, at_unix_ms), attempts, history, seqs);
            }
            Op::DeadRemove { seq } => drop(self.dead.remove(&seq)),
            Op::DeadRetry { seq, agent, lane } => {
                let dead = self.dead.remove(&seq)?;
                let seq = self.seq(seqs);
                self.inbox.insert((agent, lane, seq), InboxEntry::new(seq, lane, dead.id, dead.envelope));
            }
            Op::OutboxPut { agent, envelope } => {
                let seq = self.seq(seqs);
                self.outbox.insert((agent, seq), envelope);
            }
            Op::OutboxRemove { agent, seq } => drop(self.outbox.remove(&(agent, seq))?),
            Op::DedupPut { agent, id, reply, expires_unix_ms } => {
                self.dedup.insert((agent, id), DedupEntry::new(id, reply, expires_unix_ms));
            }
            Op::DedupRemove { agent, id } => drop(self.dedup.remove(&(agent, id))),
            Op::TimerPut { agent, timer, due_unix_ms, record } => {
                self.timers.insert((agent, timer), TimerEntry::new(timer, due_unix_ms, record));
            }
            Op::TimerRemove { agent, timer } => drop(self.timers.remove(&(agent, timer))),
            Op::AgentPut { agent, record, lease_until_unix_ms } => {
                let entry = DirectoryEntry::new(agent.clone(), record, lease_until_unix_ms);
                self.directory.insert(agent, entry);
            }
            Op::AgentRemove { agent } => drop(self.directory.remove(&agent)),
            Op::AgentErase { agent } => self.erase(&agent),
            Op::JournalAppend { journal, bytes, expected_end } => seqs.push(self.append(journal, bytes, expected_end)?),
            Op::JournalTrim { journal, before } => self.trim(&journal, before),
            Op::SecretPut { name, bytes } => drop(self.secrets.insert(name, bytes)),
            Op::SecretRemove { name } => drop(self.secrets.remove(&name)),
        }
        Some(())
    }

    fn append(&mut self, journal: String, bytes: Bytes, expected_end: Option<u64>) -> Option<u64> {
        let (records, _) = self.journals.entry(journal).or_default();
        let end = records.len() as u64;
        expected_end
            .is_none_or(|expected| expected == end)
            .then_some(())?;
        records.push(bytes);
        Some(end)
    }

    fn trim(&mut self, journal: &str, before: u64) {
        if let Some((records, gone)) = self.journals.get_mut(journal) {
            *gone = (*gone).max((before as usize).min(records.len()));
        }
    }

    fn bury(
        &mut self,
        (agent, id, envelope, reason, at): (AgentId, MessageId, Bytes, String, u64),
        attempts: u32,
        history: Vec<String>,
        seqs: &mut Vec<u64>,
    ) {
        let number = self.seq(seqs);
        let mut dead = DeadEntry::new(number, agent, id, reason, at, envelope);
        (dead.attempts, dead.history) = (attempts, history);
        self.dead.insert(number, dead);
    }

    fn erase(&mut self, agent: &AgentId) {
        self.states.remove(agent);
        self.inbox.retain(|key, _| key.0 != *agent);
        self.outbox.retain(|key, _| key.0 != *agent);
        self.dedup.retain(|key, _| key.0 != *agent);
        self.timers.retain(|key, _| key.0 != *agent);
        self.directory.remove(agent);
    }
}

/// Few ids, each a neighbour of another, so that mixing them up shows.
const AGENTS: [&str; 5] = ["a", "a.", "a@n", "aa", "b"];
const NAMES: [&str; 4] = ["j", "j/", "j\u{0}", "k"];
const IDS: u8 = 4;

fn agents() -> impl Strategy<Value = AgentId> {
    prop::sample::select(&AGENTS[..]).prop_map(|text| AgentId::new(text).unwrap())
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn lanes() -> impl Strategy<Value = Priority> {
    // Few, so that settling finds its entry.
    prop::sample::select(vec![Priority::Critical, Priority::Normal])
}

fn ids() -> impl Strategy<Value = MessageId> {
    (0..IDS).prop_map(|byte| MessageId::from_bytes([byte; 16]))
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40),
        1 => (4090usize..4100, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
        1 => (0usize..30_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
    ]
    .prop_map(Bytes::from)
}

/// Numbers that were likely given out.
fn seqs() -> impl Strategy<Value = u64> {
    1u64..30
}

fn texts() -> impl Strategy<Value = String> {
    "[a-zü]{0,6}"
}

#[rustfmt::skip]
fn ops() -> impl Strategy<Value = Op> {
    let queue = prop_oneof![
        4 => (agents(), lanes(), ids(), payloads())
            .prop_map(|(agent, lane, id, envelope)| Op::InboxAppend { agent, lane, id, envelope }),
        1 => (agents(), lanes(), seqs(), 0u32..5)
            .prop_map(|(agent, lane, seq, attempts)| Op::InboxClaim { agent, lane, seq, attempts }),
        1 => (agents(), lanes(), seqs()).prop_map(|(agent, lane, seq)| Op::InboxAck { agent, lane, seq }),
        1 => (agents(), lanes(), seqs(), 0u32..5, any::<u64>(), texts()).prop_map(
            |(agent, lane, seq, attempts, not_before_unix_ms, reason)|
            Op::InboxNack { agent, lane, seq, attempts, not_before_unix_ms, reason }),
        1 => (agents(), lanes(), seqs(), texts(), any::<u64>()).prop_map(
            |(agent, lane, seq, reason, at_unix_ms)| Op::InboxBury { agent, lane, seq, reason, at_unix_ms }),
        1 => (agents(), ids(), payloads(), texts(), any::<u64>(), vec(texts(), 0..3)).prop_map(
            |(agent, id, envelope, reason, at_unix_ms, history)|
            Op::DeadPut { agent, id, envelope, reason, at_unix_ms, attempts: 2, history }),
        1 => seqs().prop_map(|seq| Op::DeadRemove { seq }),
        1 => (seqs(), agents(), lanes()).prop_map(|(seq, agent, lane)| Op::DeadRetry { seq, agent, lane }),
        3 => (agents(), payloads()).prop_map(|(agent, envelope)| Op::OutboxPut { agent, envelope }),
        1 => (agents(), seqs()).prop_map(|(agent, seq)| Op::OutboxRemove { agent, seq }),
    ];
    let record = prop_oneof![
        4 => (agents(), 0u64..3, 1u64..3, any::<u32>(), payloads()).prop_map(
            |(agent, expected, next, schema, bytes)| Op::StatePut { agent, expected, next, schema, bytes }),
        1 => (agents(), 0u64..3).prop_map(|(agent, expected)| Op::StateRemove { agent, expected }),
        2 => (agents(), ids(), prop::option::of(payloads()), any::<u64>()).prop_map(
            |(agent, id, reply, expires_unix_ms)| Op::DedupPut { agent, id, reply, expires_unix_ms }),
        1 => (agents(), ids()).prop_map(|(agent, id)| Op::DedupRemove { agent, id }),
        2 => (agents(), 0u64..4, any::<u64>(), payloads()).prop_map(
            |(agent, timer, due_unix_ms, record)| Op::TimerPut { agent, timer, due_unix_ms, record }),
        1 => (agents(), 0u64..4).prop_map(|(agent, timer)| Op::TimerRemove { agent, timer }),
        2 => (agents(), payloads(), any::<u64>()).prop_map(
            |(agent, record, lease_until_unix_ms)| Op::AgentPut { agent, record, lease_until_unix_ms }),
        1 => agents().prop_map(|agent| Op::AgentRemove { agent }),
        1 => agents().prop_map(|agent| Op::AgentErase { agent }),
        3 => (names(), payloads(), prop::option::weighted(0.3, 0u64..4)).prop_map(
            |(journal, bytes, expected_end)| Op::JournalAppend { journal, bytes, expected_end }),
        1 => (names(), 0u64..6).prop_map(|(journal, before)| Op::JournalTrim { journal, before }),
        2 => (names(), payloads()).prop_map(|(name, bytes)| Op::SecretPut { name, bytes }),
        1 => names().prop_map(|name| Op::SecretRemove { name }),
    ];
    prop_oneof![queue, record]
}

fn batches() -> impl Strategy<Value = Batch> {
    let levels = vec![
        Durability::Durable,
        Durability::Buffered,
        Durability::Relaxed,
    ];
    (vec(ops(), 0..4), prop::sample::select(levels)).prop_map(|(ops, level)| {
        let batch = ops.into_iter().fold(Batch::new(), Batch::with);
        batch.durability(level)
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// Batches that are on their way together.
    Commit(Vec<Batch>),
    /// The engine is closed and opened again.
    Reopen,
    /// The engine is dropped and opened again.
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => vec(batches(), 1..6).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Drop),
    ];
    vec(step, 1..20)
}

/// Follows the pages of a read to their end.
async fn pages<T, P>(from: P, read: impl AsyncFn(&P) -> Vec<T>, next: impl Fn(&T) -> P) -> Vec<T> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        let page = read(&at).await;
        let Some(last) = page.last() else { return all };
        at = next(last);
        all.extend(page);
    }
}

#[track_caller]
fn same<T: PartialEq + Debug>(found: &[T], expected: impl IntoIterator<Item = T>) {
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(found, expected);
}

/// Reads everything, two entries a page, and compares it.
async fn compare(engine: &dyn Engine, model: &Model) {
    const PAGE: usize = 2;
    for agent in AGENTS.map(|text| AgentId::new(text).unwrap()) {
        compare_agent(engine, model, &agent).await;
    }
    let dead = pages(
        0,
        async |at| engine.dead_letters(*at, PAGE).await.unwrap(),
        |e| e.seq,
    )
    .await;
    same(&dead, model.dead.values().cloned());
    for seq in 0..30 {
        let found = engine.dead_letter(seq).await.unwrap();
        assert_eq!(found.as_ref(), model.dead.get(&seq));
    }
    let read = async |at: &Option<AgentId>| engine.agents(at.as_ref(), PAGE).await.unwrap();
    let listed = pages(None, read, |e| Some(e.agent.clone())).await;
    same(&listed, model.directory.values().cloned());
    let read = async |at: &Option<AgentId>| engine.outbox_agents(at.as_ref(), PAGE).await.unwrap();
    let listed = pages(None, read, |agent| Some(agent.clone())).await;
    let mut expected: Vec<_> = model.outbox.keys().map(|key| key.0.clone()).collect();
    expected.dedup();
    same(&listed, expected);
    for name in NAMES {
        let empty = (Vec::new(), 0);
        let (records, gone) = model.journals.get(name).unwrap_or(&empty);
        let read = async |at: &u64| engine.journal_page(name, *at, PAGE).await.unwrap();
        let found = pages(0, read, |e| e.seq + 1).await;
        let entry = |(n, bytes): (usize, &Bytes)| JournalEntry::new(n as u64, bytes.clone());
        same(&found, records.iter().enumerate().skip(*gone).map(entry));
        assert_eq!(
            engine.journal_end(name).await.unwrap(),
            records.len() as u64
        );
        let secret = engine.secret(name).await.unwrap();
        assert_eq!(
            secret,
            model.secrets.get(name).cloned().map(SecretBytes::new)
        );
        let read = async |at: &Option<String>| {
            engine
                .secret_names(name, at.as_deref(), PAGE)
                .await
                .unwrap()
        };
        let found = pages(None, read, |name| Some(name.clone())).await;
        let begins = |other: &&String| other.starts_with(name);
        let journals = engine.journal_names(name, None, usize::MAX).await.unwrap();
        same(&journals, model.journals.keys().filter(begins).cloned());
        same(&found, model.secrets.keys().filter(begins).cloned());
    }
}

async fn compare_agent(engine: &dyn Engine, model: &Model, agent: &AgentId) {
    const PAGE: usize = 2;
    let state = engine.load_state(agent).await.unwrap();
    assert_eq!(state.as_ref(), model.states.get(agent));
    let mut counts = [0; 5];
    for lane in Priority::ALL {
        let read = async |at: &u64| engine.inbox_page(agent, lane, *at, PAGE).await.unwrap();
        let found = pages(0, read, |e| e.seq).await;
        let own = |(key, _): &(&(AgentId, Priority, u64), _)| key.0 == *agent && key.1 == lane;
        same(
            &found,
            model.inbox.iter().filter(own).map(|(_, e)| e.clone()),
        );
        counts[lane.lane()] = found.len() as u64;
    }
    assert_eq!(engine.inbox_counts(agent).await.unwrap(), counts);
    let read = async |at: &u64| engine.outbox_page(agent, *at, PAGE).await.unwrap();
    let found = pages(0, read, |e| e.seq).await;
    let own = model.outbox.iter().filter(|(key, _)| key.0 == *agent);
    same(
        &found,
        own.map(|(key, bytes)| OutboxEntry::new(key.1, bytes.clone())),
    );
    let read = async |at: &Option<MessageId>| engine.dedup_page(agent, *at, PAGE).await.unwrap();
    let found = pages(None, read, |e| Some(e.id)).await;
    let own = model.dedup.iter().filter(|(key, _)| key.0 == *agent);
    same(&found, own.map(|(_, e)| e.clone()));
    for byte in 0..IDS {
        let id = MessageId::from_bytes([byte; 16]);
        let found = engine.dedup(agent, id).await.unwrap();
        assert_eq!(found.as_ref(), model.dedup.get(&(agent.clone(), id)));
    }
    let read = async |at: &Option<u64>| engine.timers(agent, *at, PAGE).await.unwrap();
    let found = pages(None, read, |e| Some(e.timer)).await;
    let own = model.timers.iter().filter(|(key, _)| key.0 == *agent);
    same(&found, own.map(|(_, e)| e.clone()));
    let found = engine.agent(agent).await.unwrap();
    assert_eq!(found.as_ref(), model.directory.get(agent));
}

/// Runs the steps on an engine and on the model.
async fn run(steps: Vec<Step>, open: impl Fn() -> Arc<dyn Engine>) {
    let (mut engine, mut model) = (open(), Model::default());
    for step in steps {
        match step {
            Step::Commit(batches) => {
                let calls: Vec<_> = batches.iter().map(|b| engine.commit(b.clone())).collect();
                let answers = join_all(calls).await;
                for (batch, answer) in batches.iter().zip(answers) {
                    let expected = model.commit(batch);
                    let refused = matches!(
                        answer,
                        Err(CommitError::Conflict { .. }
                            | CommitError::Gone { .. }
                            | CommitError::JournalMoved { .. })
                    );
                    assert!(answer.is_ok() || refused, "{answer:?}");
                    assert_eq!(answer.ok(), expected);
                }
            }
            Step::Reopen => {
                engine.close().await.unwrap();
                drop(engine);
                engine = open();
            }
            Step::Drop => {
                drop(engine);
                engine = open();
            }
        }
        compare(&*engine, &model).await;
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_memory_engine_is_its_model(steps in steps()) {
        let kept = MemoryEngine::new();
        block_on(run(steps, || Arc::new(kept.clone())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_embedded_engine_is_its_model(steps in steps()) {
        let dir = TempDir::new().unwrap();
        let open = || EmbeddedEngine::open(&dir, EmbeddedOptions::default()).unwrap();
        block_on(run(steps, || Arc::new(open())));
    }
}

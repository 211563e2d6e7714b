//! The committer over an index that fails when it is told to. Everything runs on the test's own thread and clock.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::model::AgentId;
use crate::store::index::{Changes, EntryVisitor, Index, KeyVisitor};
use crate::store::keys::{self, Key, KeyRange};
use crate::store::sled::queue::Ticket;
use crate::store::{Batch, Committed};

/// A clock that a test moves, in milliseconds.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Apply,
    Flush,
    Sync,
    Revive,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Error(io::ErrorKind),
    Panic,
}

type Map = BTreeMap<Key, Bytes>;

/// What survives what: applied in the process, flushed with the system, synced on the disk.
#[derive(Default)]
struct Parts {
    applied: Map,
    flushed: Map,
    synced: Map,
    steps: Vec<Step>,
    faults: Vec<(Step, Fault)>,
}

#[derive(Default)]
struct TestIndex(Mutex<Parts>);

impl TestIndex {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Fails the next call of a step.
    fn fail(&self, step: Step, fault: Fault) {
        self.parts().faults.push((step, fault));
    }

    fn steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.parts().steps)
    }

    fn step(&self, step: Step) -> Result<MutexGuard<'_, Parts>, StoreError> {
        let mut parts = self.parts();
        parts.steps.push(step);
        let fault = parts.faults.iter().position(|(at, _)| *at == step);
        match fault.map(|at| parts.faults.remove(at).1) {
            None => Ok(parts),
            Some(Fault::Error(kind)) => Err(StoreError::io("do as it should", kind.into())),
            Some(Fault::Panic) => panic!("as the test wants"),
        }
    }
}

impl Index for TestIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut parts = self.parts();
        let fault = parts.faults.iter().position(|(at, _)| *at == Step::Read);
        match fault.map(|at| parts.faults.remove(at).1) {
            None => Ok(parts.applied.get(key).cloned()),
            Some(Fault::Error(kind)) => Err(StoreError::io("read", kind.into())),
            Some(Fault::Panic) => Err(StoreError::failed("a read panicked")),
        }
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        self.parts().applied.scan(range, visit)
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        self.parts().applied.scan_keys(range, visit)
    }
}

impl DurableIndex for TestIndex {
    fn apply(&self, changes: &Changes, _: u64) -> Result<(), StoreError> {
        changes.apply_to(&mut self.step(Step::Apply)?.applied);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut parts = self.step(Step::Flush)?;
        parts.flushed = parts.applied.clone();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut parts = self.step(Step::Sync)?;
        parts.synced = parts.flushed.clone();
        Ok(())
    }

    fn revive(&self) -> Result<(), StoreError> {
        let mut parts = self.step(Step::Revive)?;
        parts.applied = parts.flushed.clone();
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A committer whose groups a test runs one by one.
struct Bench {
    index: Arc<TestIndex>,
    queue: Arc<Queue>,
    clock: Arc<TestClock>,
    committer: Committer<TestIndex>,
}

impl Bench {
    fn new() -> Self {
        let (index, queue) = (Arc::new(TestIndex::default()), Arc::new(Queue::default()));
        let clock = Arc::new(TestClock::default());
        let parts = (Arc::clone(&index), Arc::clone(&queue), Arc::clone(&clock));
        let committer = Committer::new(parts.0, parts.1, parts.2).unwrap();
        Self {
            index,
            queue,
            clock,
            committer,
        }
    }

    /// Commits batches as one group, and gives their answers and how the committer took it.
    fn group(&mut self, batches: impl IntoIterator<Item = Batch>) -> (Vec<Answer>, bool) {
        let push = |batch| self.queue.push(batch).unwrap();
        let tickets: Vec<Ticket> = batches.into_iter().map(push).collect();
        let Work::Group(group) = self.queue.next(Some(Duration::ZERO)) else {
            panic!("no group");
        };
        let goes_on = self.committer.commit(group).is_ok();
        let answer = |ticket: Ticket| ticket.now_or_never().expect("everybody is answered");
        (tickets.into_iter().map(answer).collect(), goes_on)
    }

    /// Commits one batch that must succeed.
    fn one(&mut self, batch: Batch) -> Committed {
        self.group([batch]).0.remove(0).unwrap()
    }

    fn advance(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }
}

fn agent() -> AgentId {
    AgentId::new("a").unwrap()
}

fn state(expected: u64, next: u64) -> Batch {
    Batch::new().state_put(agent(), expected, next, 1, Bytes::new())
}

fn outbox() -> Batch {
    Batch::new().outbox_put(agent(), Bytes::new())
}

const DISK_ERROR: Fault = Fault::Error(io::ErrorKind::Other);
const DISK_FULL: Fault = Fault::Error(io::ErrorKind::StorageFull);

#[test]
fn a_group_is_applied_flushed_and_synced_once() {
    let mut bench = Bench::new();
    let (answers, _) = bench.group([state(0, 1), state(1, 2), state(2, 3)]);
    let positions: Vec<_> = answers.into_iter().map(|a| a.unwrap().position).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert_eq!(bench.index.steps(), [Step::Apply, Step::Flush, Step::Sync]);
}

#[test]
fn a_conflict_in_the_middle_of_a_group_hits_only_its_batch() {
    let mut bench = Bench::new();
    let stale = state(7, 8).outbox_put(agent(), Bytes::new());
    let (answers, _) = bench.group([state(0, 1), stale, state(1, 2), outbox()]);
    assert!(matches!(
        answers[1],
        Err(CommitError::Conflict { stored: 1, .. })
    ));
    let kept: Vec<_> = answers.into_iter().flatten().collect();
    let positions: Vec<_> = kept.iter().map(|c| c.position).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert_eq!(kept[2].seqs, [1], "the refused batch took no number");
}

#[test]
fn a_group_of_refusals_touches_nothing() {
    let mut bench = Bench::new();
    let (answers, goes_on) = bench.group([state(7, 8)]);
    assert!(answers[0].is_err() && goes_on);
    assert_eq!(bench.index.steps(), []);
}

#[test]
fn relaxed_commits_are_flushed_and_not_synced() {
    let mut bench = Bench::new();
    bench.one(state(0, 1).durability(Durability::Relaxed));
    assert_eq!(bench.index.steps(), [Step::Apply, Step::Flush]);
    assert_eq!(bench.committer.patience(), None);
}

#[test]
fn buffered_commits_are_answered_first_and_on_disk_in_time() {
    let mut bench = Bench::new();
    bench.one(state(0, 1).durability(Durability::Buffered));
    assert_eq!(bench.index.steps(), [Step::Apply]);
    bench.advance(2);
    bench.one(state(1, 2).durability(Durability::Buffered));
    let left = BUFFERED_BEHIND_MAX - Duration::from_millis(2);
    assert_eq!(
        bench.committer.patience(),
        Some(left),
        "counted from the first"
    );
    bench.advance(3);
    assert_eq!(bench.committer.patience(), Some(Duration::ZERO));
    bench.committer.tend().unwrap();
    assert_eq!(bench.index.steps(), [Step::Apply, Step::Flush, Step::Sync]);
    assert_eq!(bench.committer.patience(), None);
}

#[test]
fn a_durable_commit_takes_buffered_ones_along() {
    let mut bench = Bench::new();
    bench.one(state(0, 1).durability(Durability::Buffered));
    bench.one(Batch::new());
    assert_eq!(bench.committer.patience(), None);
    let parts = bench.index.parts();
    assert!(parts.synced.contains_key(&keys::state(&agent())));
}

#[test]
fn a_failed_apply_hits_its_group_and_the_next_goes_on() {
    let mut bench = Bench::new();
    bench.one(state(0, 1));
    bench.index.fail(Step::Apply, DISK_ERROR);
    let (answers, goes_on) = bench.group([state(1, 2), state(9, 9)]);
    let io = |a: &Answer| matches!(a, Err(CommitError::Io { .. }));
    assert!(goes_on && answers.iter().all(io), "{answers:?}");
    bench.index.steps();
    assert_eq!(bench.one(state(1, 2)).position, 2);
    assert_eq!(
        bench.index.steps(),
        [Step::Revive, Step::Apply, Step::Flush, Step::Sync]
    );
}

#[test]
fn a_failed_read_hits_only_its_batch() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Read, DISK_ERROR);
    let (answers, goes_on) = bench.group([state(0, 1), outbox()]);
    assert!(goes_on && matches!(answers[0], Err(CommitError::Io { .. })));
    assert_eq!(answers[1].as_ref().unwrap().position, 1);
}

#[test]
fn a_read_that_panicked_stops_the_engine() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Read, Fault::Panic);
    let (answers, goes_on) = bench.group([outbox(), state(0, 1)]);
    let failed = |a: &Answer| matches!(a, Err(CommitError::Failed { .. }));
    assert!(!goes_on && answers.iter().all(failed), "{answers:?}");
    assert_eq!(bench.index.steps(), []);
}

#[test]
fn a_flush_that_fails_stops_the_engine_unless_only_room_was_missing() {
    for (kind, goes_on) in [
        (io::ErrorKind::Other, false),
        (io::ErrorKind::QuotaExceeded, true),
        (io::ErrorKind::StorageFull, true),
    ] {
        let mut bench = Bench::new();
        bench.index.fail(Step::Flush, Fault::Error(kind));
        let (answers, went_on) = bench.group([state(0, 1)]);
        assert!(answers[0].is_err(), "{kind:?}");
        assert_eq!(went_on, goes_on, "{kind:?}");
        // The same for what is brought to disk later.
        let mut bench = Bench::new();
        bench.one(state(0, 1).durability(Durability::Buffered));
        bench.index.fail(Step::Flush, Fault::Error(kind));
        bench.advance(BUFFERED_BEHIND_MAX.as_millis() as u64);
        assert_eq!(bench.committer.tend().is_ok(), goes_on, "{kind:?}");
    }
}

#[test]
fn a_full_disk_is_named() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Flush, DISK_FULL);
    let (answers, goes_on) = bench.group([state(0, 1)]);
    assert!(goes_on && matches!(answers[0], Err(CommitError::Full { .. })));
}

#[test]
fn numbers_that_were_told_are_not_told_again() {
    let mut bench = Bench::new();
    bench.one(outbox());
    // Told, applied, and lost with the next flush.
    let told = bench.one(outbox().durability(Durability::Buffered));
    bench.index.fail(Step::Flush, DISK_FULL);
    let (answers, _) = bench.group([outbox()]);
    assert!(answers[0].is_err());
    let next = bench.one(outbox());
    assert!(next.seqs > told.seqs && next.position > told.position);
    let outbox = keys::outbox(&agent(), told.seqs[0]);
    assert!(!bench.index.parts().applied.contains_key(&outbox));
}

#[test]
fn an_index_that_stays_broken_is_not_asked_all_the_time() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Apply, DISK_ERROR);
    bench.group([state(0, 1)]);
    bench.index.fail(Step::Revive, DISK_FULL);
    bench.index.steps();
    for _ in 0..3 {
        let (answers, goes_on) = bench.group([state(0, 1)]);
        assert!(goes_on && matches!(answers[0], Err(CommitError::Full { .. })));
    }
    assert_eq!(bench.index.steps(), [Step::Revive]);
    bench.advance(STORE_REVIVE_EVERY.as_millis() as u64);
    bench.one(state(0, 1));
}

#[test]
fn a_broken_index_comes_back_without_a_commit() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Flush, DISK_FULL);
    bench.group([state(0, 1)]);
    assert_eq!(bench.committer.patience(), Some(Duration::ZERO));
    bench.index.fail(Step::Revive, DISK_ERROR);
    bench.index.steps();
    bench.committer.tend().unwrap();
    assert_eq!(bench.committer.patience(), Some(STORE_REVIVE_EVERY));
    bench.advance(STORE_REVIVE_EVERY.as_millis() as u64);
    bench.committer.tend().unwrap();
    assert_eq!(bench.index.steps(), [Step::Revive, Step::Revive]);
    assert_eq!(bench.committer.patience(), None);
}

#[test]
fn a_close_tries_a_broken_index_once_more() {
    let mut bench = Bench::new();
    bench.index.fail(Step::Apply, DISK_ERROR);
    bench.group([state(0, 1)]);
    bench.index.fail(Step::Revive, DISK_ERROR);
    bench.committer.tend().unwrap();
    bench.queue.close();
    bench.committer.run().unwrap();
    assert_eq!(bench.index.steps().last(), Some(&Step::Sync));
}

#[test]
fn an_index_that_comes_back_without_what_was_synced_stops_the_engine() {
    let mut bench = Bench::new();
    bench.one(state(0, 1));
    bench.index.fail(Step::Apply, DISK_ERROR);
    bench.group([state(1, 2)]);
    bench.index.parts().flushed.clear();
    let (answers, goes_on) = bench.group([state(1, 2)]);
    assert!(!goes_on && matches!(answers[0], Err(CommitError::Failed { .. })));
}

#[test]
fn a_failed_sync_stops_the_engine_and_leaves_reads() {
    let bench = Bench::new();
    bench.index.fail(Step::Sync, DISK_ERROR);
    let relaxed = state(0, 1).durability(Durability::Relaxed);
    let tickets = [relaxed, state(1, 2)].map(|batch| bench.queue.push(batch).unwrap());
    let (queue, index) = (Arc::clone(&bench.queue), Arc::clone(&bench.index));
    let running = std::thread::spawn(move || bench.committer.run());
    let answers = futures_util::future::join_all(tickets);
    let answers = wait_for(answers);
    assert!(answers[0].is_ok(), "it was flushed");
    assert!(matches!(answers[1], Err(CommitError::Io { .. })));
    assert!(index.get(&keys::state(&agent())).unwrap().is_some());
    queue.close();
    let ended = running.join().unwrap();
    assert!(matches!(ended, Err(StoreError::Failed { .. })), "{ended:?}");
}

#[test]
fn a_panic_is_answered_and_stops_the_engine() {
    for step in [Step::Apply, Step::Flush, Step::Sync] {
        let bench = Bench::new();
        bench.index.fail(step, Fault::Panic);
        let tickets = [state(0, 1), state(1, 2)].map(|batch| bench.queue.push(batch).unwrap());
        bench.queue.close();
        let ended = bench.committer.run();
        assert!(matches!(ended, Err(StoreError::Failed { .. })), "{ended:?}");
        for ticket in tickets {
            let answer = ticket.now_or_never().unwrap();
            assert!(
                matches!(answer, Err(CommitError::Failed { .. })),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn a_close_syncs_what_is_behind() {
    let bench = Bench::new();
    let buffered = state(0, 1).durability(Durability::Buffered);
    let relaxed = state(1, 2).durability(Durability::Relaxed);
    let tickets = [buffered, relaxed].map(|batch| bench.queue.push(batch).unwrap());
    bench.queue.close();
    bench.committer.run().unwrap();
    assert_eq!(bench.index.steps().last(), Some(&Step::Sync));
    assert!(
        tickets
            .map(FutureExt::now_or_never)
            .iter()
            .all(|a| matches!(a, Some(Ok(_))))
    );
}

/// Waits for a future on this thread.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

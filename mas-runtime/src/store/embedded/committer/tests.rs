//! The committer over a simulated disk that fails when it is told to. Everything runs on the test's own thread and clock.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::model::AgentId;
use crate::store::Batch;
use crate::store::embedded::tests::traps::{TrapHome, Traps};
use crate::store::embedded::tests::world::{Driven, Machine};
use crate::store::index::Index;
use crate::store::keys;

fn agent() -> AgentId {
    AgentId::new("a").unwrap()
}

fn state(expected: u64, next: u64) -> Batch {
    Batch::new().state_put(agent(), expected, next, 1, Bytes::new())
}

fn outbox() -> Batch {
    Batch::new().outbox_put(agent(), Bytes::new())
}

fn is_io(answer: &Answer) -> bool {
    matches!(answer, Err(CommitError::Io { .. }))
}

fn is_full(answer: &Answer) -> bool {
    matches!(answer, Err(CommitError::Full { .. }))
}

fn opened() -> (Machine, Driven) {
    let machine = Machine::default();
    let store = machine.open().unwrap();
    (machine, store)
}

/// The operations of the disk that something takes: a write is one, a sync another.
fn operations<T>(machine: &Machine, run: impl FnOnce() -> T) -> (u64, T) {
    let before = machine.disk.operations();
    let result = run();
    (machine.disk.operations() - before, result)
}

/// The position after a power cut in which nothing is kept that was not synced.
fn synced(machine: &Machine) -> u64 {
    let after = |seed| machine.after_crash(seed).open().unwrap().recovery.position;
    (0..40).map(after).min().unwrap()
}

fn pass(store: &mut Driven, time: Duration) {
    store.clock.advance(time.as_millis() as u64);
    if store.committer.patience() == Some(Duration::ZERO) {
        store.committer.tend();
    }
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let (machine, mut store) = opened();
    let group = [state(0, 1), state(1, 2), state(2, 3)];
    let (taken, answers) = operations(&machine, || store.group(group));
    let positions: Vec<_> = answers.into_iter().map(|a| a.unwrap().position).collect();
    assert_eq!((taken, &positions[..]), (2, &[1, 2, 3][..]));
    assert_eq!(synced(&machine), 3);
}

#[test]
fn a_conflict_in_the_middle_of_a_group_hits_only_its_batch() {
    let (machine, mut store) = opened();
    let stale = state(7, 8).outbox_put(agent(), Bytes::new());
    let answers = store.group([state(0, 1), stale, state(1, 2), outbox()]);
    assert!(matches!(
        answers[1],
        Err(CommitError::Conflict { stored: 1, .. })
    ));
    let kept: Vec<_> = answers.into_iter().flatten().collect();
    let positions: Vec<_> = kept.iter().map(|c| c.position).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert_eq!(kept[2].seqs, [1], "the refused batch took no number");
    assert_eq!(synced(&machine), 3);
}

#[test]
fn a_group_of_refusals_touches_nothing() {
    let (machine, mut store) = opened();
    let (taken, answers) = operations(&machine, || store.group([state(7, 8)]));
    assert!(answers[0].is_err());
    assert_eq!((taken, store.committer.position()), (0, 0));
    assert_eq!(store.one(outbox()).position, 1);
}

#[test]
fn relaxed_commits_are_written_and_not_synced() {
    let (machine, mut store) = opened();
    let relaxed = state(0, 1).durability(Durability::Relaxed);
    let (taken, _) = operations(&machine, || store.one(relaxed));
    assert_eq!((taken, store.committer.patience()), (1, None));
    assert_eq!(machine.kill().open().unwrap().recovery.position, 1);
    assert_eq!(synced(&machine), 0);
}

#[test]
fn buffered_commits_are_answered_first_and_on_disk_in_time() {
    let (machine, mut store) = opened();
    store.one(state(0, 1).durability(Durability::Buffered));
    pass(&mut store, Duration::from_millis(2));
    store.one(state(1, 2).durability(Durability::Buffered));
    assert_eq!(synced(&machine), 0);
    let left = BUFFERED_BEHIND_MAX - Duration::from_millis(2);
    let patience = store.committer.patience();
    assert_eq!(patience, Some(left), "counted from the first");
    let (taken, ()) = operations(&machine, || pass(&mut store, left));
    assert_eq!((taken, store.committer.patience()), (1, None));
    assert_eq!(synced(&machine), 2);
}

#[test]
fn a_durable_commit_takes_buffered_ones_along() {
    let (machine, mut store) = opened();
    store.one(state(0, 1).durability(Durability::Buffered));
    store.one(Batch::new());
    assert_eq!(store.committer.patience(), None);
    assert_eq!(synced(&machine), 2);
}

#[test]
fn a_failed_write_or_sync_hits_its_group_and_what_was_decided_comes_back() {
    for fails_writes in [true, false] {
        let (machine, mut store) = opened();
        store.one(state(0, 1));
        match fails_writes {
            true => machine.disk.fail_writes(Some(io::ErrorKind::Other)),
            false => machine.disk.fail_next_sync(),
        }
        let answers = store.group([state(1, 2), state(9, 9), outbox()]);
        // The one that is refused, too: what its refusal rests on is not on disk.
        assert!(answers.iter().all(is_io), "{answers:?}");
        let read = store.records.get(&keys::outbox(&agent(), 1));
        assert!(read.unwrap().is_none(), "nobody reads what is not on disk");
        machine.disk.fail_writes(None);
        let conflict = store.group([state(1, 2)]).remove(0);
        assert!(
            matches!(conflict, Err(CommitError::Conflict { stored: 2, .. })),
            "{conflict:?}"
        );
        let next = store.one(outbox());
        assert_eq!((next.position, &next.seqs[..]), (4, &[2][..]));
        let store = machine.after_crash(1).open().unwrap();
        assert_eq!(store.recovery.position, 4);
        for seq in [1, 2] {
            let outbox = store.records.get(&keys::outbox(&agent(), seq));
            assert!(outbox.unwrap().is_some());
        }
    }
}

#[test]
fn a_full_disk_is_named() {
    let (machine, mut store) = opened();
    machine.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    assert!(is_full(&store.group([state(0, 1)])[0]));
    pass(&mut store, STORE_REVIVE_EVERY);
    assert!(is_full(&store.group([state(0, 1)])[0]));
}

#[test]
fn numbers_that_were_told_are_not_told_again() {
    let (machine, mut store) = opened();
    store.one(outbox());
    let told = store.one(outbox().durability(Durability::Buffered));
    machine.disk.fail_next_sync();
    assert!(is_io(&store.group([outbox()])[0]));
    let next = store.one(outbox());
    assert_eq!((told.position, next.position), (2, 4));
    assert_eq!((&told.seqs[..], &next.seqs[..]), (&[2][..], &[4][..]));
    let found = machine.after_crash(1).open().unwrap();
    assert!(found.contents().unwrap() == store.contents().unwrap());
}

#[test]
fn a_disk_that_stays_broken_is_not_asked_all_the_time() {
    let (machine, mut store) = opened();
    machine.disk.fail_writes(Some(io::ErrorKind::StorageFull));
    store.group([state(0, 1)]);
    let (first, _) = operations(&machine, || store.group([state(0, 1)]));
    assert!(first > 0, "it is tried at once");
    for _ in 0..3 {
        let (taken, answers) = operations(&machine, || store.group([state(0, 1)]));
        assert!(taken == 0 && is_full(&answers[0]), "{answers:?}");
    }
    machine.disk.fail_writes(None);
    pass(&mut store, STORE_REVIVE_EVERY);
    assert_eq!(store.one(outbox()).position, 2);
}

#[test]
fn a_broken_disk_comes_back_without_a_commit() {
    let (machine, mut store) = opened();
    machine.disk.fail_writes(Some(io::ErrorKind::Other));
    store.group([state(0, 1)]);
    assert_eq!(store.committer.patience(), Some(Duration::ZERO));
    pass(&mut store, Duration::ZERO);
    assert_eq!(store.committer.patience(), Some(STORE_REVIVE_EVERY));
    machine.disk.fail_writes(None);
    pass(&mut store, STORE_REVIVE_EVERY);
    assert_eq!(store.committer.patience(), None);
    assert_eq!(synced(&machine), 1);
}

#[test]
fn a_close_tries_a_broken_disk_once_more() {
    let (machine, mut store) = opened();
    machine.disk.fail_writes(Some(io::ErrorKind::Other));
    store.group([state(0, 1)]);
    pass(&mut store, Duration::ZERO);
    machine.disk.fail_writes(None);
    store.close().unwrap();
    assert_eq!(synced(&machine), 1);
}

#[test]
fn a_close_on_a_disk_that_stays_broken_says_so() {
    let (machine, mut store) = opened();
    machine.disk.fail_writes(Some(io::ErrorKind::Other));
    store.group([state(0, 1)]);
    store.queue.close();
    let ended = store.committer.run();
    assert!(matches!(ended, Err(StoreError::Io { .. })), "{ended:?}");
}

#[test]
fn a_panic_is_answered_and_stops_the_engine() {
    let machine = Machine::default();
    let mut plan = machine.plan();
    let traps = Arc::new(Traps::default());
    plan.home = Arc::new(TrapHome {
        inner: plan.home,
        traps: Arc::clone(&traps),
    });
    let mut store = Machine::open_with(&plan).unwrap();
    store.one(state(0, 1).durability(Durability::Buffered));
    traps.read.store(true, Ordering::Relaxed);
    let other = Batch::new().state_put(AgentId::new("b").unwrap(), 0, 1, 1, Bytes::new());
    let tickets = [outbox(), other, outbox()].map(|batch| store.queue.push(batch).unwrap());
    store.queue.close();
    let ended = store.committer.run();
    assert!(matches!(ended, Err(StoreError::Failed { .. })), "{ended:?}");
    for ticket in tickets {
        let answer = ticket.now_or_never().unwrap();
        assert!(
            matches!(answer, Err(CommitError::Failed { .. })),
            "{answer:?}"
        );
    }
    // What was answered before is brought to disk, and nothing of what was not.
    store.committer.close().unwrap();
    assert_eq!(synced(&machine), 1);
}

#[test]
fn a_close_syncs_what_is_behind() {
    let (machine, store) = opened();
    let buffered = state(0, 1).durability(Durability::Buffered);
    let relaxed = state(1, 2).durability(Durability::Relaxed);
    let tickets = [buffered, relaxed].map(|batch| store.queue.push(batch).unwrap());
    store.close().unwrap();
    assert_eq!(synced(&machine), 2);
    let answers = tickets.map(FutureExt::now_or_never);
    assert!(answers.iter().all(|a| matches!(a, Some(Ok(_)))));
}

#[test]
fn a_mark_is_written_when_idle() {
    let (machine, mut store) = opened();
    store.one(state(0, 1));
    let (taken, ()) = operations(&machine, || store.committer.look_after_log());
    assert_eq!(taken, 1);
    let (taken, ()) = operations(&machine, || store.committer.look_after_log());
    assert_eq!(taken, 0, "it stands there");
    // Not while commits wait.
    store.one(state(1, 2));
    let _waiting = store.queue.push(state(2, 3)).unwrap();
    let (taken, ()) = operations(&machine, || store.committer.look_after_log());
    assert_eq!(taken, 0);
}

//! A store on a simulated machine through many lives, each step held against the model and against what was promised.

use std::fmt::Display;
use std::io;
use std::mem;

use std::collections::BTreeMap;

use super::world::{Driven, Machine, Model, batch};
use super::*;
use crate::model::Entropy;
use crate::store::Durability;
use crate::store::keys::Key;
use crate::store::tree::refs::LeafRef;

/// What has happened, and how often.
pub(crate) type Seen = BTreeMap<String, u64>;

/// The disk is gone, and with it the process.
#[derive(Debug)]
pub(crate) struct Cut;

/// A store through many lives.
pub(crate) struct Lives {
    pub(crate) machine: Machine,
    pub(crate) model: Model,
    pub(crate) entropy: Entropy,
    pub(crate) seen: Seen,
    store: Option<Driven>,
    /// What was promised to outlive a power cut.
    durable: u64,
    /// What was promised to outlive the process.
    written: u64,
    /// Whether something is made to fail.
    is_faulty: bool,
    /// Whether the index was made to fail since it worked last.
    is_index_faulty: bool,
    /// Whether the log failed and was not seen to work since.
    is_log_broken: bool,
    /// The operation of the disk that the power is cut at.
    cut_at: u64,
    /// Openings in a row that were cut.
    cut_openings: u32,
    /// Whether the last end was that of the process alone.
    was_killed: bool,
}

impl Lives {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self {
            machine: Machine::default(),
            model: Model::default(),
            entropy,
            seen: Seen::new(),
            store: None,
            durable: 0,
            written: 0,
            is_faulty: false,
            is_index_faulty: false,
            is_log_broken: false,
            cut_at: u64::MAX,
            cut_openings: 0,
            was_killed: false,
        }
    }

    /// The power will be cut at this operation from now on.
    pub(crate) fn cut_after(&mut self, operations: u64) {
        self.cut_at = self.machine.disk.operations() + operations;
        self.machine.disk.crash_at(self.cut_at);
    }

    /// Things may fail from here on, because the test has seen to that.
    pub(crate) fn expect_faults(&mut self) {
        self.is_faulty = true;
    }

    pub(crate) fn store(&mut self) -> &mut Driven {
        self.store.as_mut().expect("it is open")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.store.is_some()
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    fn is_cut(&self) -> bool {
        self.machine.disk.operations() >= self.cut_at
    }

    /// Ends a step in which the power was cut, or that failed for another reason.
    fn ended<E: Display>(&mut self, what: &str, result: Result<(), E>) -> Result<(), Cut> {
        if self.is_cut() {
            self.note(format!("cut: {what}"));
            return Err(Cut);
        }
        if let Err(error) = result {
            assert!(self.is_faulty, "{what}: {error}");
            self.note(format!("failed: {what}"));
        }
        Ok(())
    }

    /// Opens the store, and holds what is there against what was promised and what was decided.
    pub(crate) fn open(&mut self) -> Result<(), Cut> {
        let index_before = self.machine.home.position();
        let store = match self.machine.open() {
            Ok(store) => store,
            Err(error) => {
                self.cut_openings += 1;
                if self.cut_openings > 1 {
                    self.note("cut: opening after a cut opening");
                }
                if self.was_killed {
                    self.note("cut: opening after a kill");
                }
                return self.ended("opening", Err(error));
            }
        };
        self.cut_openings = 0;
        let recovery = store.recovery.clone();
        let (position, promised) = (recovery.position, self.written);
        assert!(
            position >= promised,
            "commit {promised} was promised, the store is at {position}"
        );
        assert!(
            position <= self.model.position(),
            "{position} was not decided"
        );
        let contents = store.contents().unwrap();
        assert!(
            contents == *self.model.at(position),
            "what is there is not what commit {position} had left"
        );
        assert_eq!(recovery.snapshot, None, "no crash damages a snapshot");
        self.model.cut(position);
        (self.durable, self.written) = (position, position);
        (self.is_log_broken, self.is_index_faulty) = (false, false);
        let index_position = store.records.tree().index().position();
        for (what, has) in [
            ("opened: commits were replayed", recovery.replayed > 0),
            ("opened: a torn end", recovery.torn_bytes > 0),
            ("opened: the index made anew", recovery.index.is_some()),
            (
                "opened: the replay was flushed",
                recovery.index.is_none() && index_position > index_before,
            ),
        ] {
            if has {
                self.note(what);
            }
        }
        self.store = Some(store);
        if self.is_cut() {
            return self.ended("opening", Ok::<_, StoreError>(()));
        }
        Ok(())
    }

    /// The process ends where it stands.
    pub(crate) fn kill(&mut self) {
        self.store = None;
        self.machine = self.machine.kill();
        (self.cut_at, self.is_faulty, self.was_killed) = (u64::MAX, false, true);
        self.note("killed");
    }

    /// The power is cut.
    pub(crate) fn power_cut(&mut self) {
        self.store = None;
        self.machine = self.machine.after_crash(self.entropy.next_u64());
        self.written = self.durable;
        (self.cut_at, self.is_faulty, self.was_killed) = (u64::MAX, false, false);
        self.note("cut");
    }

    /// Commits a group of random batches.
    pub(crate) fn commit_some(&mut self) -> Result<(), Cut> {
        let (mut batches, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=self.entropy.below(3) {
            let batch = batch(&self.entropy, self.model.now());
            expected.push(self.model.commit(&batch));
            batches.push(batch);
        }
        self.commit(batches, expected)
    }

    /// Commits a group, which the model has decided already. The answers must be the model's, unless things fail.
    fn commit(
        &mut self,
        batches: Vec<Batch>,
        expected: Vec<Result<Committed, CommitError>>,
    ) -> Result<(), Cut> {
        let levels: Vec<_> = batches.iter().map(Batch::level).collect();
        let segments = self.count("/log", ".log");
        let before = self.store().committer.position();
        let answers = self.store().group(batches);
        let after = self.store().committer.position();
        let was_refused = after == before && self.model.position() > before;
        if was_refused {
            self.model.cut(before);
        }
        assert_eq!(after, self.model.position());
        let mut failed = Ok(());
        for ((answer, expected), level) in answers.into_iter().zip(expected).zip(levels) {
            match (answer, expected) {
                (Ok(answer), Ok(expected)) if !was_refused => {
                    assert_eq!(answer, expected);
                    self.written = self.written.max(answer.position);
                    if level == Durability::Durable {
                        self.durable = self.durable.max(answer.position);
                    }
                }
                (Err(error @ (CommitError::Io { .. } | CommitError::Full { .. })), _) => {
                    failed = Err(error);
                }
                (Err(answer), Err(expected)) => {
                    assert_eq!(answer.to_string(), expected.to_string())
                }
                (answer, expected) => panic!("{answer:?}, expected {expected:?}"),
            }
        }
        let what = match () {
            () if self.is_log_broken => "bringing the log back",
            () if self.count("/log", ".log") != segments => "beginning a segment",
            () => "committing",
        };
        if let Err(CommitError::Full { .. }) = failed {
            self.note("failed: no room");
        }
        self.is_log_broken = failed.is_err();
        self.ended(what, failed)
    }

    /// How many files with this ending there are in a folder of the store.
    fn count(&self, folder: &str, ending: &str) -> usize {
        let folder = format!("/data/store{folder}/");
        let files = self.machine.disk.files();
        let names = files.iter().filter_map(|(path, _)| path.to_str());
        names
            .filter(|name| name.starts_with(&folder) && name.ends_with(ending))
            .count()
    }

    fn leaves(&mut self) -> BTreeMap<Key, LeafRef> {
        let mut leaves = BTreeMap::new();
        let index = self.store().records.tree().index();
        let walked = index.walk(&mut |first, leaf| {
            leaves.insert(first.to_vec(), leaf);
            Ok(())
        });
        walked.unwrap();
        leaves
    }

    /// Brings what was committed into the tree.
    pub(crate) fn flush(&mut self) -> Result<(), Cut> {
        let before = self.leaves();
        let flushed = self.store().flush();
        let what = match () {
            () if self.is_index_faulty => "mending the index",
            () => "flushing",
        };
        if flushed.is_ok() {
            // A leaf that stands elsewhere and is the same was moved.
            let is_moved = |(first, leaf): (&Key, &LeafRef)| {
                let earlier = before.get(first);
                earlier.is_some_and(|it| it.crc == leaf.crc && it.pack != leaf.pack)
            };
            let after = self.leaves();
            let is_alone = |leaf: &LeafRef| leaf.records == 1 && leaf.bytes > 4096;
            if after.iter().any(is_moved) {
                self.note("flushed: a pack was emptied");
            }
            if after.values().any(is_alone) {
                self.note("flushed: large values");
            }
            if self.count("/packs", ".pack") > 2 {
                self.note("flushed: several packs");
            }
            if self.count("/log", ".log") > 2 {
                self.note("flushed: several segments");
            }
            self.is_index_faulty = false;
        }
        self.ended(what, flushed)
    }

    /// Takes a snapshot, behind a flush.
    pub(crate) fn snapshot(&mut self) -> Result<(), Cut> {
        self.flush()?;
        let packs = self.count("/packs", ".pack");
        let taken = self.store().flusher.snapshot();
        let what = match () {
            () if self.count("/packs", ".pack") < packs => "removing packs",
            () => "taking a snapshot",
        };
        if taken.is_ok() {
            self.note(format!("done: {what}"));
        }
        self.ended(what, taken)
    }

    /// What is done while nobody commits.
    pub(crate) fn idle(&mut self) -> Result<(), Cut> {
        let segments = self.count("/log", ".log");
        let store = self.store();
        store.clock.advance(1_000);
        if store.committer.patience() == Some(Duration::ZERO) {
            store.committer.tend();
        }
        store.committer.look_after_log();
        let what = match () {
            () if self.count("/log", ".log") < segments => "removing segments",
            () => "idling",
        };
        self.note(format!("done: {what}"));
        self.ended(what, Ok::<_, StoreError>(()))
    }

    /// Lets something fail from here on, until [`heal`](Self::heal).
    pub(crate) fn fault(&mut self) {
        self.is_faulty = true;
        let disk = &self.machine.disk;
        let what = match self.entropy.below(4) {
            0 => {
                disk.fail_next_sync();
                "a sync"
            }
            1 => {
                disk.fail_writes(Some(io::ErrorKind::Other));
                "writes"
            }
            2 => {
                let used: u64 = disk.files().iter().map(|(_, size)| size).sum();
                disk.full_at_bytes(used + self.entropy.below(12_000));
                "room"
            }
            _ => {
                self.machine.home.fail(true);
                self.is_index_faulty = true;
                "the index"
            }
        };
        self.note(format!("fault: {what}"));
    }

    /// Lets everything work again.
    pub(crate) fn make_room(&self) {
        let disk = &self.machine.disk;
        disk.fail_writes(None);
        disk.full_at_bytes(u64::MAX);
        disk.full_from(None);
        self.machine.home.fail(false);
    }

    /// Holds what is there against the model.
    pub(crate) fn compare(&mut self) {
        let contents = self.store().contents().unwrap();
        let shown = crate::store::apply::counters(&contents).unwrap().position;
        assert!(
            contents == *self.model.at(shown),
            "it shows what no commit has left"
        );
        // What is decided while the log is broken is shown when it is on disk.
        if !self.store().committer.is_broken() {
            assert_eq!(
                shown,
                self.model.position(),
                "it forgot what it has decided"
            );
        }
    }

    /// Lets everything work again: the store must do so by itself.
    pub(crate) fn heal(&mut self) -> Result<(), Cut> {
        self.make_room();
        // The first may still meet a sync that was to fail; the second finds the log broken, and brings it back.
        for _ in 0..2 {
            self.idle()?;
            let batch = Batch::new();
            let expected = self.model.commit(&batch);
            self.commit(vec![batch], vec![expected])?;
        }
        self.is_faulty = mem::take(&mut self.is_log_broken);
        assert!(!self.is_faulty, "the log does not come back");
        self.flush()?;
        self.compare();
        self.note("healed");
        Ok(())
    }

    /// Closes the store in order and opens it again.
    pub(crate) fn restart(&mut self) -> Result<(), Cut> {
        if self.is_faulty {
            self.heal()?;
        }
        let closed = self.store.take().expect("it is open").close();
        self.ended("closing", closed)?;
        let last = self.model.position();
        (self.durable, self.written) = (last, last);
        self.note("closed");
        self.open()?;
        assert_eq!(self.store().recovery.position, last);
        assert_eq!(self.store().recovery.replayed, 0, "it ended in order");
        Ok(())
    }

    /// One random step.
    pub(crate) fn step(&mut self) -> Result<(), Cut> {
        match self.entropy.below(24) {
            0 | 1 => self.flush(),
            2 | 3 => self.snapshot(),
            4 | 5 => self.idle(),
            6 | 7 if !self.is_faulty => {
                self.fault();
                Ok(())
            }
            6..10 if self.is_faulty => self.heal(),
            10 if self.entropy.below(3) == 0 => self.restart(),
            _ => self.commit_some(),
        }
    }
}

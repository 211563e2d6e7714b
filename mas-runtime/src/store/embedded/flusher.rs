//! What brings commits into the tree, off their path, and takes snapshots so that old segments of the log can go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::flushing::Flushing;
use super::records::Records;
use crate::model::limits::STORE_REVIVE_EVERY;
use crate::store::disk::Disk;
use crate::store::keys::Key;
use crate::store::log::SpareMaker;
use crate::store::tree::RecordChanges;
use crate::store::tree::flush::{Flushed, Flusher as TreeFlusher};
use crate::store::tree::frozen::SnapshotIndex;
use crate::store::tree::pack::StoreId;
use crate::store::tree::refs::{IndexHome, LeafIndex, LeafRef};
use crate::store::tree::snapshot;
use crate::store::{Corrupt, StoreError};

/// What the log may take beyond a sixteenth of the records before a snapshot lets old segments go, in bytes.
const LOG_BYTES_ALLOWED: u64 = 32 * 1024 * 1024;
/// What packs that nobody needs may take beyond a sixteenth of the records before a snapshot lets them go, in bytes.
const EMPTY_BYTES_ALLOWED: u64 = 8 * 1024 * 1024;
/// Changes to the index since the last snapshot that are kept in memory, in case that it fails.
const REF_CHANGES_MAX: usize = 65_536;

/// What brings commits into the tree. It lives on its own thread, or on a test's.
///
/// # Failures
/// - When the disk fails or is full, what was frozen stays so and is tried again.
/// - When the index fails, it is set aside, and made anew from the last snapshot and what has changed since.
#[derive(Debug)]
pub(super) struct Flusher {
    parts: Parts,
    tree: TreeFlusher,
    /// What has changed in the index since the last snapshot.
    since_snapshot: BTreeMap<Key, Option<LeafRef>>,
    /// The commit that the last snapshot reflects.
    snapshot_position: u64,
    /// Whether the index failed and was not replaced yet.
    is_index_broken: bool,
    /// Makes segments of the log ahead of time.
    spare: Option<SpareMaker>,
}

/// What a flusher works with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) records: Arc<Records>,
    pub(super) flushing: Arc<Flushing>,
    pub(super) home: Arc<dyn IndexHome>,
    /// The file of the snapshot.
    pub(super) snapshot: PathBuf,
    pub(super) store: StoreId,
}

impl Flusher {
    /// A flusher of a tree whose last snapshot reflects `snapshot_position`, and whose index has changed since as told.
    pub(super) const fn new(
        parts: Parts,
        tree: TreeFlusher,
        snapshot_position: u64,
        since_snapshot: BTreeMap<Key, Option<LeafRef>>,
    ) -> Self {
        Self {
            parts,
            tree,
            since_snapshot,
            snapshot_position,
            is_index_broken: false,
            spare: None,
        }
    }

    /// Prepares segments of the log from here on.
    pub(super) fn prepares(&mut self, spare: SpareMaker) {
        self.spare = Some(spare);
    }

    /// Works until the committer has ended, then flushes what is left and takes a last snapshot.
    pub(super) fn run(&mut self) -> Result<(), StoreError> {
        let mut patience = None;
        loop {
            let has_ended = self.parts.flushing.wait_asked(patience);
            if has_ended {
                return self.finish();
            }
            let turned = self.turn();
            patience = turned.is_err().then_some(STORE_REVIVE_EVERY);
            if let Err(error) = turned {
                tracing::error!(%error, cause = ?error, "the store can't bring commits into its tree");
            }
        }
    }

    /// Brings what is frozen into the tree, and takes a snapshot if one is due.
    ///
    /// # Errors
    /// As the disk says: the same is to be tried again. [`StoreError::Corrupt`] when what a change builds on is damaged.
    pub(super) fn turn(&mut self) -> Result<(), StoreError> {
        let turned = self.try_turn();
        self.parts.flushing.tell(turned.as_ref().map(drop));
        self.answer_waiting(&turned);
        turned
    }

    fn try_turn(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        if self.parts.flushing.is_renewal_asked() {
            let renewed = self.renew_packs();
            self.parts.flushing.tell_renewed(renewed.clone());
            match renewed {
                // A leaf that is damaged stands in nobody else's way.
                Ok(()) | Err(StoreError::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_snapshot_due() {
            self.snapshot()?;
        }
        if let Some(Err(error)) = self.spare.as_ref().map(SpareMaker::prepare) {
            // The log makes its own segment when it needs one, and says what is wrong.
            tracing::warn!(%error, "the store can't prepare a segment of its log");
        }
        Ok(())
    }

    /// Brings what is frozen into the tree.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.mend_index()?;
        let Some(frozen) = self.parts.records.frozen() else {
            return Ok(());
        };
        let flushed = self
            .tree
            .write(self.parts.records.tree(), &frozen.changes)?;
        let changes = ref_changes(&flushed);
        let put = self.parts.records.put_into_force(|tree| {
            let put = self.tree.put_into_force(tree, flushed, frozen.position);
            // Others must not read an index of which nothing can be said.
            put.inspect_err(|_| self.is_index_broken = true)
        });
        if let Err(error) = put {
            // At once: nobody can read until there is another. What can't be done now is tried again.
            if let Err(error) = self.mend_index() {
                tracing::error!(%error, "the store can't make its index anew yet");
            }
            return Err(error);
        }
        self.since_snapshot.extend(changes);
        Ok(())
    }

    /// Writes every leaf anew that shares its pack with bytes that nobody needs, and takes a snapshot, with which those packs
    /// and the log before it go: what no value says any more is in no file then.
    ///
    /// # Errors
    /// As those of [`turn`](Self::turn). [`StoreError::Closed`] when all has ended before.
    pub(super) fn renew_packs(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let records = Arc::clone(&self.parts.records);
        self.tree.begin_renewal(records.tree())?;
        let emptied = self.empty_renewed(&records);
        self.tree.end_renewal();
        emptied?;
        self.snapshot()
    }

    fn empty_renewed(&mut self, records: &Records) -> Result<(), StoreError> {
        while !self.tree.is_renewed(records.tree()) {
            if self.parts.flushing.is_ended() {
                return Err(StoreError::Closed);
            }
            // Commits go on meanwhile, and wait for room.
            self.flush()?;
            self.parts.flushing.tell(Ok(()));
            let before = self.tree.left_to_renew(records.tree());
            self.move_leaves()?;
            if self.tree.left_to_renew(records.tree()) >= before {
                let reason = "a leaf of it can't be read, so it can't be renewed";
                return Err(Corrupt::new("pack", reason).into());
            }
            if self.since_snapshot.len() > REF_CHANGES_MAX {
                self.snapshot()?;
            }
        }
        Ok(())
    }

    /// Moves leaves out of packs that are to go.
    fn move_leaves(&mut self) -> Result<(), StoreError> {
        self.mend_index()?;
        let records = &self.parts.records;
        let flushed = self.tree.write(records.tree(), &RecordChanges::new())?;
        let changes = ref_changes(&flushed);
        let put = records.alone(|tree| {
            let position = tree.index().position();
            let put = self.tree.put_into_force(tree, flushed, position);
            put.inspect_err(|_| self.is_index_broken = true)
        });
        put?;
        self.since_snapshot.extend(changes);
        Ok(())
    }

    /// Makes a failed index anew.
    fn mend_index(&mut self) -> Result<(), StoreError> {
        if !self.is_index_broken {
            return Ok(());
        }
        let (home, records) = (&self.parts.home, &self.parts.records);
        let position = records.tree().index().position();
        // What its end says does not matter any more.
        let _ = records.tree().index().close();
        let aside = home.set_aside()?;
        let index = home.open()?;
        let disk = &*self.parts.disk;
        let restored = restore(disk, &self.parts.snapshot, self.parts.store, &*index)?;
        restored.ok_or_else(|| Corrupt::new("snapshot", "it is not there"))?;
        let changes: Vec<_> = self
            .since_snapshot
            .iter()
            .map(|(first, leaf)| (first.clone(), *leaf))
            .collect();
        index.apply(&changes, position)?;
        records.alone(|tree| tree.replace_index(index));
        self.is_index_broken = false;
        tracing::warn!(
            aside,
            "the store's index failed, was set aside and made anew"
        );
        Ok(())
    }

    /// Whether the log or packs have grown so much that it is time for a snapshot.
    pub(super) fn is_snapshot_due(&self) -> bool {
        let used = self.parts.records.tree().packs().used();
        let live: u64 = used.values().map(|used| used.live).sum();
        let empty: u64 = used
            .values()
            .filter(|used| used.live == 0)
            .map(|used| used.size)
            .sum();
        self.parts.flushing.log_bytes() > LOG_BYTES_ALLOWED + live / 16
            || empty > EMPTY_BYTES_ALLOWED + live / 16
            || self.since_snapshot.len() > REF_CHANGES_MAX
    }

    /// Takes a snapshot, and lets go of what it makes superfluous.
    pub(super) fn snapshot(&mut self) -> Result<(), StoreError> {
        let tree = self.parts.records.tree();
        let index = tree.index();
        let position = index.position();
        let empty = self.tree.empty(tree);
        if position != self.snapshot_position || !self.since_snapshot.is_empty() {
            snapshot::write(
                &*self.parts.disk,
                &self.parts.snapshot,
                self.parts.store,
                &*index,
            )?;
            self.snapshot_position = position;
            self.since_snapshot.clear();
            self.parts.flushing.release(position);
        }
        tree.packs().remove(&empty)
    }

    /// Gives views to those who wait for one, or says why there is none.
    fn answer_waiting(&mut self, worked: &Result<(), StoreError>) {
        for waiting in self.parts.flushing.take_waiting() {
            let view = worked.clone().and_then(|()| self.view());
            // Who does not wait any more does not want it.
            let _ = waiting.send(view);
        }
    }

    /// All that is stored, as it is now, to be read while this goes on.
    pub(super) fn view(&mut self) -> Result<Records, StoreError> {
        self.snapshot()?;
        let Parts { disk, records, .. } = &self.parts;
        let index = SnapshotIndex::open(&**disk, &self.parts.snapshot, self.parts.store)?;
        let index = index.ok_or_else(|| Corrupt::new("snapshot", "it is not there"))?;
        Ok(records.frozen_at(Arc::new(index)))
    }

    /// Flushes what is left and takes a snapshot of all.
    fn finish(&mut self) -> Result<(), StoreError> {
        let finished = self.flush().and_then(|()| self.snapshot());
        self.answer_waiting(&finished);
        finished
    }
}

/// What a flush changes in the index.
fn ref_changes(flushed: &Flushed) -> Vec<(Key, Option<LeafRef>)> {
    let changes = flushed.changes();
    changes
        .map(|(first, leaf)| (first.clone(), *leaf))
        .collect()
}

/// Fills an empty index from a snapshot, whose commit it reflects then. Gives that: `None` when there is no snapshot.
pub(super) fn restore(
    disk: &dyn Disk,
    path: &Path,
    store: StoreId,
    index: &dyn LeafIndex,
) -> Result<Option<u64>, StoreError> {
    /// Entries of one batch of changes to the index.
    const AT_A_TIME: usize = 4096;
    let mut changes = Vec::new();
    let position = snapshot::read(disk, path, store, &mut |first, leaf| {
        changes.push((first.to_vec(), Some(leaf)));
        if changes.len() >= AT_A_TIME {
            // It reflects no commit until all of it is there.
            index.apply(&changes, 0)?;
            changes.clear();
        }
        Ok(())
    })?;
    if let Some(position) = position {
        index.apply(&changes, position)?;
    }
    Ok(position)
}

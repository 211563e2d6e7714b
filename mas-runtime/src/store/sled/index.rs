//! The index of the embedded engine: sled's tree, and what happens when it fails.
//!
//! # What makes it durable
//! sled's `flush` hands its buffers to the system and waits with `sync_file_range`, which does not reach through the disk's
//! own cache. So [`sync`](DurableIndex::sync) follows with a real `fdatasync` of sled's file, and notes the position.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;

use super::tip::Tip;
use super::tree::Tree;
use crate::store::StoreError;
use crate::store::index::{Changes, DurableIndex, EntryVisitor, Index, KeyVisitor};
use crate::store::keys::KeyRange;

/// What brings the content of a file to disk: [`File::sync_data`], unless a test watches it or lets it fail.
pub(super) type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// Where the index is kept, how much memory it may take, and what brings it to disk.
#[derive(Clone)]
pub(super) struct Place {
    /// The folder of sled's files.
    pub(super) dir: PathBuf,
    /// The file that notes the last position on disk.
    pub(super) tip: PathBuf,
    /// Memory of sled's cache.
    pub(super) cache_bytes: u64,
    /// Called for each of sled's files, each time that it must be on disk.
    pub(super) sync: SyncFile,
}

/// The index. The committer is its only writer.
pub(super) struct SledIndex {
    place: Place,
    /// The tree, or why it is gone.
    tree: RwLock<Result<Tree, StoreError>>,
    /// The note of the last position on disk.
    tip: Mutex<Tip>,
}

impl SledIndex {
    /// Opens the index and checks all of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system refuses; [`Corrupt`](StoreError::Corrupt) or [`Failed`](StoreError::Failed) when
    /// what is there can't be trusted.
    pub(super) fn open(place: Place) -> Result<Self, StoreError> {
        let (tip, noted) = open_tip(&place)?;
        let tree = Tree::open(&place, noted)?;
        let index = Self {
            place,
            tree: RwLock::new(Ok(tree)),
            tip: Mutex::new(tip),
        };
        // What a killed process left with the system is readable from here on: it must not be lost by a power cut.
        index.sync()?;
        Ok(index)
    }

    /// Reads the tree as it is between two groups.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A panic of sled never leaves `call`, and ours do not happen while the tree is half changed.
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        match &*tree {
            Ok(tree) => read(tree),
            Err(error) => Err(error.clone()),
        }
    }

    fn tree(&self) -> RwLockWriteGuard<'_, Result<Tree, StoreError>> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a tree that has failed, and says what that means.
    fn give_up(&self, error: StoreError) -> StoreError {
        let mut slot = self.tree();
        let error = match std::mem::replace(&mut *slot, Err(StoreError::Closed)) {
            Ok(tree) => tree.give_up(error),
            Err(earlier) => earlier,
        };
        *slot = Err(error.clone());
        error
    }
}

fn open_tip(place: &Place) -> Result<(Tip, u64), StoreError> {
    Tip::open(&place.tip).map_err(|e| StoreError::io("open the note of its last sync", e))
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.with(|tree| tree.get(key))
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        self.with(|tree| tree.scan(range, visit))
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        self.with(|tree| tree.scan_keys(range, visit))
    }
}

impl DurableIndex for SledIndex {
    fn apply(&self, changes: &Changes, position: u64) -> Result<(), StoreError> {
        // All that must be read is read before the first write, so that a damaged page can't stop a group half way.
        let plan = self.with(|tree| tree.plan(changes, position))?;
        let applied = match &mut *self.tree() {
            Ok(tree) => tree.apply(plan),
            Err(error) => Err(error.clone()),
        };
        applied.map_err(|error| self.give_up(error))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.with(Tree::flush).map_err(|error| match error {
            // The engine stops, and nothing is written through the tree any more: it still reads well.
            StoreError::Io { .. } if !error.is_full() => error,
            error => self.give_up(error),
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        let synced = self.with(|tree| tree.sync().map(|()| tree.position()))?;
        let mut tip = self.tip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = tip.note(synced) {
            // Only damage that comes later would show less well.
            tracing::warn!(%error, "the store can't note the position of its last sync");
        }
        Ok(())
    }

    fn revive(&self) -> Result<(), StoreError> {
        let mut slot = self.tree();
        match &*slot {
            Ok(_) => return Ok(()),
            Err(StoreError::Io { .. }) => {}
            Err(error) => return Err(error.clone()),
        }
        let (_, noted) = open_tip(&self.place)?;
        let tree = Tree::open(&self.place, noted)?;
        let synced = tree.sync();
        *slot = match synced {
            Ok(()) => Ok(tree),
            // Another one would prove nothing, so nobody may ask for it.
            Err(error) => Err(error.into_failed()),
        };
        slot.as_ref().map(drop).map_err(Clone::clone)
    }

    fn close(&self) -> Result<(), StoreError> {
        match std::mem::replace(&mut *self.tree(), Err(StoreError::Closed)) {
            Ok(tree) => tree.close(),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store's index did not close well");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_sync_that_failed_while_reviving_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let sync = move |_: &File| {
            let failed = failing.load(Ordering::Relaxed);
            if failed {
                Err(io::ErrorKind::Other.into())
            } else {
                Ok(())
            }
        };
        let index = SledIndex::open(Place {
            dir: dir.path().join("index"),
            tip: dir.path().join("tip"),
            cache_bytes: 1024 * 1024,
            sync: Arc::new(sync),
        });
        let index = index.unwrap();
        let gone = Err(StoreError::io("write", io::ErrorKind::StorageFull.into()));
        let tree = std::mem::replace(&mut *index.tree(), gone);
        tree.unwrap().close().unwrap();
        for fails_now in [true, false] {
            fails.store(fails_now, Ordering::Relaxed);
            let revived = index.revive();
            assert!(
                matches!(revived, Err(StoreError::Failed { .. })),
                "{revived:?}"
            );
        }
        let read = index.get(b"key");
        assert!(matches!(read, Err(StoreError::Failed { .. })), "{read:?}");
    }
}

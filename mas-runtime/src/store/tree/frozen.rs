//! A snapshot as an index that is only read, without taking it into memory.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pack::StoreId;
use super::refs::{LeafEntry, LeafIndex, RefChanges, RefVisitor};
use super::snapshot::{Reader, damaged, entry};
use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use crate::store::keys::Key;

/// A snapshot as an index. It keeps the first key of each block and the block that was read last, about a thousandth of the
/// file; and the file open, so that it can be read after another snapshot has taken its name.
pub(crate) struct SnapshotIndex {
    file: Arc<dyn DiskFile>,
    size: u64,
    position: u64,
    /// The first key of each block, and where the block begins.
    blocks: Vec<(Key, u64)>,
    /// The number of the block that was read last, and its entries.
    latest: Mutex<(usize, Arc<Vec<LeafEntry>>)>,
}

impl SnapshotIndex {
    /// Opens a snapshot and reads it to its end: `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged or its keys do not ascend.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        store: StoreId,
    ) -> Result<Option<Self>, StoreError> {
        let failed = |e| StoreError::io("open the snapshot", e);
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let size = file.size().map_err(failed)?;
        let mut reader = Reader::new(&*file, 0, size);
        let position = reader.header(store)?;
        let (mut blocks, mut count) = (Vec::new(), 0);
        let mut before: Option<Key> = None;
        loop {
            let at = reader.at();
            let Some(block) = reader.block()? else { break };
            let entries = entries(&block)?;
            for (first, _) in &entries {
                if before.as_ref().is_some_and(|before| before >= first) {
                    return Err(damaged("its keys do not ascend"));
                }
                before = Some(first.clone());
            }
            blocks.extend(entries.first().map(|(first, _)| (first.clone(), at)));
            count += entries.len() as u64;
        }
        reader.end(count)?;
        Ok(Some(Self {
            file,
            size,
            position,
            blocks,
            latest: Mutex::new((usize::MAX, Arc::default())),
        }))
    }

    fn latest(&self) -> MutexGuard<'_, (usize, Arc<Vec<LeafEntry>>)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of a block.
    fn block(&self, number: usize) -> Result<Arc<Vec<LeafEntry>>, StoreError> {
        let mut latest = self.latest();
        if latest.0 != number {
            let Some((_, at)) = self.blocks.get(number) else {
                return Ok(Arc::default());
            };
            let block = Reader::new(&*self.file, *at, self.size).block()?;
            let block = block.ok_or_else(|| damaged("a block is not there any more"))?;
            *latest = (number, Arc::new(entries(&block)?));
        }
        Ok(Arc::clone(&latest.1))
    }

    /// How many blocks begin with `key` or before.
    fn blocks_to(&self, key: &[u8]) -> usize {
        self.blocks
            .partition_point(|(first, _)| first.as_slice() <= key)
    }
}

/// The entries of a block.
fn entries(mut block: &[u8]) -> Result<Vec<LeafEntry>, StoreError> {
    let mut entries = Vec::new();
    while !block.is_empty() {
        let (first, leaf, rest) = entry(block).ok_or_else(|| damaged("an entry is not whole"))?;
        entries.push((first.to_vec(), leaf));
        block = rest;
    }
    Ok(entries)
}

impl LeafIndex for SnapshotIndex {
    fn position(&self) -> u64 {
        self.position
    }

    fn floor(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        let Some(number) = self.blocks_to(key).checked_sub(1) else {
            return Ok(None);
        };
        let entries = self.block(number)?;
        let behind = entries.partition_point(|(first, _)| first.as_slice() <= key);
        Ok(behind
            .checked_sub(1)
            .and_then(|at| entries.get(at).cloned()))
    }

    fn above(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        let next = self.blocks_to(key);
        if let Some(number) = next.checked_sub(1) {
            let entries = self.block(number)?;
            let behind = entries.partition_point(|(first, _)| first.as_slice() <= key);
            if let Some(found) = entries.get(behind) {
                return Ok(Some(found.clone()));
            }
        }
        Ok(self.block(next)?.first().cloned())
    }

    fn walk(&self, visit: &mut RefVisitor<'_>) -> Result<(), StoreError> {
        for number in 0..self.blocks.len() {
            for (first, leaf) in &*self.block(number)? {
                visit(first, *leaf)?;
            }
        }
        Ok(())
    }

    fn apply(&self, _: &RefChanges, _: u64) -> Result<(), StoreError> {
        Err(StoreError::failed("a snapshot is not changed"))
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl fmt::Debug for SnapshotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotIndex")
            .field("position", &self.position)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::tree::refs::{IndexHome, LeafRef};
    use crate::store::tree::sim_index::SimIndexHome;
    use crate::store::tree::snapshot;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn it_answers_as_the_index_did(keys in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..4), 0..40), long in 0..3_usize, asked in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 1..40)) {
            // Long keys, so that a few entries fill a block.
            let long = long * 20_000;
            let stored: BTreeMap<Key, LeafRef> = keys.into_iter().enumerate().map(|(n, mut key)| {
                key.resize(key.len() + long, 7);
                (key, LeafRef { pack: n as u64, offset: 1, bytes: 2, crc: 3, records: 4 })
            }).collect();
            let index = SimIndexHome::default().open().unwrap();
            let changes: Vec<_> = stored.iter().map(|(key, leaf)| (key.clone(), Some(*leaf))).collect();
            index.apply(&changes, 9).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("snapshot");
            prop_assert!(SnapshotIndex::open(&RealDisk, &path, [1; 16]).unwrap().is_none());
            snapshot::write(&RealDisk, &path, [1; 16], &*index).unwrap();
            let frozen = SnapshotIndex::open(&RealDisk, &path, [1; 16]).unwrap().unwrap();
            prop_assert_eq!(frozen.position(), 9);
            let entry = |(key, leaf): (&Key, &LeafRef)| (key.clone(), *leaf);
            for key in asked.iter().chain(stored.keys()) {
                prop_assert_eq!(frozen.floor(key).unwrap(), stored.range(..=key.clone()).next_back().map(entry));
                prop_assert_eq!(frozen.above(key).unwrap(), stored.range((Excluded(key.clone()), Unbounded)).next().map(entry));
            }
            let mut walked = BTreeMap::new();
            frozen.walk(&mut |first, leaf| {
                walked.insert(first.to_vec(), leaf);
                Ok(())
            }).unwrap();
            prop_assert_eq!(walked, stored);
        }
    }
}

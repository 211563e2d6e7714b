//! What the log has brought together: a tree of leaves, whose index can be made anew.
//!
//! Records stand in [leaves](leaf), sorted runs of about 16 KiB; leaves stand in [packs](pack), files that are appended to
//! and never changed; an [index](refs) says where the leaf of a key is. A [flush](flush) takes many changes at once, writes
//! each leaf that they touch anew and moves the index on in one batch. So the index is small (one entry for a hundred
//! records), and everything else is written in one stream. A value of more than [`ALONE_BYTES`] is a leaf of its own, which
//! its neighbours' changes do not touch.
//!
//! A [snapshot](snapshot) is a copy of the index in one file. The index may be lost: the snapshot and the log make it anew.
//! What no leaf needs any more leaves its pack as garbage; packs that are mostly garbage are emptied with the next flush and
//! removed with the next snapshot.
//!
//! | file | holds |
//! |---|---|
//! | `leaf` | the bytes of a leaf |
//! | `pack` | the files of leaves |
//! | `refs` | where a leaf is, and the trait of the index |
//! | `flush` | changes into leaves |
//! | `snapshot` | the index in a file |
//! | `frozen` | that file as an index |
//! | `sim_index` | an index that loses its latest batches, for tests |

pub(crate) mod flush;
pub(crate) mod frozen;
pub(crate) mod leaf;
pub(crate) mod pack;
pub(crate) mod refs;
#[cfg(test)]
pub(crate) mod sim_index;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use self::leaf::Leaf;
use self::pack::Packs;
use self::refs::{LeafEntry, LeafIndex, LeafRef};
use super::StoreError;
use super::keys::{Key, KeyRange};

/// Largest value that stands in a leaf with others, in bytes.
pub(crate) const ALONE_BYTES: usize = 4096;

/// What changes records of the tree: the new value of each key, or `None` where it goes.
pub(crate) type RecordChanges = BTreeMap<Key, Option<Bytes>>;

/// The tree as it is read. What changes it is a [`Flusher`](flush::Flusher), whose last step must not run beside a read.
pub(crate) struct Tree {
    /// In place of one that has failed comes another.
    index: RwLock<Arc<dyn LeafIndex>>,
    packs: Arc<Packs>,
    cache: Cache<(u64, u64), Leaf, LeafWeight>,
}

/// How far a read may go.
#[derive(Debug)]
pub(crate) enum Reach {
    /// To the disk: it may block.
    Disk,
    /// As far as memory goes, for so many steps that are left: it takes some microseconds.
    Memory(Cell<u32>),
}

impl Reach {
    /// Leaves and steps of a scan that a read from memory takes.
    const STEPS: u32 = 16;

    pub(crate) const fn memory() -> Self {
        Self::Memory(Cell::new(Self::STEPS))
    }

    /// Takes a step, if that may be.
    pub(crate) fn step(&self) -> Result<(), StoreError> {
        let Self::Memory(left) = self else {
            return Ok(());
        };
        let next = left.get().checked_sub(1).ok_or_else(too_far)?;
        left.set(next);
        Ok(())
    }
}

/// What a read answers with that would have to go further than it may.
pub(crate) fn too_far() -> StoreError {
    StoreError::io("read from memory alone", io::ErrorKind::WouldBlock.into())
}

/// Whether a read would have had to go further than it might.
pub(crate) fn is_too_far(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

/// A part of a range, read.
pub(crate) struct Chunk<T> {
    pub(crate) entries: Vec<T>,
    /// Where the range goes on; `None` when the tree holds no more of it.
    pub(crate) rest: Option<Key>,
}

#[derive(Clone)]
struct LeafWeight;

impl Weighter<(u64, u64), Leaf> for LeafWeight {
    fn weight(&self, _: &(u64, u64), leaf: &Leaf) -> u64 {
        // What the cache itself takes for one.
        const OVERHEAD_BYTES: u64 = 128;
        leaf.size() as u64 + OVERHEAD_BYTES
    }
}

impl Tree {
    /// A tree over an index and its packs, that keeps at most `cache_bytes` of leaves in memory.
    pub(crate) fn new(index: Arc<dyn LeafIndex>, packs: Arc<Packs>, cache_bytes: u64) -> Self {
        const LEAF_BYTES_EXPECTED: u64 = 8 * 1024;
        let items = (cache_bytes / LEAF_BYTES_EXPECTED) as usize;
        let cache = Cache::with_weighter(items, cache_bytes, LeafWeight);
        Self {
            index: RwLock::new(index),
            packs,
            cache,
        }
    }

    pub(crate) fn index(&self) -> Arc<dyn LeafIndex> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another index with the same content. No read may run beside it.
    pub(crate) fn replace_index(&self, index: Arc<dyn LeafIndex>) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    pub(crate) const fn packs(&self) -> &Arc<Packs> {
        &self.packs
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8], reach: &Reach) -> Result<Option<Bytes>, StoreError> {
        match self.index().floor(key)? {
            None => Ok(None),
            Some((first, leaf)) if is_alone(leaf) && first != key => Ok(None),
            Some((first, leaf)) => Ok(self.leaf(&first, leaf, reach)?.get(key)),
        }
    }

    /// Reads a part of a range: the entries of at least one leaf, unless there are none, and of further ones until
    /// `bytes_max` is passed.
    pub(crate) fn chunk(
        &self,
        range: &KeyRange,
        bytes_max: usize,
        reach: &Reach,
    ) -> Result<Chunk<(Key, Bytes)>, StoreError> {
        let mut bytes = 0;
        self.walk(range, |first, leaf_ref, entries| {
            let leaf = self.leaf(first, leaf_ref, reach)?;
            for (key, value) in within(&leaf, range) {
                bytes += key.len() + value.len();
                entries.push((key.to_vec(), leaf.share(value)));
            }
            Ok(bytes < bytes_max)
        })
    }

    /// As [`chunk`](Self::chunk), but only keys: of large values nothing is read.
    pub(crate) fn chunk_keys(
        &self,
        range: &KeyRange,
        bytes_max: usize,
        reach: &Reach,
    ) -> Result<Chunk<(Key, ())>, StoreError> {
        let mut bytes = 0;
        self.walk(range, |first, leaf_ref, entries| {
            if is_alone(leaf_ref) {
                if range.from.as_slice() <= first && first < range.to.as_slice() {
                    bytes += first.len();
                    entries.push((first.to_vec(), ()));
                }
            } else {
                let leaf = self.leaf(first, leaf_ref, reach)?;
                for (key, _) in within(&leaf, range) {
                    bytes += key.len();
                    entries.push((key.to_vec(), ()));
                }
            }
            Ok(bytes < bytes_max)
        })
    }

    /// Shows the leaves of a range until `visit` has enough.
    fn walk<T>(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&[u8], LeafRef, &mut Vec<T>) -> Result<bool, StoreError>,
    ) -> Result<Chunk<T>, StoreError> {
        let mut entries = Vec::new();
        if range.is_empty() {
            return Ok(Chunk {
                entries,
                rest: None,
            });
        }
        let index = self.index();
        let mut next = match index.floor(&range.from)? {
            None => index.above(&range.from)?,
            found => found,
        };
        while let Some((first, leaf)) = next {
            if first >= range.to {
                break;
            }
            let goes_on = visit(&first, leaf, &mut entries)?;
            next = index.above(&first)?;
            if let Some((first, _)) = &next
                && !goes_on
                && *first < range.to
            {
                return Ok(Chunk {
                    entries,
                    rest: Some(first.clone()),
                });
            }
        }
        Ok(Chunk {
            entries,
            rest: None,
        })
    }

    /// A leaf, from memory where it is there.
    fn leaf(&self, first: &[u8], leaf: LeafRef, reach: &Reach) -> Result<Leaf, StoreError> {
        reach.step()?;
        let place = (leaf.pack, leaf.offset);
        if let Some(kept) = self.cache.get(&place) {
            return Ok(kept);
        }
        if let Reach::Memory(_) = reach {
            return Err(too_far());
        }
        let read = self.packs.read(first, leaf)?;
        self.cache.insert(place, read.clone());
        Ok(read)
    }

    /// Keeps a leaf that was written, in place of one that is no longer needed.
    fn keep(&self, leaf: LeafRef, content: Leaf) {
        self.cache.insert((leaf.pack, leaf.offset), content);
    }

    fn forget(&self, leaf: LeafRef) {
        self.cache.remove(&(leaf.pack, leaf.offset));
    }

    /// Counts what is referred to, and checks that it can be there.
    ///
    /// # Errors
    /// [`Corrupt`](super::Corrupt) when leaves are not in order, or not in their packs.
    pub(crate) fn count_leaves(&self) -> Result<(), StoreError> {
        let mut before: Option<Key> = None;
        self.index().walk(&mut |first, leaf| {
            if before.as_deref().is_some_and(|before| before >= first) {
                return Err(leaf::damaged(first, "it is not in order").into());
            }
            if !self.packs.holds(leaf) {
                let reason = format!("pack {} does not hold it", leaf.pack);
                return Err(leaf::damaged(first, reason).into());
            }
            self.packs.count(leaf, true);
            before = Some(first.to_vec());
            Ok(())
        })
    }
}

/// Whether a leaf holds nothing but one large value, so that its first key is its only one.
const fn is_alone(leaf: LeafRef) -> bool {
    leaf.records == 1 && leaf.bytes as usize > ALONE_BYTES
}

/// The records of a leaf within a range.
fn within<'l>(leaf: &'l Leaf, range: &'l KeyRange) -> impl Iterator<Item = (&'l [u8], &'l [u8])> {
    (leaf.seek(&range.from)..leaf.len())
        .map_while(|index| leaf.record(index))
        .take_while(|(key, _)| *key < range.to.as_slice())
}

/// Finds the leaf that a change of `key` goes to: `None` when there are no leaves.
fn target(index: &dyn LeafIndex, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
    match index.floor(key)? {
        None => index.above(key),
        found => Ok(found),
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("index", &self.index())
            .finish_non_exhaustive()
    }
}

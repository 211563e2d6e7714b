//! Everything that is stored, as reads and decisions see it: the tree, and over it what was committed since.
//!
//! What is committed goes into `active`. When that is large it becomes `frozen`, which the flusher brings into the tree
//! while commits go on. Both are bounded: commits wait while a flush is behind.
//!
//! In a sealed store all of it is sealed: values come in sealed, and are opened for whoever reads.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use bytes::Bytes;

use crate::store::StoreError;
use crate::store::index::{EntryVisitor, Index, KeyVisitor};
use crate::store::keys::{Key, KeyRange};
use crate::store::seal::Sealer;
use crate::store::tree::refs::LeafIndex;
use crate::store::tree::{self, Chunk, Reach, RecordChanges, Tree};

/// Entries of a scan that are gathered at a time.
const GATHERED_ENTRIES: usize = 256;
/// Entries that are looked at for them: what was removed since is passed over.
const EXAMINED_ENTRIES: usize = 4096;
/// Bytes of leaves that a scan reads at a time, at least.
const CHUNK_BYTES: usize = 32 * 1024;
/// What an entry takes in memory beside its key and value, in bytes: about.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// What a scan shows an entry, or a part of it, to.
type Visitor<'v, T> = dyn FnMut(&[u8], T) -> Result<ControlFlow<()>, StoreError> + 'v;

/// Everything that is stored.
#[derive(Debug)]
pub(super) struct Records {
    tree: Tree,
    /// What seals the values; `None` in a plain store.
    sealer: Option<Arc<Sealer>>,
    /// Held to read while the tree is read, to write while a flush is put into force.
    in_force: RwLock<()>,
    since: RwLock<Since>,
}

/// What was committed since the tree was last flushed.
#[derive(Debug, Default)]
struct Since {
    active: RecordChanges,
    /// What `active` takes in memory: about, and never less than what it gained since it was empty.
    active_bytes: usize,
    frozen: Option<Arc<Frozen>>,
}

/// Changes that are on their way into the tree.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) changes: RecordChanges,
    /// The commit that the tree reflects with them.
    pub(super) position: u64,
}

impl Records {
    pub(super) fn new(tree: Tree, sealer: Option<Arc<Sealer>>) -> Self {
        Self {
            tree,
            sealer,
            in_force: RwLock::default(),
            since: RwLock::default(),
        }
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What seals the values; `None` in a plain store.
    pub(super) const fn sealer(&self) -> Option<&Arc<Sealer>> {
        self.sealer.as_ref()
    }

    // Nothing panics while what these guard is half changed.

    fn since(&self) -> RwLockReadGuard<'_, Since> {
        self.since.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_mut(&self) -> RwLockWriteGuard<'_, Since> {
        self.since.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the tree as it is, while it is read.
    fn in_force(&self, reach: &Reach) -> Result<RwLockReadGuard<'_, ()>, StoreError> {
        match (self.in_force.try_read(), reach) {
            (Ok(held), _) => Ok(held),
            (Err(TryLockError::Poisoned(poisoned)), _) => Ok(poisoned.into_inner()),
            (Err(TryLockError::WouldBlock), Reach::Memory(_)) => Err(tree::too_far()),
            (Err(TryLockError::WouldBlock), Reach::Disk) => {
                Ok(self.in_force.read().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }

    /// Makes changes, for all who read from here on. Their values are sealed in a sealed store.
    pub(super) fn publish(&self, changes: impl IntoIterator<Item = (Key, Option<Bytes>)>) {
        let mut since = self.since_mut();
        for (key, value) in changes {
            since.active_bytes +=
                key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD_BYTES;
            since.active.insert(key, value);
        }
    }

    /// What was committed and is not on its way into the tree, in bytes.
    pub(super) fn active_bytes(&self) -> usize {
        self.since().active_bytes
    }

    /// Sends what was committed on its way into the tree, unless other changes are. All of it is on disk, up to `position`.
    pub(super) fn freeze(&self, position: u64) -> bool {
        let mut since = self.since_mut();
        if since.frozen.is_some() || since.active.is_empty() {
            return false;
        }
        let changes = std::mem::take(&mut since.active);
        since.active_bytes = 0;
        since.frozen = Some(Arc::new(Frozen { changes, position }));
        true
    }

    /// What is on its way into the tree.
    pub(super) fn frozen(&self) -> Option<Arc<Frozen>> {
        self.since().frozen.clone()
    }

    /// Puts a flush into force: `put` changes the tree, after which the frozen changes are in it.
    pub(super) fn put_into_force(
        &self,
        put: impl FnOnce(&Tree) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _alone = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        put(&self.tree)?;
        let frozen = self.since_mut().frozen.take();
        // It may be large: others need not wait until it is taken apart.
        drop(_alone);
        drop(frozen);
        Ok(())
    }

    /// Changes what the tree stands on, while nobody reads it.
    pub(super) fn alone<T>(&self, change: impl FnOnce(&Tree) -> T) -> T {
        let _alone = self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(&self.tree)
    }

    /// The value of a key as it is kept.
    pub(super) fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.stored_within(key, &Reach::Disk)
    }

    fn stored_within(&self, key: &[u8], reach: &Reach) -> Result<Option<Bytes>, StoreError> {
        let _in_force = self.in_force(reach)?;
        let changed = self.since().get(key);
        match changed {
            Some(value) => Ok(value),
            None => self.tree.get(key, reach),
        }
    }

    /// Shows the entries of a range as they are kept.
    pub(super) fn scan_stored(
        &self,
        range: &KeyRange,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.scan_stored_within(range, &Reach::Disk, visit)
    }

    fn scan_stored_within(
        &self,
        range: &KeyRange,
        reach: &Reach,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<(), StoreError> {
        let read = |tree: &Tree, range: &KeyRange| tree.chunk(range, CHUNK_BYTES, reach);
        self.scan_with(range, reach, read, Bytes::clone, visit)
    }

    /// All that is stored, as it is now, to be read while this goes on: `index` is that of the tree, frozen. Nobody may
    /// change the tree meanwhile.
    pub(super) fn frozen_at(&self, index: Arc<dyn LeafIndex>) -> Self {
        /// What is read in order is not read twice.
        const CACHE_BYTES: u64 = 1024 * 1024;
        let packs = Arc::new(self.tree.packs().pinned());
        let since = self.since();
        Self {
            tree: Tree::new(index, packs, CACHE_BYTES),
            sealer: self.sealer.clone(),
            in_force: RwLock::default(),
            since: RwLock::new(Since {
                active: since.active.clone(),
                active_bytes: since.active_bytes,
                frozen: since.frozen.clone(),
            }),
        }
    }

    /// Shows the entries of a range: the tree's, in whose place stand those that were committed since.
    fn scan_with<T: Clone>(
        &self,
        range: &KeyRange,
        reach: &Reach,
        read: impl Fn(&Tree, &KeyRange) -> Result<Chunk<(Key, T)>, StoreError>,
        part: impl Fn(&Bytes) -> T,
        visit: &mut Visitor<'_, T>,
    ) -> Result<(), StoreError> {
        let mut range = range.clone();
        while !range.is_empty() {
            let (entries, rest) = {
                reach.step()?;
                let _in_force = self.in_force(reach)?;
                let chunk = read(&self.tree, &range)?;
                let end = chunk.rest.clone().unwrap_or_else(|| range.to.clone());
                let part_of = range.clone().before(end);
                let (entries, rest) = self.since().over(chunk.entries, &part_of, &part);
                (entries, rest.or(chunk.rest))
            };
            for (key, value) in entries {
                if visit(&key, value)?.is_break() {
                    return Ok(());
                }
            }
            match rest {
                Some(rest) => range.from = rest,
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Since {
    /// The first entries of a range with these over those of the tree, and where the others begin.
    fn over<T>(
        &self,
        entries: Vec<(Key, T)>,
        range: &KeyRange,
        part: impl Fn(&Bytes) -> T,
    ) -> (Vec<(Key, T)>, Option<Key>) {
        let none = RecordChanges::new();
        let frozen = self.frozen.as_ref().map_or(&none, |frozen| &frozen.changes);
        let mut layers = [&self.active, frozen]
            .map(|changes| changes.range::<Key, _>(range.bounds()).peekable());
        let mut stored = entries.into_iter().peekable();
        let (mut gathered, mut examined) = (Vec::new(), 0);
        loop {
            let next = layers
                .iter_mut()
                .filter_map(|layer| layer.peek().map(|(key, _)| *key))
                .min();
            let from_tree = match (stored.peek(), next) {
                (None, None) => return (gathered, None),
                (Some((key, _)), Some(next)) => key < next,
                (stored, _) => stored.is_some(),
            };
            examined += 1;
            if gathered.len() >= GATHERED_ENTRIES || examined > EXAMINED_ENTRIES {
                let rest = if from_tree {
                    stored.next().map(|(key, _)| key)
                } else {
                    next.cloned()
                };
                return (gathered, rest);
            }
            if from_tree {
                gathered.extend(stored.next());
                continue;
            }
            let Some(key) = next.cloned() else { continue };
            stored.next_if(|(stored, _)| *stored == key);
            // The first layer that has it is the latest; the others are passed over.
            let changes = layers
                .each_mut()
                .map(|layer| layer.next_if(|(other, _)| **other == key));
            if let Some(Some(value)) = changes.into_iter().flatten().map(|(_, value)| value).next()
            {
                gathered.push((key, part(value)));
            }
        }
    }

    /// The latest change of a key.
    fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let frozen = || self.frozen.as_ref()?.changes.get(key);
        self.active.get(key).or_else(frozen).cloned()
    }
}

/// The records as one read sees them: as far as it may reach.
#[derive(Debug)]
pub(super) struct View<'r> {
    records: &'r Records,
    reach: Reach,
}

impl Records {
    /// A view for a read that may block.
    pub(super) const fn view(&self) -> View<'_> {
        let reach = Reach::Disk;
        View {
            records: self,
            reach,
        }
    }

    /// A view for a read that goes no further than memory; [`is_too_far`](crate::store::tree::is_too_far) tells when it
    /// would have to.
    pub(super) const fn glance(&self) -> View<'_> {
        let reach = Reach::memory();
        View {
            records: self,
            reach,
        }
    }
}

impl Index for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let stored = self.records.stored_within(key, &self.reach)?;
        match (&self.records.sealer, stored) {
            (Some(sealer), Some(sealed)) => Ok(Some(sealer.open(key, &sealed)?)),
            (_, stored) => Ok(stored),
        }
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        match &self.records.sealer {
            None => self.records.scan_stored_within(range, &self.reach, visit),
            Some(sealer) => {
                self.records
                    .scan_stored_within(range, &self.reach, &mut |key, sealed| {
                        visit(key, sealer.open(key, &sealed)?)
                    })
            }
        }
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        let read = |tree: &Tree, range: &KeyRange| tree.chunk_keys(range, CHUNK_BYTES, &self.reach);
        let visit = &mut |key: &[u8], ()| visit(key);
        self.records
            .scan_with(range, &self.reach, read, |_| (), visit)
    }
}

impl Index for Records {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.view().get(key)
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        self.view().scan(range, visit)
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        self.view().scan_keys(range, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::tree::flush::Flusher;
    use crate::store::tree::pack::{PackWriter, Packs};
    use crate::store::tree::refs::IndexHome;
    use crate::store::tree::sim_index::SimIndexHome;

    fn key(n: u16) -> Key {
        [&[0x20][..], &n.to_be_bytes()].concat()
    }

    fn seen(records: &Records, range: &KeyRange) -> Vec<(Key, Bytes)> {
        let mut seen = Vec::new();
        let mut keys = Vec::new();
        let mut add = |key: &[u8], value| {
            seen.push((key.to_vec(), value));
            Ok(ControlFlow::Continue(()))
        };
        records.scan(range, &mut add).unwrap();
        let mut add = |key: &[u8]| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        };
        records.scan_keys(range, &mut add).unwrap();
        assert!(seen.iter().map(|(key, _)| key).eq(&keys));
        seen
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(Vec<(u16, Option<usize>)>),
        Freeze,
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = prop_oneof![5 => 0..50_usize, 1 => 5_000..6_000_usize];
        let change = (0..900_u16, prop::option::weighted(0.7, size));
        let step = prop_oneof![
            4 => prop::collection::vec(change, 1..400).prop_map(Step::Publish),
            2 => Just(Step::Freeze),
            1 => Just(Step::Flush),
        ];
        prop::collection::vec(step, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn what_was_committed_since_stands_over_the_tree(steps in steps(), from in 0..900_u16, to in 0..900_u16) {
            let dir = tempfile::tempdir().unwrap();
            let packs = Arc::new(Packs::open(Arc::new(RealDisk), dir.path(), [1; 16]).unwrap());
            let mut flusher = Flusher::new(PackWriter::new(Arc::clone(&packs), 1 << 20));
            let records = Records::new(Tree::new(SimIndexHome::default().open().unwrap(), packs, 1 << 20), None);
            let mut model = BTreeMap::new();
            for (position, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Publish(changes) => {
                        let changes = changes.into_iter().map(|(n, size)| (key(n), size.map(|size| Bytes::from(vec![position as u8; size]))));
                        let changes: Vec<_> = changes.collect();
                        records.publish(changes.clone());
                        for (key, value) in changes {
                            match value {
                                Some(value) => drop(model.insert(key, value)),
                                None => drop(model.remove(&key)),
                            }
                        }
                    }
                    Step::Freeze => drop(records.freeze(position as u64)),
                    Step::Flush => if let Some(frozen) = records.frozen() {
                        let flushed = flusher.write(records.tree(), &frozen.changes).unwrap();
                        records.put_into_force(|tree| flusher.put_into_force(tree, flushed, frozen.position)).unwrap();
                    }
                }
                let expected: Vec<_> = model.clone().into_iter().collect();
                prop_assert_eq!(seen(&records, &KeyRange { from: vec![], to: vec![0xff] }), expected);
            }
            let range = KeyRange { from: key(from), to: key(to) };
            let expected: Vec<_> = model.range::<Key, _>(range.bounds()).map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(seen(&records, &range), expected);
            for n in 0..900 {
                prop_assert_eq!(records.get(&key(n)).unwrap(), model.get(&key(n)).cloned());
            }
        }
    }
}

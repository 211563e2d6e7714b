//! Changes into leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use super::leaf::{Leaf, LeafWriter, record_bytes};
use super::pack::{PackUse, PackWriter};
use super::refs::{LeafEntry, LeafRef};
use super::{ALONE_BYTES, Reach, RecordChanges, Tree, is_alone, target};
use crate::store::StoreError;
use crate::store::keys::Key;

/// What a leaf should have, in bytes: enough to make entries of the index few, little enough to be written for one record.
const LEAF_BYTES: usize = 16 * 1024;
/// What a leaf may have before it is split.
const LEAF_BYTES_MAX: usize = 24 * 1024;
/// What a leaf should have at least: below it takes its neighbour in.
const LEAF_BYTES_MIN: usize = 4 * 1024;

/// Garbage that is left alone whatever its share: this part of a full pack.
const GARBAGE_OF_PACK_MIN: u64 = 16;
/// What one flush moves at most to empty packs, in bytes.
const MOVED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A pack below this size is small: each run of a program that keeps little leaves one.
const SMALL_PACK_BYTES: u64 = 256 * 1024;
/// How many small packs there may be before they are put together.
const SMALL_PACKS_MAX: usize = 32;

/// What turns changes into leaves. There is one; its steps are called one after the other.
#[derive(Debug)]
pub(crate) struct Flusher {
    packs: PackWriter,
    /// Packs that are emptied whatever is in them.
    renewed: BTreeSet<u64>,
}

/// What a flush has written, to be put into force.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// The new reference of each first key, or `None` where it goes.
    refs: BTreeMap<Key, Option<LeafRef>>,
    /// Leaves that are no longer needed.
    freed: Vec<LeafRef>,
    /// Leaves that are new.
    made: Vec<LeafRef>,
}

impl Flushed {
    /// What changes in the index: the new reference of each first key, or `None` where it goes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&Key, &Option<LeafRef>)> {
        self.refs.iter()
    }
}

/// A record on its way into a leaf.
struct Record<'r> {
    key: &'r [u8],
    content: Content<'r>,
}

enum Content<'r> {
    Value(&'r [u8]),
    /// A large value that stays where it is.
    Stays(LeafRef),
}

impl Record<'_> {
    fn bytes(&self) -> usize {
        match self.content {
            Content::Value(value) => record_bytes(self.key.len(), value.len()),
            Content::Stays(leaf) => leaf.bytes as usize,
        }
    }

    fn is_alone(&self) -> bool {
        match self.content {
            Content::Value(value) => value.len() > ALONE_BYTES,
            Content::Stays(_) => true,
        }
    }
}

/// The leaves that a run of changes touches, read.
struct Run {
    leaves: Vec<(Key, LeafRef, Option<Leaf>)>,
    /// Where the leaf behind them begins; `None` when they are the last.
    upper: Option<LeafEntry>,
}

impl Flusher {
    pub(crate) const fn new(packs: PackWriter) -> Self {
        Self {
            packs,
            renewed: BTreeSet::new(),
        }
    }

    /// Has every pack emptied that holds more than leaves that are referred to: each flush from here on moves some of them,
    /// as far as it is not too much at a time.
    ///
    /// # Errors
    /// As the disk says: the same is to be tried again.
    pub(crate) fn begin_renewal(&mut self, tree: &Tree) -> Result<(), StoreError> {
        self.packs.end_pack()?;
        let packs = tree.packs.used().into_iter();
        let renewed = packs.filter(|(_, used)| used.garbage() > 0);
        self.renewed = renewed.map(|(number, _)| number).collect();
        Ok(())
    }

    /// Leaves packs alone again that are not mostly garbage.
    pub(crate) fn end_renewal(&mut self) {
        self.renewed.clear();
    }

    /// Whether all packs are empty that were to be emptied.
    pub(crate) fn is_renewed(&self, tree: &Tree) -> bool {
        self.left_to_renew(tree) == 0
    }

    /// What is left in the packs that are to be emptied, in bytes.
    pub(crate) fn left_to_renew(&self, tree: &Tree) -> u64 {
        let used = tree.packs.used();
        let live = |number| used.get(number).map_or(0, |used: &PackUse| used.live);
        self.renewed.iter().map(live).sum()
    }

    /// Writes the leaves that changes make, and brings them to the disk. Nothing of it is in force yet.
    ///
    /// # Errors
    /// As the disk says. Nothing has changed then, and the same may be tried again.
    pub(crate) fn write(
        &mut self,
        tree: &Tree,
        changes: &RecordChanges,
    ) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed::default();
        let mut changes = changes.iter().peekable();
        while let Some((key, _)) = changes.peek() {
            let run = Run::find(tree, key)?;
            self.write_run(tree, run, &mut changes, &mut flushed)?;
        }
        self.empty_packs(tree, &mut flushed)?;
        self.packs.sync()?;
        Ok(flushed)
    }

    /// Puts what was written into force, as of `position`. No read may run beside it. After an error the index is to be
    /// opened again.
    pub(crate) fn put_into_force(
        &self,
        tree: &Tree,
        flushed: Flushed,
        position: u64,
    ) -> Result<(), StoreError> {
        let refs: Vec<_> = flushed.refs.into_iter().collect();
        tree.index().apply(&refs, position)?;
        for leaf in flushed.made {
            tree.packs.count(leaf, true);
        }
        for leaf in flushed.freed {
            tree.packs.count(leaf, false);
            tree.forget(leaf);
        }
        Ok(())
    }

    /// The packs that nobody refers to any more, but for the one that is appended to.
    pub(crate) fn empty(&self, tree: &Tree) -> Vec<u64> {
        let used = tree.packs.used();
        let empty = used
            .into_iter()
            .filter(|(number, used)| used.live == 0 && Some(*number) != self.packs.current());
        empty.map(|(number, _)| number).collect()
    }

    /// Writes the leaves of one run: those of the changes up to the next leaf's range.
    fn write_run<'c>(
        &mut self,
        tree: &Tree,
        mut run: Run,
        changes: &mut Peekable<impl Iterator<Item = (&'c Key, &'c Option<bytes::Bytes>)>>,
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let mut taken = RunChanges::new();
        run.take_changes(changes, &mut taken);
        if !run.is_changed_by(&taken) {
            return Ok(());
        }
        while run.bytes_after(&taken) < LEAF_BYTES_MIN && run.take_neighbour(tree)? {
            run.take_changes(changes, &mut taken);
        }
        let records = run.records(&taken);
        let stays = |leaf| {
            records
                .iter()
                .any(|record| matches!(record.content, Content::Stays(kept) if kept == leaf))
        };
        for (first, leaf, _) in run.leaves.iter().filter(|(_, leaf, _)| !stays(*leaf)) {
            flushed.refs.insert(first.clone(), None);
            flushed.freed.push(*leaf);
        }
        for part in records.chunk_by(|a, b| !a.is_alone() && !b.is_alone()) {
            self.write_part(tree, part, flushed)?;
        }
        Ok(())
    }

    /// Writes records as leaves of about the same size.
    fn write_part(
        &mut self,
        tree: &Tree,
        part: &[Record<'_>],
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let total: usize = part.iter().map(Record::bytes).sum();
        let leaves = if total > LEAF_BYTES_MAX {
            total.div_ceil(LEAF_BYTES)
        } else {
            1
        };
        let enough = total / leaves;
        let mut writer = LeafWriter::default();
        for record in part {
            if let Content::Value(value) = record.content {
                writer.add(record.key, value);
            }
            if writer.size() >= enough {
                self.write_leaf(tree, &mut writer, flushed)?;
            }
        }
        self.write_leaf(tree, &mut writer, flushed)
    }

    fn write_leaf(
        &mut self,
        tree: &Tree,
        writer: &mut LeafWriter,
        flushed: &mut Flushed,
    ) -> Result<(), StoreError> {
        let Some((first, leaf)) = writer.finish() else {
            return Ok(());
        };
        let place = self.packs.append(leaf.bytes(), leaf.len() as u32)?;
        tree.keep(place, leaf);
        flushed.refs.insert(first, Some(place));
        flushed.made.push(place);
        Ok(())
    }

    /// Moves what is left in packs that are mostly garbage, so that they can go.
    fn empty_packs(&mut self, tree: &Tree, flushed: &mut Flushed) -> Result<(), StoreError> {
        let victims = self.victims(tree);
        if victims.is_empty() {
            return Ok(());
        }
        let mut moves = Vec::new();
        tree.index().walk(&mut |first, leaf| {
            if victims.contains(&leaf.pack) && !flushed.refs.contains_key(first) {
                moves.push((first.to_vec(), leaf));
            }
            Ok(())
        })?;
        for (first, leaf) in moves {
            let bytes = match tree.packs.read_bytes(&first, leaf) {
                Ok(bytes) => bytes,
                Err(StoreError::Corrupt(corrupt)) => {
                    // It stays where it is, for whoever reads it to hear of: other changes must not wait for it.
                    tracing::error!(%corrupt, "a leaf can't be moved");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let place = self.packs.append(&bytes, leaf.records)?;
            flushed.refs.insert(first, Some(place));
            flushed.made.push(place);
            flushed.freed.push(leaf);
        }
        Ok(())
    }

    /// The packs to empty: those with the least in them, until garbage is at most half of what is referred to.
    fn victims(&self, tree: &Tree) -> Vec<u64> {
        let mut packs: Vec<_> = tree.packs.used().into_iter().collect();
        packs.retain(|(number, used)| used.live > 0 && Some(*number) != self.packs.current());
        let live: u64 = packs.iter().map(|(_, used)| used.live).sum();
        let size: u64 = packs.iter().map(|(_, used)| used.size).sum();
        let allowed = (live / 2).max(self.packs.pack_bytes() / GARBAGE_OF_PACK_MIN);
        let (mut garbage, mut moved) = (size - live.min(size), 0);
        // In thousandths, so that the order is one of whole numbers.
        packs.sort_by_key(|(number, used)| (used.live * 1000 / used.size.max(1), *number));
        let is_small = |used: &PackUse| used.size < SMALL_PACK_BYTES;
        let are_many = packs.iter().filter(|(_, used)| is_small(used)).count() > SMALL_PACKS_MAX;
        let mut victims = Vec::new();
        if are_many {
            victims.extend(
                packs
                    .extract_if(.., |(_, used)| is_small(used))
                    .map(|(number, _)| number),
            );
        }
        let renewed = packs.extract_if(.., |(number, _)| self.renewed.contains(number));
        for (number, used) in renewed.collect::<Vec<_>>() {
            // One at least, however large it is.
            if moved == 0 || moved + used.live <= MOVED_BYTES_MAX {
                moved += used.live;
                victims.push(number);
            }
        }
        for (number, used) in packs {
            if garbage <= allowed || moved + used.live > MOVED_BYTES_MAX {
                break;
            }
            garbage -= (used.size - used.live.min(used.size)).min(garbage);
            moved += used.live;
            victims.push(number);
        }
        victims
    }
}

/// The changes of a run, in order.
type RunChanges<'c> = Vec<(&'c Key, &'c Option<bytes::Bytes>)>;

impl Run {
    /// The run that a change of `key` begins.
    fn find(tree: &Tree, key: &[u8]) -> Result<Self, StoreError> {
        let mut run = Self {
            leaves: Vec::new(),
            upper: None,
        };
        if let Some((first, leaf)) = target(&*tree.index(), key)? {
            run.upper = tree.index().above(&first)?;
            run.add(tree, first, leaf)?;
        }
        Ok(run)
    }

    fn add(&mut self, tree: &Tree, first: Key, leaf: LeafRef) -> Result<(), StoreError> {
        let content = if is_alone(leaf) {
            None
        } else {
            Some(tree.leaf(&first, leaf, &Reach::Disk)?)
        };
        self.leaves.push((first, leaf, content));
        Ok(())
    }

    /// Takes the changes that fall into its range.
    fn take_changes<'c>(
        &self,
        changes: &mut Peekable<impl Iterator<Item = (&'c Key, &'c Option<bytes::Bytes>)>>,
        taken: &mut RunChanges<'c>,
    ) {
        let upper = self.upper.as_ref().map(|(first, _)| first);
        while let Some(change) = changes.next_if(|(key, _)| upper.is_none_or(|upper| *key < upper))
        {
            taken.push(change);
        }
    }

    /// Takes the leaf behind it in, if there is one that holds more than one large value.
    fn take_neighbour(&mut self, tree: &Tree) -> Result<bool, StoreError> {
        match self.upper.take() {
            Some((first, leaf)) if leaf.bytes as usize <= LEAF_BYTES_MAX && !is_alone(leaf) => {
                self.upper = tree.index().above(&first)?;
                self.add(tree, first, leaf)?;
                Ok(true)
            }
            other => {
                self.upper = other;
                Ok(false)
            }
        }
    }

    /// Its records as they are.
    fn stored(&self) -> impl Iterator<Item = Record<'_>> {
        self.leaves.iter().flat_map(|(first, place, leaf)| {
            let alone = leaf.is_none().then_some(Record {
                key: first,
                content: Content::Stays(*place),
            });
            let others = leaf.iter().flat_map(|leaf| {
                let records = (0..leaf.len()).filter_map(|index| leaf.record(index));
                records.map(|(key, value)| Record {
                    key,
                    content: Content::Value(value),
                })
            });
            alone.into_iter().chain(others)
        })
    }

    /// Whether the changes make a difference: removing what is not there does not.
    fn is_changed_by(&self, changes: &RunChanges<'_>) -> bool {
        changes.iter().any(|(key, value)| {
            value.is_some()
                || self.leaves.iter().any(|(first, _, leaf)| match leaf {
                    None => first == *key,
                    Some(leaf) => leaf
                        .record(leaf.seek(key))
                        .is_some_and(|(found, _)| found == key.as_slice()),
                })
        })
    }

    /// What its records will take, in bytes.
    fn bytes_after(&self, changes: &RunChanges<'_>) -> usize {
        self.records(changes).iter().map(Record::bytes).sum()
    }

    /// Its records with the changes made.
    fn records<'r>(&'r self, changes: &RunChanges<'r>) -> Vec<Record<'r>> {
        let mut records = Vec::new();
        let mut changes = changes.iter().peekable();
        let add = |records: &mut Vec<Record<'r>>, key: &'r Key, value: &'r Option<bytes::Bytes>| {
            if let Some(value) = value {
                records.push(Record {
                    key,
                    content: Content::Value(value),
                });
            }
        };
        for stored in self.stored() {
            while let Some((key, value)) = changes.next_if(|(key, _)| key.as_slice() < stored.key) {
                add(&mut records, key, value);
            }
            match changes.next_if(|(key, _)| key.as_slice() == stored.key) {
                Some((key, value)) => add(&mut records, key, value),
                None => records.push(stored),
            }
        }
        for (key, value) in changes {
            add(&mut records, key, value);
        }
        records
    }
}

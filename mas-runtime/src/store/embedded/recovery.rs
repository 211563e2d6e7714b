//! From what is on the disk to an engine that runs: the index checked or made anew, the log replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::body;
use super::flusher::{self, Flusher, restore};
use super::flushing::Flushing;
use super::open::{self, Format, Layout, OpenError};
use super::records::Records;
use crate::model::limits::STORE_FLUSH_BYTES;
use crate::model::{Clock, Entropy};
use crate::store::disk::{self, Disk};
use crate::store::keys::Key;
use crate::store::log::{self, Log, LogError, LogOptions};
use crate::store::sled::earlier;
use crate::store::tree::Tree;
use crate::store::tree::flush::Flusher as TreeFlusher;
use crate::store::tree::pack::{PackWriter, Packs, StoreId};
use crate::store::tree::refs::{IndexHome, LeafIndex, LeafRef};
use crate::store::tree::snapshot;
use crate::store::{Corrupt, StoreError};

/// What opening a store has found, and done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The last commit that is there.
    pub position: u64,
    /// Commits that were replayed from the log because the last run did not end in order.
    pub replayed: u64,
    /// Bytes of commits behind the last one that a crash has left in part. None of them was acknowledged.
    pub torn_bytes: u64,
    /// Why the index was made anew, if it was, and where the old one is.
    pub index: Option<RebuiltIndex>,
    /// What was wrong with the snapshot, if anything. Another one was taken.
    pub snapshot: Option<String>,
    /// The format of the store that was brought over, if one was.
    pub migrated_from: Option<u32>,
    /// How long it took.
    pub took: Duration,
}

/// An index that was made anew from the snapshot and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuiltIndex {
    /// What was wrong with the old one.
    pub reason: String,
    /// Where it was put.
    pub aside: String,
}

/// How a store is kept.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) home: Arc<dyn IndexHome>,
    pub(super) cache_bytes: u64,
    pub(super) log: LogOptions,
    /// Where a pack is full, in bytes.
    pub(super) pack_bytes: u64,
}

/// An open store, still without threads.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) records: Arc<Records>,
    pub(super) log: Log,
    pub(super) flusher: Flusher,
    pub(super) flushing: Arc<Flushing>,
    pub(super) recovery: Recovery,
}

/// Opens the store of a directory, makes it if there is none, and brings one of an earlier format over.
pub(super) fn open(plan: &Plan, clock: &dyn Clock, entropy: &Entropy) -> Result<Opened, OpenError> {
    let began = clock.now();
    let layout = &plan.layout;
    open::make_folders(&plan.disk, layout)?;
    let mut recovery = Recovery::default();
    let store = match open::read_format(&*plan.disk, layout)? {
        Format::Current(store) => store,
        Format::New if holds_something(plan)? => {
            let reason = "it holds records but no file `format`";
            return Err(OpenError::damaged(&layout.dir, reason));
        }
        Format::New => make(plan, open::new_id(entropy), 0)?,
        Format::Earlier => {
            recovery.migrated_from = Some(open::FORMAT_EARLIER);
            migrate(plan, open::new_id(entropy))?
        }
    };
    // Also what an interrupted migration has left.
    earlier::remove(&layout.dir)
        .map_err(OpenError::io("remove the earlier store in", &layout.dir))?;
    let mut opened = plan.recover(store, recovery)?;
    opened.recovery.took = clock.now().since(began);
    Ok(opened)
}

/// Whether a directory without a format holds more than an interrupted attempt to make a store.
fn holds_something(plan: &Plan) -> Result<bool, OpenError> {
    let Plan { disk, layout, .. } = plan;
    let packs = disk
        .names(&layout.packs)
        .map_err(OpenError::io("list", &layout.packs))?;
    let log = log::inspect::inspect(&**disk, &layout.log)
        .map_err(|error| OpenError::of_log(&layout.dir, error))?;
    let has_records = log
        .segments
        .iter()
        .any(|segment| segment.records > 0 || segment.problem.is_some());
    Ok(earlier::is_there(&layout.dir) || !packs.is_empty() || has_records)
}

/// Makes a log and an empty snapshot for a store that is at `position`, and gives it its format.
fn make(plan: &Plan, store: StoreId, position: u64) -> Result<StoreId, OpenError> {
    let Plan { disk, layout, .. } = plan;
    let failed = |error| OpenError::of_store(&layout.dir, error);
    let log = Log::create(Arc::clone(disk), &layout.log, plan.log, store, position + 1);
    log.map_err(|error| OpenError::of_log(&layout.dir, error))?;
    if position == 0 {
        let empty = clear_index(plan).map_err(failed)?;
        let written = snapshot::write(&**disk, &layout.snapshot, store, &*empty);
        let closed = empty.close();
        written.and(closed).map_err(failed)?;
    }
    open::write_format(&**disk, layout, store)?;
    Ok(store)
}

/// An empty index, whatever was there.
fn clear_index(plan: &Plan) -> Result<Arc<dyn LeafIndex>, StoreError> {
    if let Ok(index) = plan.home.open() {
        if index.position() == 0 {
            return Ok(index);
        }
        index.close()?;
    }
    plan.home.set_aside()?;
    plan.home.open()
}

/// Brings the store of the engine before over. It counts until the new format is written.
fn migrate(plan: &Plan, store: StoreId) -> Result<StoreId, OpenError> {
    let Plan { disk, layout, .. } = plan;
    let failed = |error| OpenError::of_store(&layout.dir, error);
    // What an interrupted attempt has left belongs to another store.
    for name in disk
        .names(&layout.packs)
        .map_err(OpenError::io("list", &layout.packs))?
    {
        let path = layout.packs.join(name);
        disk::remove_if_there(&**disk, &path).map_err(OpenError::io("remove", &path))?;
    }
    let bring_over = || {
        let packs = Arc::new(Packs::open(Arc::clone(disk), &layout.packs, store)?);
        let mut flusher = TreeFlusher::new(PackWriter::new(Arc::clone(&packs), plan.pack_bytes));
        let index = clear_index(plan)?;
        let tree = Tree::new(Arc::clone(&index), packs, plan.cache_bytes);
        let position = earlier::read(&layout.dir, plan.cache_bytes, &mut |changes| {
            let flushed = flusher.write(&tree, &changes.into_changes().collect())?;
            // It reflects no commit until all of it is there.
            flusher.put_into_force(&tree, flushed, 0)
        })?;
        index.apply(&[], position)?;
        let written = snapshot::write(&**disk, &layout.snapshot, store, &*index);
        index.close()?;
        written.map(|_| position)
    };
    let position = bring_over().map_err(failed)?;
    if position == 0 {
        return make(plan, store, 0);
    }
    make(plan, store, position)
}

impl Plan {
    /// Opens a store that was made to its end.
    fn recover(&self, store: StoreId, mut recovery: Recovery) -> Result<Opened, OpenError> {
        let (disk, layout) = (&self.disk, &self.layout);
        let failed = |error| OpenError::of_store(&layout.dir, error);
        let packs = Packs::open(Arc::clone(disk), &layout.packs, store).map_err(failed)?;
        let packs = Arc::new(packs);
        let index = self
            .open_index(store, &packs, &mut recovery)
            .map_err(failed)?;
        let tree = Tree::new(Arc::clone(&index), Arc::clone(&packs), self.cache_bytes);
        tree.count_leaves().map_err(failed)?;
        let snapshot = self.compare(store, &*index);
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(StoreError::Corrupt(corrupt)) => {
                recovery.snapshot = Some(corrupt.to_string());
                Snapshot::default()
            }
            Err(error) => return Err(failed(error)),
        };
        let records = Arc::new(Records::new(tree));
        let opened = self.replay(store, records, snapshot, recovery);
        if opened.is_err() {
            // The index of this attempt is in nobody's way.
            let _ = index.close();
        }
        opened
    }

    /// Replays the log, and takes a snapshot if the last one is of no use.
    fn replay(
        &self,
        store: StoreId,
        records: Arc<Records>,
        snapshot: Snapshot,
        mut recovery: Recovery,
    ) -> Result<Opened, OpenError> {
        let layout = &self.layout;
        let of_log = |error| OpenError::of_log(&layout.dir, error);
        let of_store = |error| OpenError::of_store(&layout.dir, error);
        let flushing = Arc::new(Flushing::default());
        let flusher = self.flusher(store, &records, &flushing, snapshot);
        let mut flusher = flusher.map_err(of_store)?;
        if recovery.snapshot.is_some() {
            flusher.snapshot().map_err(of_store)?;
        }
        let after = records.tree().index().position();
        if !log::is_there(&*self.disk, &layout.log).map_err(of_log)? {
            return Err(OpenError::damaged(&layout.dir, "its commit log is missing"));
        }
        let mut take = |position, changes: &[u8]| {
            let publish = |key, value| records.publish([(key, value)]);
            body::decode(changes, publish).map_err(StoreError::from)?;
            recovery.replayed += 1;
            if records.active_bytes() >= STORE_FLUSH_BYTES {
                records.freeze(position);
                flusher.turn()?;
            }
            Ok(())
        };
        let disk = Arc::clone(&self.disk);
        let opened = Log::open::<ReplayError>(disk, &layout.log, self.log, store, after, &mut take);
        let (log, recovered) = opened.map_err(|error| match error {
            ReplayError::Log(error) => of_log(error),
            ReplayError::Store(error) => of_store(error),
        })?;
        if recovered.first > after + 1 || recovered.last < after {
            let (first, last) = (recovered.first, recovered.last);
            let reason =
                format!("its index is at commit {after}, its log goes from {first} to {last}");
            return Err(OpenError::damaged(&layout.dir, reason));
        }
        recovery.position = recovered.last;
        recovery.torn_bytes = recovered.torn_bytes;
        flusher.prepares(log.spare_maker());
        flushing.set_log_bytes(log.bytes());
        Ok(Opened {
            records,
            log,
            flusher,
            flushing,
            recovery,
        })
    }

    /// A flusher for what was recovered. Packs that neither the index nor the snapshot refers to go.
    fn flusher(
        &self,
        store: StoreId,
        records: &Arc<Records>,
        flushing: &Arc<Flushing>,
        snapshot: Snapshot,
    ) -> Result<Flusher, StoreError> {
        let packs = Arc::clone(records.tree().packs());
        let used = packs.used().into_iter();
        let unused =
            used.filter(|(number, used)| used.live == 0 && !snapshot.packs.contains(number));
        let unused: Vec<_> = unused.map(|(number, _)| number).collect();
        packs.remove(&unused)?;
        let parts = flusher::Parts {
            disk: Arc::clone(&self.disk),
            records: Arc::clone(records),
            flushing: Arc::clone(flushing),
            home: Arc::clone(&self.home),
            snapshot: self.layout.snapshot.clone(),
            store,
        };
        let tree = TreeFlusher::new(PackWriter::new(packs, self.pack_bytes));
        Ok(Flusher::new(
            parts,
            tree,
            snapshot.position,
            snapshot.changes,
        ))
    }

    /// Opens the index, or makes it anew where it is damaged or behind the snapshot.
    fn open_index(
        &self,
        store: StoreId,
        packs: &Arc<Packs>,
        recovery: &mut Recovery,
    ) -> Result<Arc<dyn LeafIndex>, StoreError> {
        let read = snapshot::read(
            &*self.disk,
            &self.layout.snapshot,
            store,
            &mut |_, _| Ok(()),
        );
        let snapshot = match read {
            Ok(Some(position)) => Ok(position),
            Ok(None) => Err(Corrupt::new("snapshot", "it is not there")),
            Err(StoreError::Corrupt(corrupt)) => Err(corrupt),
            Err(error) => return Err(error),
        };
        let reason = match self.home.open() {
            Err(error @ StoreError::Io { .. }) => return Err(error),
            Err(error) => error.to_string(),
            Ok(index) => match (self.fault(&index, packs)?, &snapshot) {
                (None, Ok(position)) if index.position() < *position => {
                    let found = index.position();
                    index.close()?;
                    let aside = self.home.set_aside()?;
                    let reason = format!("it was at commit {found}, the snapshot is at {position}");
                    recovery.index = Some(RebuiltIndex { reason, aside });
                    return self.restore(store);
                }
                (None, _) => return Ok(index),
                (Some(fault), _) => {
                    index.close()?;
                    fault
                }
            },
        };
        if let Err(corrupt) = snapshot {
            // Neither is to be trusted: nothing is touched.
            return Err(StoreError::failed(format!("{reason}, and {corrupt}")));
        }
        let aside = self.home.set_aside()?;
        tracing::warn!(
            reason,
            aside,
            "the store's index is made anew from its snapshot and log"
        );
        recovery.index = Some(RebuiltIndex { reason, aside });
        self.restore(store)
    }

    /// What is wrong with an index that is sound in itself: leaves that can't be where it says.
    fn fault(
        &self,
        index: &Arc<dyn LeafIndex>,
        packs: &Arc<Packs>,
    ) -> Result<Option<String>, StoreError> {
        let mut fault = None;
        let mut before: Option<Key> = None;
        index.walk(&mut |first, leaf| {
            let is_in_order = before.as_deref().is_none_or(|before| before < first);
            if fault.is_none() && !(is_in_order && packs.holds(leaf)) {
                fault = Some(format!("pack {} does not hold a leaf of it", leaf.pack));
            }
            before = Some(first.to_vec());
            Ok(())
        })?;
        Ok(fault)
    }

    /// An index that is as the snapshot says.
    fn restore(&self, store: StoreId) -> Result<Arc<dyn LeafIndex>, StoreError> {
        let index = self.home.open()?;
        let restored = restore(&*self.disk, &self.layout.snapshot, store, &*index);
        match restored {
            Ok(_) => Ok(index),
            Err(error) => {
                let _ = index.close();
                Err(error)
            }
        }
    }

    /// Compares the snapshot with the index.
    fn compare(&self, store: StoreId, index: &dyn LeafIndex) -> Result<Snapshot, StoreError> {
        let mut found = Snapshot::default();
        let mut next = index.above(&[])?;
        let position = snapshot::read(
            &*self.disk,
            &self.layout.snapshot,
            store,
            &mut |first, leaf| {
                found.packs.insert(leaf.pack);
                while let Some((key, other)) = next.take_if(|(key, _)| key.as_slice() < first) {
                    next = index.above(&key)?;
                    found.changes.insert(key, Some(other));
                }
                match next.take_if(|(key, _)| key.as_slice() == first) {
                    Some((key, other)) => {
                        next = index.above(&key)?;
                        if other != leaf {
                            found.changes.insert(key, Some(other));
                        }
                    }
                    None => drop(found.changes.insert(first.to_vec(), None)),
                }
                Ok(())
            },
        )?;
        while let Some((key, other)) = next {
            next = index.above(&key)?;
            found.changes.insert(key, Some(other));
        }
        found.position = position.ok_or_else(|| Corrupt::new("snapshot", "it is not there"))?;
        Ok(found)
    }
}

/// What the last snapshot holds, seen from the index.
#[derive(Debug, Default)]
struct Snapshot {
    position: u64,
    /// What has changed in the index since.
    changes: BTreeMap<Key, Option<LeafRef>>,
    /// The packs that it refers to.
    packs: BTreeSet<u64>,
}

/// Why replaying the log failed.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

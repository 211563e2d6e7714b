//! From what is on the disk to an engine that runs: the index checked or made anew, the log replayed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::body;
use super::flusher::{self, Flusher, restore};
use super::flushing::Flushing;
use super::open::{self, Format, Layout, OpenError, Values};
use super::protection::Protection;
use super::records::Records;
use super::sealing::{Resealer, SealingProgress};
use crate::model::{Clock, Entropy};
use crate::store::disk::{self, Disk};
use crate::store::keys::Key;
use crate::store::log::{self, Log, LogError, LogOptions};
use crate::store::seal::{Sealer, Wanted};
use crate::store::sled::earlier;
use crate::store::tree::flush::Flusher as TreeFlusher;
use crate::store::tree::pack::{PackWriter, Packs, StoreId};
use crate::store::tree::refs::{IndexHome, LeafIndex, LeafRef};
use crate::store::tree::snapshot;
use crate::store::tree::{RecordChanges, Tree};
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

impl Recovery {
    /// Whether the store was not simply opened as it was closed.
    pub const fn is_worth_telling(&self) -> bool {
        self.replayed > 0
            || self.torn_bytes > 0
            || self.index.is_some()
            || self.snapshot.is_some()
            || self.migrated_from.is_some()
    }
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
    /// Whether its values are sealed, and the keys.
    pub(super) wanted: Wanted,
    /// What replaying gathers before it brings it into the tree, in bytes.
    pub(super) flush_bytes: usize,
}

/// An open store, still without threads.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) records: Arc<Records>,
    pub(super) log: Log,
    pub(super) flusher: Flusher,
    pub(super) flushing: Arc<Flushing>,
    pub(super) recovery: Recovery,
    /// What seals values anew, if some need it.
    pub(super) resealer: Option<Resealer>,
    pub(super) sealing: Arc<Mutex<SealingProgress>>,
}

/// Opens the store of a directory, makes it if there is none, and brings one of an earlier format over.
pub(super) fn open(plan: &Plan, clock: &dyn Clock, entropy: &Entropy) -> Result<Opened, OpenError> {
    let began = clock.now();
    let layout = &plan.layout;
    open::make_folders(&plan.disk, layout)?;
    let mut recovery = Recovery::default();
    let protect = |found| Protection::begin(&plan.disk, layout, &plan.wanted, found);
    let (store, protection) = match open::read_format(&*plan.disk, layout)? {
        Format::Current(store, values) => (store, protect((store, Some(values)))?),
        Format::New if holds_something(plan)? => {
            let reason = "it holds records but no file `format`";
            return Err(OpenError::damaged(&layout.dir, reason));
        }
        Format::New => {
            let store = open::new_id(entropy);
            let protection = protect((store, None))?;
            (make(plan, store, 0, values_of(&protection))?, protection)
        }
        Format::Earlier => {
            let store = open::new_id(entropy);
            let protection = protect((store, None))?;
            recovery.migrated_from = Some(open::FORMAT_EARLIER);
            (migrate(plan, store, &protection)?, protection)
        }
    };
    // Also what an interrupted migration has left.
    earlier::remove(&layout.dir)
        .map_err(OpenError::io("remove the earlier store in", &layout.dir))?;
    let sealer = protection.as_ref().map(|it| Arc::clone(&it.sealer));
    let mut opened = plan.recover(store, sealer, recovery)?;
    opened.recovery.took = clock.now().since(began);
    opened.seal_anew(protection);
    Ok(opened)
}

/// How the values of a new store are kept.
const fn values_of(protection: &Option<Protection>) -> Values {
    match protection {
        None => Values::Plain,
        Some(_) => Values::Sealed,
    }
}

impl Opened {
    /// Has values sealed anew, if some may need it.
    fn seal_anew(&mut self, protection: Option<Protection>) {
        let Some(protection) = protection else { return };
        let is_partial = protection.is_partial();
        let progress = if is_partial {
            SealingProgress::Running {
                seen: 0,
                resealed: 0,
            }
        } else {
            SealingProgress::Whole
        };
        self.sealing = Arc::new(Mutex::new(progress));
        let (records, sealing) = (Arc::clone(&self.records), Arc::clone(&self.sealing));
        self.resealer = is_partial.then(|| Resealer::new(records, protection, sealing));
    }
}

/// Whether a directory without a format holds more than an interrupted attempt to make a store.
pub(super) fn holds_something(plan: &Plan) -> Result<bool, OpenError> {
    let Plan { disk, layout, .. } = plan;
    let packs = disk
        .names(&layout.packs)
        .map_err(OpenError::io("list", &layout.packs))?;
    let log = log::inspect::inspect(&**disk, &layout.log)
        .map_err(|error| OpenError::of_log(&layout.dir, error))?;
    // Several interrupted attempts may have left segments that do not follow each other.
    let has_records = log.segments.iter().any(|segment| !segment.is_blank);
    Ok(earlier::is_there(&layout.dir) || !packs.is_empty() || has_records)
}

/// Makes a log and an empty snapshot for a store that is at `position`, and gives it its format.
fn make(plan: &Plan, store: StoreId, position: u64, values: Values) -> Result<StoreId, OpenError> {
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
    open::write_format(&**disk, layout, store, values).map_err(open::unwritten(layout))?;
    Ok(store)
}

/// An empty index, whatever was there.
fn clear_index(plan: &Plan) -> Result<Arc<dyn LeafIndex>, StoreError> {
    if let Ok(index) = plan.home.open() {
        // What an interrupted migration has left reflects no commit, too.
        if index.position() == 0 && index.floor(&[])?.is_none() && index.above(&[])?.is_none() {
            return Ok(index);
        }
        index.close()?;
    }
    plan.home.set_aside()?;
    plan.home.open()
}

/// Brings the store of the engine before over, sealed if that is wanted. It counts until the new format is written.
fn migrate(
    plan: &Plan,
    store: StoreId,
    protection: &Option<Protection>,
) -> Result<StoreId, OpenError> {
    let layout = &plan.layout;
    build(plan, store, protection, |put| {
        let read = earlier::read(&layout.dir, plan.cache_bytes, &mut |changes| {
            put(changes.into_changes().collect())
        });
        read.map_err(|error| OpenError::of_store(&layout.dir, error))
    })
}

/// Makes a store of records that come in order, a part at a time, and whose position is known at their end; sealed if that is
/// wanted. It counts when its format is written, which comes last.
pub(super) fn build<E: From<OpenError>>(
    plan: &Plan,
    store: StoreId,
    protection: &Option<Protection>,
    read: impl FnOnce(&mut PutRecords<'_>) -> Result<u64, E>,
) -> Result<StoreId, E> {
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
    let packs = Packs::open(Arc::clone(disk), &layout.packs, store).map_err(failed)?;
    let packs = Arc::new(packs);
    let mut flusher = TreeFlusher::new(PackWriter::new(Arc::clone(&packs), plan.pack_bytes));
    let index = clear_index(plan).map_err(failed)?;
    let tree = Tree::new(Arc::clone(&index), packs, plan.cache_bytes);
    let seal = |(key, value): (Key, Option<Bytes>)| match (protection, value) {
        (Some(protection), Some(value)) => {
            let sealed = protection.sealer.seal(&key, &value)?;
            Ok((key, Some(sealed)))
        }
        (_, value) => Ok::<_, StoreError>((key, value)),
    };
    let read = read(&mut |records| {
        let records = records.into_iter().map(seal).collect::<Result<_, _>>()?;
        let flushed = flusher.write(&tree, &records)?;
        // It reflects no commit until all of it is there.
        flusher.put_into_force(&tree, flushed, 0)
    });
    let written = read.and_then(|position| {
        let written = index.apply(&[], position);
        let written = written
            .and_then(|()| snapshot::write(&**disk, &layout.snapshot, store, &*index).map(drop));
        written.map(|()| position).map_err(|e| failed(e).into())
    });
    let closed = index.close().map_err(failed);
    let position = written?;
    closed?;
    Ok(make(plan, store, position, values_of(protection))?)
}

/// What takes a part of the records that a store is made of.
pub(super) type PutRecords<'p> = dyn FnMut(RecordChanges) -> Result<(), StoreError> + 'p;

impl Plan {
    /// Opens a store that was made to its end.
    fn recover(
        &self,
        store: StoreId,
        sealer: Option<Arc<Sealer>>,
        mut recovery: Recovery,
    ) -> Result<Opened, OpenError> {
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
        let records = Arc::new(Records::new(tree, sealer));
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
        let mut flusher = self.flusher(store, &records, &flushing, snapshot);
        // What a crash left in the packs goes with a snapshot, never before: the index may be back at an earlier commit
        // after the next crash.
        if recovery.snapshot.is_some() || flusher.is_snapshot_due() {
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
            if records.active_bytes() >= self.flush_bytes {
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
            resealer: None,
            sealing: Arc::new(Mutex::new(SealingProgress::Plain)),
        })
    }

    /// A flusher for what was recovered.
    fn flusher(
        &self,
        store: StoreId,
        records: &Arc<Records>,
        flushing: &Arc<Flushing>,
        snapshot: Snapshot,
    ) -> Flusher {
        let packs = Arc::clone(records.tree().packs());
        let parts = flusher::Parts {
            disk: Arc::clone(&self.disk),
            records: Arc::clone(records),
            flushing: Arc::clone(flushing),
            home: Arc::clone(&self.home),
            snapshot: self.layout.snapshot.clone(),
            store,
        };
        let tree = TreeFlusher::new(PackWriter::new(packs, self.pack_bytes));
        Flusher::new(parts, tree, snapshot.position, snapshot.changes)
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
}

/// Why replaying the log failed.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! An index in memory that loses or damages its latest batches when told to, as sled may in a crash.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::refs::{IndexHome, LeafEntry, LeafIndex, LeafRef, RefChanges, RefVisitor};
use crate::model::Entropy;
use crate::store::keys::Key;
use crate::store::{Corrupt, StoreError};

type Map = BTreeMap<Key, LeafRef>;

/// Where simulated indexes are kept. Clones are handles to the same place.
#[derive(Clone, Default)]
pub(crate) struct SimIndexHome {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Clone, Default)]
struct Kept {
    /// What it held after the last power cut: nothing else is certain to be on disk, however often it was closed.
    before: State,
    /// What has changed since, batch by batch.
    batches: Vec<Batch>,
    now: State,
    is_damaged: bool,
    is_open: bool,
    fails: bool,
}

#[derive(Clone, Default)]
struct State {
    map: Map,
    position: u64,
}

#[derive(Clone)]
struct Batch {
    changes: Vec<(Key, Option<LeafRef>)>,
    position: u64,
}

impl State {
    fn apply(&mut self, changes: &RefChanges, position: u64) {
        for (first, leaf) in changes {
            match leaf {
                Some(leaf) => self.map.insert(first.clone(), *leaf),
                None => self.map.remove(first),
            };
        }
        self.position = position;
    }
}

impl Kept {
    /// Loses all but the first batches.
    fn lose(&mut self, left: usize) {
        self.now = self.before.clone();
        for batch in &self.batches[..left] {
            self.now.apply(&batch.changes, batch.position);
        }
        self.batches.truncate(left);
    }
}

impl SimIndexHome {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a power cut may leave of it: all, some or none of its batches, or damage.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        let entropy = Entropy::seeded(seed);
        let mut kept = self.kept().clone();
        (kept.is_open, kept.fails) = (false, false);
        match entropy.below(4) {
            0 => kept.is_damaged = true,
            1 => {}
            _ => {
                let left = entropy.below(kept.batches.len() as u64 + 1);
                kept.lose(left as usize);
            }
        }
        kept.before = kept.now.clone();
        kept.batches.clear();
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// What a killed process leaves: all of it.
    pub(crate) fn killed(&self) -> Self {
        let mut kept = self.kept().clone();
        (kept.is_open, kept.fails) = (false, false);
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// Is found damaged when it is opened next.
    pub(crate) fn damage(&self) {
        self.kept().is_damaged = true;
    }

    /// Fails to apply from now on, or works again.
    pub(crate) fn fail(&self, fails: bool) {
        self.kept().fails = fails;
    }

    /// The commit that it reflects.
    pub(crate) fn position(&self) -> u64 {
        self.kept().now.position
    }
}

impl IndexHome for SimIndexHome {
    fn open(&self) -> Result<Arc<dyn LeafIndex>, StoreError> {
        let mut kept = self.kept();
        if kept.is_open {
            return Err(StoreError::failed("the index is open already"));
        }
        if kept.is_damaged {
            return Err(Corrupt::new("index", "it was damaged on purpose").into());
        }
        kept.is_open = true;
        drop(kept);
        Ok(Arc::new(SimIndex { home: self.clone() }))
    }

    fn set_aside(&self) -> Result<String, StoreError> {
        let mut kept = self.kept();
        *kept = Kept::default();
        Ok("nowhere".to_owned())
    }
}

impl fmt::Debug for SimIndexHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = self.kept().batches.len();
        write!(f, "SimIndexHome({batches} batches)")
    }
}

struct SimIndex {
    home: SimIndexHome,
}

impl SimIndex {
    fn with<T>(&self, read: impl FnOnce(&Map) -> T) -> Result<T, StoreError> {
        let kept = self.home.kept();
        if !kept.is_open {
            return Err(StoreError::Closed);
        }
        Ok(read(&kept.now.map))
    }
}

fn entry((first, leaf): (&Key, &LeafRef)) -> LeafEntry {
    (first.clone(), *leaf)
}

impl LeafIndex for SimIndex {
    fn position(&self) -> u64 {
        self.home.kept().now.position
    }

    fn floor(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        self.with(|map| map.range(..=key.to_vec()).next_back().map(entry))
    }

    fn above(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        self.with(|map| {
            map.range((Excluded(key.to_vec()), Unbounded))
                .next()
                .map(entry)
        })
    }

    fn walk(&self, visit: &mut RefVisitor<'_>) -> Result<(), StoreError> {
        let map = self.with(Clone::clone)?;
        map.iter().try_for_each(|(first, leaf)| visit(first, *leaf))
    }

    fn apply(&self, changes: &RefChanges, position: u64) -> Result<(), StoreError> {
        self.with(|_| ())?;
        let mut kept = self.home.kept();
        if kept.fails {
            return Err(StoreError::io("apply", std::io::ErrorKind::Other.into()));
        }
        kept.now.apply(changes, position);
        let changes = changes.to_vec();
        kept.batches.push(Batch { changes, position });
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.home.kept().is_open = false;
        Ok(())
    }
}

impl fmt::Debug for SimIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimIndex({:?})", self.home)
    }
}

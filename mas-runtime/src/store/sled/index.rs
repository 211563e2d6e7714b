//! The index of leaves in sled: a small tree that may be lost, and says so when it is.
//!
//! **Layout**: one entry a leaf, its first key and the [reference](LeafRef) to it; and one for the index itself, all numbers
//! big-endian.
//!
//! | key | value |
//! |---|---|
//! | a first key | the reference, 28 bytes |
//! | `f0` | layout u8 (2), entries u64, sum of their hashes u64, the commit that the index reflects u64 |
//!
//! sled checks each piece of its files, but after damage in the middle it may go on without that piece: entries vanish and
//! nothing says so. The sum says so, at every opening. Nothing here is ever synced: what a power cut takes, the snapshot
//! and the log bring back.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound::Excluded;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Buf, BufMut};

use super::digest::hash;
use super::files;
use super::guard::call;
use crate::store::keys::ENGINE_SPACE;
use crate::store::tree::refs::{IndexHome, LeafEntry, LeafIndex, LeafRef, RefChanges, RefVisitor};
use crate::store::{Corrupt, StoreError};

/// The key of what the index knows about itself: above all first keys.
const SELF: [u8; 1] = [ENGINE_SPACE];
const VERSION: u8 = 2;

/// What sled keeps of the index in memory, in bytes: entries are few.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Indexes that were set aside and are kept, for who wants to look into them.
const ASIDES_KEPT: usize = 2;

/// The folder of the index.
#[derive(Clone, Debug)]
pub(crate) struct SledHome {
    dir: PathBuf,
}

impl SledHome {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The folders that were set aside, the oldest first, and the number of the next.
    fn asides(&self) -> io::Result<(Vec<PathBuf>, u64)> {
        let parent = self.dir.parent().unwrap_or(Path::new("."));
        let prefix = format!(
            "{}.aside-",
            self.dir.file_name().unwrap_or_default().to_string_lossy()
        );
        let mut found = Vec::new();
        for entry in fs::read_dir(parent)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let number = name
                .strip_prefix(&prefix)
                .and_then(|number| number.parse::<u64>().ok());
            found.extend(number.map(|number| (number, path)));
        }
        found.sort();
        let next = found.last().map_or(1, |(number, _)| number + 1);
        Ok((found.into_iter().map(|(_, path)| path).collect(), next))
    }
}

impl IndexHome for SledHome {
    fn open(&self) -> Result<Arc<dyn LeafIndex>, StoreError> {
        Ok(Arc::new(SledIndex::open(&self.dir)?))
    }

    fn set_aside(&self) -> Result<String, StoreError> {
        let failed = |e| StoreError::io("set the index aside", e);
        let (mut asides, next) = self.asides().map_err(failed)?;
        let mut name = self.dir.clone().into_os_string();
        name.push(format!(".aside-{next}"));
        let aside = PathBuf::from(name);
        match fs::rename(&self.dir, &aside) {
            Ok(()) => asides.push(aside.clone()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let over = asides.len().saturating_sub(ASIDES_KEPT);
        for old in &asides[..over] {
            if let Err(error) = fs::remove_dir_all(old) {
                tracing::warn!(%error, path = %old.display(), "can't remove an index that was set aside");
            }
        }
        Ok(aside.display().to_string())
    }
}

/// What the index knows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    entries: u64,
    sum: u64,
    position: u64,
}

impl Tally {
    fn add(&mut self, first: &[u8], leaf: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(first, leaf));
    }

    fn subtract(&mut self, first: &[u8], leaf: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(first, leaf));
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        bytes.put_u8(VERSION);
        bytes.put_u64(self.entries);
        bytes.put_u64(self.sum);
        bytes.put_u64(self.position);
        bytes
    }

    /// The tally with these bytes; `None` for what [`encode`](Self::encode) did not write.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 25 || bytes.get_u8() != VERSION {
            return None;
        }
        Some(Self {
            entries: bytes.get_u64(),
            sum: bytes.get_u64(),
            position: bytes.get_u64(),
        })
    }
}

/// The index of leaves in sled. The flusher is its only writer.
struct SledIndex {
    /// sled, or why it is gone.
    db: RwLock<Result<sled::Db, StoreError>>,
    tally: Mutex<Tally>,
    position: AtomicU64,
}

impl SledIndex {
    /// Opens what is in a folder, and checks all of it.
    fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |e| StoreError::io("open the index", e);
        files::make_private(dir).map_err(failed)?;
        files::remove_leftovers(dir).map_err(failed)?;
        files::wait_for_handover(&dir.join("db")).map_err(failed)?;
        let db = call("open the index", || {
            sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                // Its own flusher's panics could not be caught.
                .flush_every_ms(None)
                .open()
        })?;
        match check(&db) {
            Ok(tally) => Ok(Self {
                db: RwLock::new(Ok(db)),
                tally: Mutex::new(tally),
                position: AtomicU64::new(tally.position),
            }),
            Err(error) => {
                // The check's error says more than that of the end could.
                let _ = close(db);
                Err(error)
            }
        }
    }

    fn db(&self) -> Result<sled::Db, StoreError> {
        self.db
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns changes into a batch of sled's, with the tally that goes along.
    fn plan(
        &self,
        db: &sled::Db,
        changes: &RefChanges,
        position: u64,
    ) -> Result<(sled::Batch, Tally), StoreError> {
        let (mut batch, mut tally) = (sled::Batch::default(), *self.tally());
        for (first, leaf) in changes {
            let old = call("read the index", || db.get(first))?;
            if let Some(old) = &old {
                tally.subtract(first, old);
            }
            match leaf {
                Some(leaf) => {
                    let leaf = leaf.encode();
                    tally.add(first, &leaf);
                    batch.insert(first.as_slice(), &leaf);
                }
                None if old.is_some() => batch.remove(first.as_slice()),
                None => {}
            }
        }
        tally.position = position;
        batch.insert(&SELF, tally.encode());
        Ok((batch, tally))
    }

    /// Uses sled no more: of what it holds in memory nothing can be said, and its end would write that.
    fn give_up(&self, error: StoreError) -> StoreError {
        // It can be made anew, so nothing that waits for it is lost for good.
        let error = match error {
            StoreError::Failed { reason } => {
                StoreError::io("use the index", io::Error::other(reason.to_string()))
            }
            other => other,
        };
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(db) = std::mem::replace(&mut *db, Err(error.clone())) {
            let _: &mut sled::Db = Box::leak(Box::new(db));
        }
        error
    }
}

/// Compares all entries with the tally.
fn check(db: &sled::Db) -> Result<Tally, StoreError> {
    let damaged = |reason: String| StoreError::from(Corrupt::new("index", reason));
    let kept = match call("read the index", || db.get(SELF))? {
        None => Tally::default(),
        Some(bytes) => Tally::decode(&bytes)
            .ok_or_else(|| damaged("what it says about itself is unreadable".to_owned()))?,
    };
    let mut found = Tally {
        position: kept.position,
        ..Tally::default()
    };
    let mut entries = db.iter();
    while let Some((first, leaf)) = call("read the index", || entries.next().transpose())? {
        if first != SELF {
            decode((&first, &leaf))?;
            found.add(&first, &leaf);
        }
    }
    if found != kept {
        let (there, written) = (found.entries, kept.entries);
        return Err(damaged(format!(
            "{written} entries were written and {there} are there, or some were changed"
        )));
    }
    Ok(kept)
}

fn decode((first, leaf): (&[u8], &[u8])) -> Result<LeafEntry, StoreError> {
    let leaf =
        LeafRef::decode(leaf).ok_or_else(|| Corrupt::new("index", "an entry is malformed"))?;
    Ok((first.to_vec(), leaf))
}

fn close(db: sled::Db) -> Result<(), StoreError> {
    call("close the index", move || {
        drop(db);
        Ok(())
    })
}

impl LeafIndex for SledIndex {
    fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    fn floor(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        let db = self.db()?;
        let found = call("read the index", || {
            db.range(..=key).next_back().transpose()
        })?;
        found
            .map(|(first, leaf)| decode((&first, &leaf)))
            .transpose()
    }

    fn above(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        if key >= SELF.as_slice() {
            return Ok(None);
        }
        let db = self.db()?;
        let range = (Excluded(key), Excluded(SELF.as_slice()));
        let found = call("read the index", || {
            db.range::<&[u8], _>(range).next().transpose()
        })?;
        found
            .map(|(first, leaf)| decode((&first, &leaf)))
            .transpose()
    }

    fn walk(&self, visit: &mut RefVisitor<'_>) -> Result<(), StoreError> {
        let db = self.db()?;
        let mut entries = db.range(..SELF.as_slice());
        while let Some((first, leaf)) = call("read the index", || entries.next().transpose())? {
            let (first, leaf) = decode((&first, &leaf))?;
            visit(&first, leaf)?;
        }
        Ok(())
    }

    fn apply(&self, changes: &RefChanges, position: u64) -> Result<(), StoreError> {
        let db = self.db()?;
        let applied = self
            .plan(&db, changes, position)
            .and_then(|(batch, tally)| {
                call("write to the index", || db.apply_batch(batch))?;
                Ok(tally)
            });
        drop(db);
        let tally = applied.map_err(|error| self.give_up(error))?;
        *self.tally() = tally;
        self.position.store(position, Ordering::Release);
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *db, Err(StoreError::Closed)) {
            Ok(db) => close(db),
            Err(_) => Ok(()),
        }
    }
}

impl fmt::Debug for SledIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledIndex")
            .field("tally", &*self.tally())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(n: u32) -> LeafRef {
        LeafRef {
            pack: 1,
            offset: 2,
            bytes: 3,
            crc: n,
            records: 5,
        }
    }

    fn open(dir: &Path) -> Result<Arc<dyn LeafIndex>, StoreError> {
        SledHome::new(&dir.join("refs")).open()
    }

    fn furnished(dir: &Path) -> Arc<dyn LeafIndex> {
        let index = open(dir).unwrap();
        let changes: Vec<_> = (1..=9)
            .map(|n| (vec![0x20, n], Some(leaf(n.into()))))
            .collect();
        index.apply(&changes, 7).unwrap();
        index
            .apply(&[(vec![0x20, 5], None), (vec![0x20, 6], Some(leaf(60)))], 8)
            .unwrap();
        index
    }

    #[test]
    fn it_finds_leaves_by_their_keys_again() {
        let dir = tempfile::tempdir().unwrap();
        furnished(dir.path()).close().unwrap();
        let index = open(dir.path()).unwrap();
        assert_eq!(index.position(), 8);
        let at = |n| Some((vec![0x20, n], leaf(n.into())));
        assert_eq!(index.floor(&[0x20]).unwrap(), None);
        assert_eq!(index.above(&[0x20]).unwrap(), at(1));
        assert_eq!(index.floor(&[0x20, 5, 1]).unwrap(), at(4));
        assert_eq!(
            index.above(&[0x20, 4]).unwrap(),
            Some((vec![0x20, 6], leaf(60)))
        );
        assert_eq!(index.floor(&[0xef]).unwrap(), at(9));
        assert_eq!(index.above(&[0x20, 9]).unwrap(), None);
        let mut walked = 0;
        index
            .walk(&mut |_, _| {
                walked += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(walked, 8);
    }

    #[test]
    fn what_is_missing_or_changed_is_found_when_it_is_opened() {
        for change in [None, Some(leaf(99))] {
            let dir = tempfile::tempdir().unwrap();
            furnished(dir.path()).close().unwrap();
            let db = sled::Config::new()
                .path(dir.path().join("refs"))
                .open()
                .unwrap();
            let old = match change {
                None => db.remove([0x20, 3]),
                Some(leaf) => db.insert([0x20, 3], &leaf.encode()),
            };
            assert!(old.unwrap().is_some());
            drop(db);
            let error = open(dir.path()).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        }
    }

    #[test]
    fn what_is_set_aside_is_kept_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let home = SledHome::new(&dir.path().join("refs"));
        for _ in 0..4 {
            home.open().unwrap().close().unwrap();
            home.set_aside().unwrap();
        }
        // Nothing there is no fault.
        home.set_aside().unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["refs.aside-3", "refs.aside-4"]);
    }

    #[test]
    fn layout_2_of_the_index_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path()).unwrap();
        index.apply(&[(vec![0x20, 1], Some(leaf(1)))], 258).unwrap();
        index.close().unwrap();
        let db = sled::Config::new()
            .path(dir.path().join("refs"))
            .open()
            .unwrap();
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let found: Vec<_> = db
            .iter()
            .map(|e| e.unwrap())
            .map(|(k, v)| (hex(&k), hex(&v)))
            .collect();
        assert_eq!(found[0], ("2001".to_owned(), hex(&leaf(1).encode())));
        assert_eq!(found[1].0, "f0");
        assert_eq!(found[1].1[..18], *"020000000000000001");
        assert_eq!(found[1].1[34..], *"0000000000000102");
        assert_eq!(found.len(), 2);
    }
}

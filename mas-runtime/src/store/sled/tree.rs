//! sled's tree: one for everything, values in pieces, a sum over all entries.
//!
//! **Layout**, beside the keys of [`keys`]:
//!
//! | key | value |
//! |---|---|
//! | any key of the store | `00`, then the value, when it has at most 4096 bytes |
//! | | `01`, number u64, bytes u64, hash u64, when it has more |
//! | `f0` | the [`Tally`] over all of the above |
//! | `f1`, number u64, piece u32 | 4096 bytes of a large value, or the rest of it |
//!
//! Numbers are big-endian. Why pieces: sled writes a node of its tree in one go, up to 16 entries of it, and moves what is
//! larger than 128 KiB into files of their own, which it neither syncs nor removes reliably.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use super::digest::{Tally, hash};
use super::guard::call;
use super::index::{Place, SyncFile};
use crate::model::limits::STORE_HANDOVER_MAX;
use crate::store::apply;
use crate::store::index::{Changes, EntryVisitor, Index, KeyVisitor};
use crate::store::keys::{self, ENGINE_SPACE, KeyRange};
use crate::store::{Corrupt, StoreError};

/// Largest value that stands in its entry, and size of a piece: with it a node has at most 80 KiB.
const PIECE_BYTES: usize = 4096;

/// First byte of a stored value that is all there.
const INLINE: u8 = 0;
/// First byte of a stored value that is kept in pieces.
const PIECES: u8 = 1;

/// The key of the tally.
const TALLY: [u8; 1] = [ENGINE_SPACE];
/// The first byte of the keys of pieces.
const PIECE_SPACE: u8 = ENGINE_SPACE + 1;

/// The open tree.
pub(super) struct Tree {
    db: sled::Db,
    tally: Tally,
    /// The position of the last commit in it.
    position: u64,
    /// sled's own file, for the sync.
    file: File,
    sync: SyncFile,
    /// Where sled puts what it finds too large. Nothing should be.
    blobs: PathBuf,
}

/// A group in sled's terms.
pub(super) struct Plan {
    batch: sled::Batch,
    tally: Tally,
    position: u64,
}

impl Tree {
    /// Opens the tree and checks all of it. `noted` is a position that was on disk.
    pub(super) fn open(place: &Place, noted: u64) -> Result<Self, StoreError> {
        let failed = |e| StoreError::io("open the index", e);
        remove_leftovers(&place.dir).map_err(failed)?;
        let path = place.dir.join("db");
        wait_for_handover(&path).map_err(failed)?;
        let (db, file) = call("open the index", || {
            let db = sled::Config::new()
                .path(&place.dir)
                .cache_capacity(place.cache_bytes)
                // Its own flusher would only repeat what the committer does, and its panics could not be caught.
                .flush_every_ms(None)
                .open()?;
            let file = File::options().write(true).open(&path)?;
            Ok((db, file))
        })?;
        let tree = Self {
            db,
            tally: Tally::default(),
            position: 0,
            file,
            sync: place.sync.clone(),
            blobs: place.dir.join("blobs"),
        };
        match tree.check(noted) {
            Ok((tally, position)) => Ok(Self {
                tally,
                position,
                ..tree
            }),
            Err(error) => {
                // The check's error says more than that of the end could.
                let _ = tree.close();
                Err(error)
            }
        }
    }

    /// Compares everything with its tally, large values with their hashes, and the position with one that was on disk. Gives
    /// the tally and the position.
    fn check(&self, noted: u64) -> Result<(Tally, u64), StoreError> {
        let damaged = |reason: String| StoreError::from(Corrupt::new("index", reason));
        let stored = call("read the index", || self.db.get(TALLY))?;
        let kept = match &stored {
            None => Tally::default(),
            Some(bytes) => Tally::decode(bytes)
                .ok_or_else(|| damaged("the sum over its entries is unreadable".to_owned()))?,
        };
        let mut found = Tally {
            chunked: kept.chunked,
            ..Tally::default()
        };
        let mut entries = self.db.range(..TALLY);
        while let Some((key, value)) = call("read the index", || entries.next().transpose())? {
            found.add(&key, &value);
            if Pieces::of(&key, &value)?.is_some() {
                // The sum holds the hash of a large value, not its pieces.
                self.value(&key, &value)?;
            }
        }
        if found != kept {
            let (there, written) = (found.entries, kept.entries);
            return Err(damaged(format!(
                "{written} entries were written and {there} are there, or some were changed"
            )));
        }
        let position = apply::counters(self)?.position;
        if position < noted {
            return Err(damaged(format!(
                "it ends at commit {position}, but {noted} was on disk"
            )));
        }
        Ok((kept, position))
    }

    /// The position of the last commit in it.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Turns changes into sled's terms, with the pieces and the tally that go along.
    pub(super) fn plan(&self, changes: &Changes, position: u64) -> Result<Plan, StoreError> {
        let mut plan = Plan {
            batch: sled::Batch::default(),
            tally: self.tally,
            position,
        };
        for (key, value) in changes.iter() {
            let old = call("read the index", || self.db.get(key))?;
            if let Some(old) = &old {
                plan.tally.subtract(key, old);
                if let Some(pieces) = Pieces::of(key, old)? {
                    pieces.keys().for_each(|key| plan.batch.remove(key));
                }
            }
            match value {
                Some(value) => plan.put(key, value),
                None if old.is_some() => plan.batch.remove(key.as_slice()),
                None => {}
            }
        }
        plan.batch.insert(&TALLY, plan.tally.encode());
        Ok(plan)
    }

    pub(super) fn apply(&mut self, plan: Plan) -> Result<(), StoreError> {
        call("write to the index", || self.db.apply_batch(plan.batch))?;
        self.tally = plan.tally;
        self.position = plan.position;
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        call("flush the index", || self.db.flush()).map(drop)
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("sync the index", e);
        (self.sync)(&self.file).map_err(failed)?;
        sync_blobs(&self.blobs, &self.sync).map_err(failed)
    }

    /// Ends sled, which writes what is in its buffers.
    pub(super) fn close(self) -> Result<(), StoreError> {
        call("close the index", move || {
            drop(self.db);
            Ok(())
        })
    }

    /// Lets go of sled after an error, and says what that means.
    pub(super) fn give_up(self, error: StoreError) -> StoreError {
        // After an error of its log sled writes nothing more, so a part of a group can't reach the disk.
        let silent = self.db.context.global_error().is_err();
        if silent && matches!(error, StoreError::Io { .. }) {
            let closed = self.close();
            // sled waits for the disk when it writes. An error that is no lack of room may speak of what the system has
            // dropped: a tree that is opened on it may show more than the disk will ever hold.
            let lost = if error.is_full() {
                error
            } else {
                error.into_failed()
            };
            return closed.err().unwrap_or(lost);
        }
        // Its end would write what is in its buffers: perhaps a part of a group. It stays in memory instead.
        let _: &mut Self = Box::leak(Box::new(self));
        StoreError::failed(error.to_string())
    }

    /// The value that is stored in these terms.
    fn value(&self, key: &[u8], stored: &[u8]) -> Result<Bytes, StoreError> {
        let Some(pieces) = Pieces::of(key, stored)? else {
            return Ok(Bytes::copy_from_slice(&stored[1..]));
        };
        let damaged = |reason: &str| StoreError::from(Corrupt::new(keys::describe(key), reason));
        // Grows with the pieces that are there, not with the size that is claimed.
        let mut value = Vec::new();
        for piece in pieces.keys() {
            match call("read the index", || self.db.get(piece))? {
                Some(bytes) => value.extend_from_slice(&bytes),
                None => return Err(damaged("a piece of it is missing")),
            }
        }
        if value.len() as u64 != pieces.bytes || hash(key, &value) != pieces.hash {
            return Err(damaged("its pieces are not what was written"));
        }
        Ok(value.into())
    }

    /// Shows what stands in a range, as sled has it.
    fn walk(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut entries = self.db.range(range.from.as_slice()..range.to.as_slice());
        while let Some((key, stored)) = call("read the index", || entries.next().transpose())? {
            if visit(&key, &stored)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Index for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let stored = call("read the index", || self.db.get(key))?;
        stored.map(|stored| self.value(key, &stored)).transpose()
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        self.walk(range, |key, stored| visit(key, self.value(key, stored)?))
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        self.walk(range, |key, _| visit(key))
    }
}

impl Plan {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut stored = Vec::with_capacity(value.len().min(PIECE_BYTES) + 25);
        if value.len() <= PIECE_BYTES {
            stored.put_u8(INLINE);
            stored.put_slice(value);
        } else {
            self.tally.chunked += 1;
            let pieces = Pieces {
                number: self.tally.chunked,
                bytes: value.len() as u64,
                hash: hash(key, value),
            };
            for (key, piece) in pieces.keys().zip(value.chunks(PIECE_BYTES)) {
                self.batch.insert(key, piece);
            }
            stored.put_u8(PIECES);
            stored.put_u64(pieces.number);
            stored.put_u64(pieces.bytes);
            stored.put_u64(pieces.hash);
        }
        self.tally.add(key, &stored);
        self.batch.insert(key, stored);
    }
}

/// A large value's entry.
struct Pieces {
    number: u64,
    bytes: u64,
    hash: u64,
}

impl Pieces {
    /// The pieces of a stored value; `None` when it is all there.
    fn of(key: &[u8], stored: &[u8]) -> Result<Option<Self>, Corrupt> {
        match stored.split_first() {
            Some((&INLINE, _)) => Ok(None),
            Some((&PIECES, mut rest)) if rest.len() == 24 => Ok(Some(Self {
                number: rest.get_u64(),
                bytes: rest.get_u64(),
                hash: rest.get_u64(),
            })),
            _ => Err(Corrupt::new(
                keys::describe(key),
                "its entry in the index is malformed",
            )),
        }
    }

    fn keys(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let number = self.number;
        let count = self.bytes.div_ceil(PIECE_BYTES as u64);
        // Values are far smaller than 2^32 pieces; a claim of more ends at the first that is missing.
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(move |piece| {
            let mut key = Vec::with_capacity(13);
            key.put_u8(PIECE_SPACE);
            key.put_u64(number);
            key.put_u32(piece);
            key
        })
    }
}

/// Removes what an interrupted snapshot has left: sled would take it for the latest one and refuse to open.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing an interrupted snapshot of sled");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Waits until an earlier tree has let go of sled's file: its threads end a little after it, and after the lock of the
/// directory, which this engine holds by now.
fn wait_for_handover(path: &Path) -> io::Result<()> {
    const STEP: Duration = Duration::from_millis(5);
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut waited = Duration::ZERO;
    while let Err(error) = file.try_lock() {
        match error {
            fs::TryLockError::WouldBlock if waited < STORE_HANDOVER_MAX => {
                thread::sleep(STEP);
                waited += STEP;
            }
            fs::TryLockError::WouldBlock => {
                let text = "an engine that failed still holds it: end its process";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            fs::TryLockError::Error(error) => return Err(error),
        }
    }
    Ok(())
}

/// Brings sled's files for large values to disk, and their names.
fn sync_blobs(dir: &Path, sync: &SyncFile) -> io::Result<()> {
    let mut any = false;
    for entry in fs::read_dir(dir)? {
        match File::open(entry?.path()) {
            Ok(file) => sync(&file)?,
            // sled removes what it has replaced.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        any = true;
    }
    if any {
        super::open::sync_dir(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The entries of a tree with a small and a large value, a piece by its hash: it may be added to, with another format
    /// of the directory, and never changed.
    const LAYOUT_1: &[(&str, &str)] = &[
        ("1001", "00070707"),
        ("1002", "010000000000000001000000000000100179257c314e9d0ae1"),
        ("f0", "010000000000000002d97a042a087951c20000000000000001"),
        ("f1000000000000000100000000", "hash bea4e15e9f09a95a"),
        ("f1000000000000000100000001", "07"),
    ];

    fn place(dir: &Path) -> Place {
        Place {
            dir: dir.join("index"),
            tip: dir.join("tip"),
            cache_bytes: 1024 * 1024,
            sync: Arc::new(File::sync_data),
        }
    }

    /// A tree with a small and a large value.
    fn furnished(place: &Place) -> Tree {
        let mut tree = Tree::open(place, 0).unwrap();
        let mut changes = Changes::default();
        changes.put(vec![0x10, 1], Bytes::from(vec![7; 3]));
        changes.put(vec![0x10, 2], Bytes::from(vec![7; PIECE_BYTES + 1]));
        let plan = tree.plan(&changes, 1).unwrap();
        tree.apply(plan).unwrap();
        tree
    }

    #[test]
    fn a_piece_that_was_changed_or_is_missing_is_found_when_opening() {
        for piece in [None, Some(vec![8_u8])] {
            let dir = tempfile::tempdir().unwrap();
            let place = place(dir.path());
            let tree = furnished(&place);
            tree.close().unwrap();
            let tree = Tree::open(&place, 0).unwrap();
            let key = [
                &[PIECE_SPACE][..],
                &1_u64.to_be_bytes(),
                &1_u32.to_be_bytes(),
            ]
            .concat();
            let old = match &piece {
                None => tree.db.remove(key),
                Some(piece) => tree.db.insert(key, piece.clone()),
            };
            assert!(old.unwrap().is_some());
            tree.close().unwrap();
            let error = Tree::open(&place, 0).err();
            assert!(
                matches!(error, Some(StoreError::Corrupt(_))),
                "{piece:?}: {error:?}"
            );
        }
    }

    #[test]
    fn layout_1_of_the_tree_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let tree = furnished(&place(dir.path()));
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let found: Vec<_> = tree.db.iter().map(Result::unwrap).collect();
        let shown = found.iter().map(|(key, value)| match value.len() {
            PIECE_BYTES => (hex(key), format!("hash {:x}", hash(key, value))),
            _ => (hex(key), hex(value)),
        });
        let shown: Vec<_> = shown.collect();
        let expected = LAYOUT_1
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        assert_eq!(shown, expected.collect::<Vec<_>>());
    }
}

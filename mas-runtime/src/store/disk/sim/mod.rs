//! A disk in memory that keeps apart what was written and what was synced, and that can crash, fill up and fail.
//!
//! What a power cut may leave of it is what [`Disk`] says, and no more gentle: every sector of every unsynced write, every
//! unsynced size and every unsynced name is kept or lost for itself. Four things are not as in every file system:
//!
//! | what | here |
//! |---|---|
//! | folders | durable at once, never removed or renamed |
//! | paths | taken as they are; a file is made in a folder that was made, or in `/` |
//! | rename | within one folder; across folders it is refused, as across file systems |
//! | a removed file | takes no room once nobody has it open |
//!
//! | file | holds |
//! |---|---|
//! | `state` | what is on the disk, and what the operations do to it |
//! | `contents` | what a file holds, seen and durable |
//! | `folder` | what names stand for, seen and durable |
//! | `fate` | what a power cut keeps |

mod contents;
mod fate;
mod folder;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fate::PowerCut;
use folder::FileId;
use state::State;

use super::{Disk, DiskFile};

/// A disk in memory. Clones are handles to the same disk; two disks that are used alike stay alike.
///
/// Every call of `create`, `rename`, `remove`, `sync_dir`, `set_size`, `write_at` and `sync` is one operation, numbered
/// from 1, whether it succeeds or not. What the test itself does through the methods here is none, and goes on working
/// after a crash.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
struct SimFile {
    disk: SimDisk,
    file: FileId,
    /// Keeps the file, though no name stands for it.
    _open: Arc<()>,
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How many operations there were. Those after the crash are not counted.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations()
    }

    /// Lets operation `number` and everything after it fail; the next one, when that many were done already.
    ///
    /// The one that is hit has been done, unsynced, for all that its caller knows: [`kill`](Self::kill) shows it whole,
    /// [`after_crash`](Self::after_crash) any part of it. A sync that is hit has synced any part likewise.
    pub(crate) fn crash_at(&self, number: u64) {
        self.state().crash_at(number);
    }

    /// What a power cut may leave, all of it durable: another disk, without the faults of this one.
    ///
    /// One seed gives one outcome. Among few seeds are some that keep all, lose all, and keep what came first.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        self.state().after(&PowerCut::seeded(seed)).into()
    }

    /// What a killed process leaves, all that was written, as unsynced as it was: another disk, without the faults of this
    /// one.
    pub(crate) fn kill(&self) -> Self {
        self.state().killed().into()
    }

    /// Lets `create`, `set_size` and `write_at` fail with this error and change nothing, until it is `None`.
    pub(crate) fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.state().fail_writes(kind);
    }

    /// Gives the disk room for so many bytes in all its files, at most [`state::BYTES_MAX`]. What would take more fails
    /// with [`io::ErrorKind::StorageFull`] and changes nothing; `create` does once no byte is left.
    pub(crate) fn full_at_bytes(&self, limit: u64) {
        self.state().full_at_bytes(limit);
    }

    /// Is full from operation `number` on: `create`, `set_size` and `write_at` change nothing. `None` gives room again.
    pub(crate) fn full_from(&self, number: Option<u64>) {
        self.state().full_from(number);
    }

    /// Lets the next sync of a file fail and lose what it should have synced.
    ///
    /// Reads go on seeing it and later syncs succeed, but it is never durable: so does Linux when a page cannot be written
    /// (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    pub(crate) fn fail_next_sync(&self) {
        self.state().fail_next_sync();
    }

    /// Flips a bit of a file, in what is read and in what is durable. `bit` counts from the lowest, 0 to 7.
    pub(crate) fn flip(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.state().flip(path, offset, bit)
    }

    /// All files and their sizes in bytes, in order of their paths.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        self.state().files()
    }

    /// What a file holds.
    pub(crate) fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.find(path)?;
        Ok(state.seen(file)?.to_vec())
    }

    /// Lets a file hold `bytes` and nothing else, durable, and makes it if it is not there. Its folder is synced.
    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.state().write_file(path, bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together, so what a panic left behind is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what can be read or is durable at once.
    fn now<T>(&self, what: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.check()?;
        what(&mut state)
    }

    /// Does an operation that changes something: when the crash hits it, it is done all the same.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let hit = state.begin()?;
        let changed = change(&mut state);
        if hit { Err(state::crashed()) } else { changed }
    }

    /// Does an operation that syncs something: when the crash hits it, all stays unsynced, of which any part may be kept.
    fn sync(&self, sync: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let hit = state.begin()?;
        if hit {
            return Err(state::crashed());
        }
        sync(&mut state)
    }

    fn handle(&self, (file, open): (FileId, Arc<()>)) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            file,
            _open: open,
        })
    }
}

impl From<State> for SimDisk {
    fn from(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("files", &state.files().len())
            .field("bytes", &state.used_bytes())
            .field("operations", &state.operations())
            .finish()
    }
}

impl Disk for SimDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.now(|state| state.make_dir(dir))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.now(|state| state.names(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let opened = self.change(|state| state.create(path))?;
        Ok(self.handle(opened))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let opened = self.now(|state| state.open(path))?;
        Ok(self.handle(opened))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| state.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync(|state| state.sync_dir(dir))
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.disk.state().seen(self.file).map(<[u8]>::len).ok();
        f.debug_struct("SimFile")
            .field("size", &size)
            .finish_non_exhaustive()
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.disk
            .now(|state| Ok(state.seen(self.file)?.len() as u64))
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.disk.change(|state| state.set_size(self.file, size))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk
            .now(|state| state.read_at(self.file, offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk
            .change(|state| state.write_at(self.file, offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync(|state| state.sync(self.file))
    }
}

//! The disk as the embedded engine sees it: files that are written at an offset, brought to the disk, renamed.
//!
//! Everything that the engine writes itself goes through [`Disk`], so that the same code runs on a real disk and on a
//! simulated one that loses, tears and reorders what was not brought to it. (sled does its own I/O; what it keeps can be
//! made anew from the rest.)
//!
//! | file | holds |
//! |---|---|
//! | `real` | [`RealDisk`]: the file system |
//! | `still` | [`StillDisk`]: takes changes and forgets them |
//! | `sim` | [`SimDisk`](sim::SimDisk): a disk in memory that crashes, for tests and feature `testkit` |

mod real;
#[cfg(test)]
pub(crate) mod sim;
mod still;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use real::RealDisk;
pub(crate) use still::StillDisk;

/// Where files live. All calls may block.
///
/// What a name stands for (after [`create`](Self::create), [`rename`](Self::rename), [`remove`](Self::remove)) outlives a
/// power cut only once [`sync_dir`](Self::sync_dir) came back for its folder; what a file holds, only once
/// [`DiskFile::sync`] did. Until then any part of it may be lost, in any order, whole sectors of 512 bytes at a time.
pub(crate) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a folder that only its owner can look into, and those above it. One that is there stays as it is.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a folder, in order of their bytes.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a file that is not there yet, empty, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Who has it open keeps it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Brings the names in a folder to the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Handles may be used from several threads; two writes at one place have no order.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync {
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;

    /// Cuts it, or extends it by zeros.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "files only grow, but a disk can do this")
    )]
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Fills `buffer` from `offset` on. [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on, beyond the end too.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Brings what was written to the disk, and the size.
    fn sync(&self) -> io::Result<()>;
}

/// All of a file, when it has at most `bytes_max` bytes.
pub(crate) fn read_whole(file: &dyn DiskFile, bytes_max: u64) -> io::Result<Vec<u8>> {
    let size = file.size()?;
    if size > bytes_max {
        let text = format!("it has {size} bytes, at most {bytes_max} are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Writes a file so that its name stands for all of it or for what it stood for before: beside it first, then renamed.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    remove_if_there(disk, &beside)?;
    let file = disk.create(&beside)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

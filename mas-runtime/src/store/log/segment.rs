//! Segments: their names, their headers, and how one is made.
//!
//! A segment is a file of a fixed size. It is filled with zeros and synced before it is used, so that a later sync has no
//! size and no new blocks to bring to the disk. Its header is on disk before it gets its name: whatever bears the name of a
//! segment has a good header, or was damaged.
//!
//! **Layout** of the header, all numbers little-endian; records follow:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `mas-log` and a zero |
//! | 8 | 4 | format: 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | number of the segment, as in its name |
//! | 24 | 8 | first position that may stand in it: all before were on disk when it was made |
//! | 32 | 8 | bytes of the file: a shorter one was cut off |
//! | 40 | 16 | id of the store |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC32C of bytes 0 to 60 |

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crc32c::crc32c;

use super::error::LogError;
use super::record::{HEADER_BYTES as RECORD_HEADER_BYTES, u32_at, u64_at};
use crate::store::disk::{self, Disk, DiskFile};

/// Bytes of a segment before its records.
pub(super) const HEADER_BYTES: usize = 64;

/// The only format so far.
pub(super) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"mas-log\0";

/// The segment that is being made.
pub(super) const SPARE: &str = "spare";

/// What sizes of segments are a multiple of: a block of most file systems.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) first: u64,
    pub(super) bytes: u64,
    pub(super) store_id: [u8; 16],
}

/// Why a header can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged(&'static str),
    NewerFormat(u32),
}

impl Segment {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.store_id);
        let check = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment that has `number` in its name.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], number: u64) -> Result<Self, HeaderFault> {
        if &bytes[..8] != MAGIC || crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderFault::Damaged("its header is damaged"));
        }
        match u32_at(bytes, 8) {
            FORMAT => {}
            newer => return Err(HeaderFault::NewerFormat(newer)),
        }
        let mut store_id = [0; 16];
        store_id.copy_from_slice(&bytes[40..56]);
        let segment = Self {
            number: u64_at(bytes, 16),
            first: u64_at(bytes, 24),
            bytes: u64_at(bytes, 32),
            store_id,
        };
        if segment.number != number {
            return Err(HeaderFault::Damaged(
                "its header has another number than its name",
            ));
        }
        if segment.first == 0 || segment.first == u64::MAX || segment.bytes < bytes_for(0) {
            return Err(HeaderFault::Damaged("its header can't be meant"));
        }
        Ok(segment)
    }

    /// What the checks of its records begin from.
    pub(super) fn seed(&self) -> u32 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.store_id);
        crc32c(&bytes)
    }
}

/// Bytes of a segment that so many bytes of records fit in, with a mark behind them.
pub(super) const fn bytes_for(record_bytes: u64) -> u64 {
    let bytes = record_bytes + (HEADER_BYTES + RECORD_HEADER_BYTES) as u64;
    bytes.next_multiple_of(BLOCK_BYTES)
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

pub(super) fn spare_path(dir: &Path) -> PathBuf {
    dir.join(SPARE)
}

/// The numbers of the segments in a folder, in order.
pub(super) fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.names(dir);
    let names = names.map_err(|source| LogError::io("list", dir, source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_in(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in the name of a segment; `None` when it is not one.
pub(super) fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    let is_ours = number > 0 && number < u64::MAX && format!("{number:016x}") == digits;
    is_ours.then_some(number)
}

/// Makes segments. Clones share what was made ahead of time, so that one may do that on another thread.
#[derive(Clone)]
pub(crate) struct SpareMaker {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The size of the next segment.
    bytes: AtomicU64,
    /// Held while the file [`SPARE`] is worked on.
    spare: Mutex<Option<Spare>>,
}

/// A file of zeros that is on disk.
struct Spare {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl SpareMaker {
    /// A maker for an open log; what an earlier one left is removed.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Result<Self, LogError> {
        let left = disk::remove_if_there(&*disk, &spare_path(dir));
        left.map_err(|source| LogError::io("remove", &spare_path(dir), source))?;
        Ok(Self {
            disk,
            dir: dir.into(),
            shared: Arc::new(Shared {
                bytes: AtomicU64::new(bytes),
                spare: Mutex::new(None),
            }),
        })
    }

    /// Makes the next segment ahead of time, unless one is ready. It blocks while so many zeros are brought to the disk.
    ///
    /// # Errors
    /// [`LogError::Io`]; the log works on without.
    pub(crate) fn prepare(&self) -> Result<(), LogError> {
        let mut spare = self.lock();
        if spare.is_none() {
            *spare = Some(self.fill(None, self.bytes())?);
        }
        Ok(())
    }

    /// Whether a segment is ready to be taken. `false` also while one is being made.
    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.spare.try_lock().is_ok_and(|it| it.is_some())
    }

    /// The size of the next segment.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Makes a segment with at least so many bytes, from the spare one if there is one, in place of whatever had its name.
    /// `records` are its first; they fit.
    ///
    /// When this comes back well, its name, its header and they are on disk. When it does not, all may be or none.
    pub(super) fn make(
        &self,
        mut segment: Segment,
        records: &[u8],
    ) -> Result<(Segment, Arc<dyn DiskFile>), LogError> {
        let mut ready = self.lock();
        let spare = self.fill(ready.take(), segment.bytes)?;
        segment.bytes = spare.bytes;
        let (from, to) = (spare_path(&self.dir), path(&self.dir, segment.number));
        let made = (|| {
            spare.file.write_at(0, &segment.encode())?;
            spare.file.write_at(HEADER_BYTES as u64, records)?;
            spare.file.sync()?;
            self.disk.rename(&from, &to)?;
            self.disk.sync_dir(&self.dir)
        })();
        made.map_err(|source| LogError::io("make", &to, source))?;
        Ok((segment, spare.file))
    }

    /// A spare with at least so many bytes. On failure nothing is left that takes room.
    fn fill(&self, spare: Option<Spare>, bytes: u64) -> Result<Spare, LogError> {
        let path = spare_path(&self.dir);
        let filled = (|| {
            let (file, from) = match spare {
                Some(spare) if spare.bytes >= bytes => return Ok(spare),
                Some(spare) => (spare.file, spare.bytes),
                None => {
                    disk::remove_if_there(&*self.disk, &path)?;
                    (self.disk.create(&path)?, 0)
                }
            };
            zero(&*file, from, bytes)?;
            file.sync()?;
            Ok(Spare { file, bytes })
        })();
        filled.map_err(|source| {
            // What went wrong first says more; what is left is removed when the next one is made.
            let _ = disk::remove_if_there(&*self.disk, &path);
            LogError::io("make", &path, source)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Spare>> {
        let spare = self.shared.spare.lock();
        spare.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SpareMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SpareMaker");
        shown.field("dir", &self.dir).field("bytes", &self.bytes());
        shown.finish_non_exhaustive()
    }
}

/// Writes zeros from one offset up to another.
pub(super) fn zero(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    const CHUNK: u64 = 256 * 1024;
    let zeros = vec![0; CHUNK.min(to.saturating_sub(from)) as usize];
    let mut offset = from;
    while offset < to {
        let bytes = CHUNK.min(to - offset);
        file.write_at(offset, &zeros[..bytes as usize])?;
        offset += bytes;
    }
    Ok(())
}

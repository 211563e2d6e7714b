//! The commit log of the embedded engine: bodies under positions that follow each other, on disk once a sync came back.
//!
//! It knows nothing of batches, decides nothing, and starts no thread. Nothing in it is changed in place but the mark at its
//! end; what is not needed any more goes by whole segments.
//!
//! **Layout** of the folder:
//!
//! | name | holds |
//! |---|---|
//! | `0000000000000001.log` … | segments, numbered in hex without a gap |
//! | `spare` | the next segment while it is made; of no meaning when the log is opened |
//!
//! A segment is a header of 64 bytes (see [`segment`]) and records that begin at multiples of 8 bytes (see [`record`]), each
//! with a header of 32 bytes; then zeros. Behind the last record may stand a **mark**, a record without a body, that says
//! that all before it is on disk. The next record is written over it.
//!
//! What a crash may leave, and how it is told from damage: see [`recover`].
//!
//! | file | holds |
//! |---|---|
//! | `record` | the bytes of a record |
//! | `segment` | the bytes of a segment's header; making segments |
//! | `read` | reading one segment |
//! | `recover` | opening: what a bad record means |
//! | `inspect` | looking at a log without changing it; cutting it on purpose |
//! | `error` | [`LogError`] |

mod error;
pub(crate) mod inspect;
mod read;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, Disk, DiskFile, StillDisk};
use crate::model::limits::BATCH_BYTES_MAX;
use read::Replay;
use segment::Segment;

pub use inspect::{LogProblem, LogReport, SegmentReport};

pub(crate) use error::LogError;
pub(crate) use recover::Recovered;
pub(crate) use segment::SpareMaker;

/// Whether a folder holds a log, whatever state that is in.
pub(crate) fn is_there(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    Ok(!segment::numbers(disk, dir)?.is_empty())
}

/// Reads a log as opening does, and hands out every body after position `after`; `None` when there is no log. Nothing is
/// changed.
///
/// # Errors
/// As [`Log::open`].
pub(crate) fn look<E: From<LogError>>(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    store_id: [u8; 16],
    after: u64,
    replay: &mut Replay<'_, E>,
) -> Result<Option<Recovered>, E> {
    let ready = recover::recover(&StillDisk::over(disk), dir, store_id, after, replay)?;
    Ok(ready.map(|ready| ready.recovered))
}

/// Whether a file of a log's folder belongs to the log.
pub(crate) fn knows(name: &str) -> bool {
    name == segment::SPARE || segment::number_in(name).is_some()
}

/// Bytes of one body: far more than a batch takes with all its keys.
pub(crate) const BODY_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;

/// Bytes of the first segment of a new log, so that a small store stays small.
const SEGMENT_BYTES_FIRST: u64 = 1024 * 1024;

/// Bytes of the buffer that are kept for the next records.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Bytes of a segment. The first ones are smaller, and one with a larger record is larger.
    pub(crate) segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
        }
    }
}

/// An open log. One at a time may be open on a folder; the caller sees to that.
///
/// [`append`](Self::append) records, [`write`](Self::write) them, [`sync`](Self::sync): then they are durable. They are kept
/// in memory until then, so that after a failed write or sync [`revive`](Self::revive) can bring them to another segment.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    /// Never empty; the last one is written to.
    segments: Vec<Segment>,
    /// The newest segment.
    file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    offset: u64,
    /// Records that are not durable: those that are written, then those that are not.
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that are written.
    written_bytes: usize,
    /// Positions up to which records are on disk, written, appended.
    durable: u64,
    written: u64,
    appended: u64,
    /// Whether a mark stands at `offset`.
    is_marked: bool,
    /// Whether anything was written since the last sync.
    is_dirty: bool,
    /// Whether a write or sync failed, so that this file is not written again.
    is_failed: bool,
    maker: SpareMaker,
}

impl Log {
    /// Opens the log in a folder that is there, also after a power cut, and hands out every body after position `after`, in order. Where there is no
    /// log, a new one is made that begins behind `after`.
    ///
    /// Memory is taken for one record and a buffer. What a crash left behind the end is overwritten.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::OtherStore`], [`LogError::NewerFormat`]: nothing was changed, but `replay` may have
    /// been called. [`LogError::Io`]; and what `replay` answers with.
    pub(crate) fn open<E: From<LogError>>(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        store_id: [u8; 16],
        after: u64,
        replay: &mut Replay<'_, E>,
    ) -> Result<(Self, Recovered), E> {
        let ready = recover::recover(&*disk, dir, store_id, after, replay)?;
        let Some(ready) = ready else {
            let first = after.saturating_add(1);
            let log = Self::create(disk, dir, options, store_id, first)?;
            let recovered = Recovered {
                first,
                last: after,
                segments: 0,
                torn_bytes: 0,
            };
            return Ok((log, recovered));
        };
        let newest_bytes = ready.newest.bytes();
        let maker = SpareMaker::new(Arc::clone(&disk), dir, options.bytes_after(newest_bytes))?;
        // A process that was killed may have made the newest segment and not yet brought its name to the disk.
        let synced = disk.sync_dir(dir);
        synced.map_err(|source| LogError::io("sync", dir, source))?;
        let last = ready.recovered.last;
        let log = Self {
            disk,
            dir: dir.to_owned(),
            options,
            segments: ready.segments,
            file: Arc::clone(&ready.newest.file),
            offset: ready.offset,
            buffer: Vec::new(),
            written_bytes: 0,
            durable: last,
            written: last,
            appended: last,
            is_marked: ready.is_marked,
            is_dirty: false,
            is_failed: false,
            maker,
        };
        Ok((log, ready.recovered))
    }

    /// Begins a new log at position `first`, at least 1, and removes whatever log the folder holds. After a crash meanwhile,
    /// do it again: what was there may be there in part.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        store_id: [u8; 16],
        first: u64,
    ) -> Result<Self, LogError> {
        let first = first.max(1);
        let there = segment::numbers(&*disk, dir)?;
        let bytes = segment::bytes_for(0).max(options.segment_bytes.min(SEGMENT_BYTES_FIRST));
        let maker = SpareMaker::new(Arc::clone(&disk), dir, options.bytes_after(bytes))?;
        let segment = Segment {
            number: there.last().map_or(1, |last| last + 1),
            first,
            bytes,
            store_id,
        };
        let (segment, file) = maker.make(segment, &[])?;
        for number in &there {
            let path = segment::path(dir, *number);
            let removed = disk.remove(&path);
            removed.map_err(|source| LogError::io("remove", &path, source))?;
        }
        if !there.is_empty() {
            let synced = disk.sync_dir(dir);
            synced.map_err(|source| LogError::io("sync", dir, source))?;
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            options,
            segments: vec![segment],
            file,
            offset: segment::HEADER_BYTES as u64,
            buffer: Vec::new(),
            written_bytes: 0,
            durable: first - 1,
            written: first - 1,
            appended: first - 1,
            is_marked: false,
            is_dirty: false,
            is_failed: false,
            maker,
        })
    }

    /// Takes a record in, in memory. `position` is the next one.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`], [`LogError::TooLarge`]: nothing was taken.
    pub(crate) fn append(&mut self, position: u64, body: &[u8]) -> Result<(), LogError> {
        let expected = self.appended + 1;
        if position != expected {
            let given = position;
            return Err(LogError::OutOfOrder { expected, given });
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(LogError::TooLarge {
                bytes: body.len(),
                max: BODY_BYTES_MAX,
            });
        }
        record::append(&mut self.buffer, position, body);
        self.appended = position;
        Ok(())
    }

    /// Hands all records that were taken in to the file, by one write. When they don't fit in its segment, what was written
    /// before is synced and they go to a new one.
    ///
    /// # Errors
    /// [`LogError::Io`]: the records stay. When only a new segment could not be made, calling it again is enough; else it
    /// answers [`LogError::Failed`] until the log is revived.
    pub(crate) fn write(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        let bytes = self.buffer.len() - self.written_bytes;
        if bytes == 0 {
            return Ok(());
        }
        let room_to = self.offset + (bytes + record::HEADER_BYTES) as u64;
        if room_to > self.newest().bytes {
            self.sync()?;
            let (segment, file) = self.make_segment(bytes)?;
            self.begin(segment, file);
        }
        let seed = self.newest().seed();
        let records = &mut self.buffer[self.written_bytes..];
        record::seal(records, seed, self.durable);
        let written = self.file.write_at(self.offset, records);
        self.check("write", written)?;
        self.offset += bytes as u64;
        self.written_bytes = self.buffer.len();
        self.written = self.appended;
        self.is_marked = false;
        self.is_dirty = true;
        Ok(())
    }

    /// Brings everything that was written to the disk. It blocks meanwhile.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing more is known to be on disk, and the log has to be revived; then [`LogError::Failed`].
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        if !self.is_dirty {
            return Ok(());
        }
        let synced = self.file.sync();
        self.check("sync", synced)?;
        self.is_dirty = false;
        self.durable = self.written;
        self.buffer.drain(..self.written_bytes);
        self.written_bytes = 0;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Writes a mark behind the last record, unless one stands there or records wait for a write or a sync. It costs no
    /// sync and is no less true without: where it is lost, damage to the records of the last sync is taken for a torn end.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn mark(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        if self.is_marked || !self.buffer.is_empty() {
            return Ok(());
        }
        let mark = record::mark(self.durable, self.newest().seed());
        let written = self.file.write_at(self.offset, &mark);
        self.check("write", written)?;
        self.is_marked = true;
        self.is_dirty = true;
        Ok(())
    }

    /// Brings all records to the disk and begins a new segment, so that the ones before it can be released whole.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`sync`](Self::sync).
    pub(crate) fn part(&mut self) -> Result<(), LogError> {
        self.write()?;
        self.sync()?;
        // If this fails, the segment may be there all the same, and would end the log for whoever opens it: the old one must
        // not be written any more.
        let made = self.make_segment(0);
        let (segment, file) = made.inspect_err(|_| self.is_failed = true)?;
        self.begin(segment, file);
        Ok(())
    }

    /// Whether a mark would say something that the log does not say yet.
    pub(crate) fn wants_mark(&self) -> bool {
        !self.is_marked && !self.is_failed && self.buffer.is_empty()
    }

    /// Goes on after a failed write or sync: makes a new segment and brings every record that is not durable to it and to
    /// the disk. The file that failed is not written again, for what it holds can't be known.
    ///
    /// Does nothing when nothing failed.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing has changed; try again when there is reason to.
    pub(crate) fn revive(&mut self) -> Result<(), LogError> {
        if !self.is_failed {
            return Ok(());
        }
        let segment = self.next_segment(self.buffer.len());
        record::seal(&mut self.buffer, segment.seed(), self.durable);
        // When it was tried before, this takes the place of the segment that was made then, so that they don't pile up. It
        // holds all when it gets its name: from then on nobody looks for these records where they were written first.
        let (segment, file) = self.maker.make(segment, &self.buffer)?;
        self.begin(segment, file);
        self.offset = segment::HEADER_BYTES as u64 + self.buffer.len() as u64;
        self.written = self.appended;
        self.durable = self.appended;
        self.buffer.clear();
        self.written_bytes = 0;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.is_failed = false;
        Ok(())
    }

    /// Removes the segments whose records all have a position up to `up_to`, except the newest. Gives the bytes freed.
    ///
    /// The folder is not synced. A segment that is back after a power cut holds only what its owner needs no more, and
    /// opening passes over it, or removes it when another one behind it is gone.
    ///
    /// # Errors
    /// [`LogError::Io`]: what could not be removed stays in the log; call it again.
    pub(crate) fn release(&mut self, up_to: u64) -> Result<u64, LogError> {
        let next_first = self.segments.iter().skip(1).map(|next| next.first);
        let count = next_first.take_while(|first| *first - 1 <= up_to).count();
        let mut freed = 0;
        for _ in 0..count {
            let path = segment::path(&self.dir, self.segments[0].number);
            let removed = disk::remove_if_there(&*self.disk, &path);
            removed.map_err(|source| LogError::io("remove", &path, source))?;
            freed += self.segments.remove(0).bytes;
        }
        Ok(freed)
    }

    /// The first position that it holds, or that it will hold.
    pub(crate) fn first_position(&self) -> u64 {
        self.segments[0].first
    }

    /// Everything up to this position is on disk.
    #[cfg(test)]
    pub(crate) const fn durable(&self) -> u64 {
        self.durable
    }

    /// Everything up to this position was handed to the file.
    #[cfg(test)]
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// The position of the last record that was taken in.
    #[cfg(test)]
    pub(crate) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Bytes of records in memory because they are not durable. The caller bounds them by syncing in time.
    pub(crate) const fn unsynced_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a write or sync failed, so that it has to be revived.
    #[cfg(test)]
    pub(crate) const fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// Bytes of all segments on disk; a spare one is not counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes).sum()
    }

    /// What makes segments ahead of time, on whatever thread. It must have come back before the log is opened again.
    pub(crate) fn spare_maker(&self) -> SpareMaker {
        self.maker.clone()
    }

    fn newest(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn check_usable(&self) -> Result<(), LogError> {
        match self.is_failed {
            true => Err(LogError::Failed),
            false => Ok(()),
        }
    }

    /// After a failure nobody knows what the file holds.
    fn check(&mut self, action: &'static str, result: std::io::Result<()>) -> Result<(), LogError> {
        result.map_err(|source| {
            self.is_failed = true;
            let path = segment::path(&self.dir, self.newest().number);
            LogError::io(action, &path, source)
        })
    }

    /// Makes the segment behind the newest, with room for so many bytes of records.
    fn make_segment(&self, record_bytes: usize) -> Result<(Segment, Arc<dyn DiskFile>), LogError> {
        self.maker.make(self.next_segment(record_bytes), &[])
    }

    /// The segment behind the newest, with room for so many bytes of records.
    fn next_segment(&self, record_bytes: usize) -> Segment {
        let newest = self.newest();
        Segment {
            number: newest.number + 1,
            first: self.durable + 1,
            bytes: self
                .maker
                .bytes()
                .max(segment::bytes_for(record_bytes as u64)),
            store_id: newest.store_id,
        }
    }

    /// Writes go to this segment from now on.
    fn begin(&mut self, segment: Segment, file: Arc<dyn DiskFile>) {
        self.maker
            .set_bytes(self.options.bytes_after(segment.bytes));
        self.segments.push(segment);
        self.file = file;
        self.offset = segment::HEADER_BYTES as u64;
        self.is_marked = false;
        self.is_dirty = false;
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("segments", &self.segments)
            .field("offset", &self.offset)
            .field("durable", &self.durable)
            .field("written", &self.written)
            .field("appended", &self.appended)
            .field("is_failed", &self.is_failed)
            .finish_non_exhaustive()
    }
}

impl LogOptions {
    /// The size of the segment that follows one of so many bytes.
    fn bytes_after(&self, bytes: u64) -> u64 {
        let grown = bytes.saturating_mul(2).min(self.segment_bytes);
        grown
            .next_multiple_of(segment::BLOCK_BYTES)
            .max(segment::bytes_for(0))
    }
}

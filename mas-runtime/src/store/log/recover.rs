//! Opening a log: which segments count, what a bad record means, and what is done about it.
//!
//! A crash may keep any sectors of what was not synced, so behind the last synced record anything may stand: a torn record,
//! whole ones behind it, zeros. None of that was promised to anybody, and the log ends before it. Where a record that *was*
//! synced can't be read, the log is damaged and is not opened. What tells one from the other:
//!
//! | where position e is expected | then |
//! |---|---|
//! | the next segment begins at e | the log goes on there; what else stands here was written before the log was revived |
//! | the next segment begins later | damaged: all before a segment's first position was on disk when it was made |
//! | newest segment, and a header further on says that e was synced | damaged |
//! | a good record of another position | damaged |
//! | newest segment, no such header | the log ends here |
//! | a mark for e - 1 | the log ends here, unless a header further on says that e was synced |
//!
//! What stands behind the end of the newest segment is overwritten by zeros and synced before the log is used: whole records
//! behind a torn one must not come back when others were written before them. A crash meanwhile leaves the same end.
//!
//! What was read but is not proved to be on disk (the process was killed between write and sync) is written once more and
//! synced, before the newest segment's records are handed out: what is made of them may outlive the next power cut. A sync alone is not enough: after one that failed, the system may take the pages for clean.
//!
//! A damaged header is always damage, for it was on disk before the file had the name of a segment. So is a file that is
//! shorter than its header says. A gap in the numbers is damage unless all that is asked for stands behind it: segments are
//! removed without waiting for the disk, so after a power cut some of them may be back.
//!
//! What can't be told from a torn end: damage to the records of the last sync of a log that was killed before it could write
//! a mark or anything else.

use std::path::Path;
use std::sync::Arc;

use super::error::LogError;
use super::read::{Loaded, Reader, Replay, Stop, Walked, search, walk};
use super::record;
use super::segment::{self, HeaderFault, Segment, zero};
use crate::store::disk::Disk;

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The first position that can be read. Above `after + 1` when records between are missing: the caller decides.
    pub(crate) first: u64,
    /// The last position; `first - 1` when there is none. Below `after` when the log ends before: the caller decides.
    pub(crate) last: u64,
    /// How many segments there were; 0 when a new log was made.
    pub(crate) segments: usize,
    /// Bytes at the end that a crash left and that were overwritten by zeros.
    pub(crate) torn_bytes: u64,
}

/// A log that is ready to be written on.
pub(super) struct Ready {
    pub(super) segments: Vec<Segment>,
    pub(super) newest: Reader,
    /// Where the next record goes.
    pub(super) offset: u64,
    pub(super) is_marked: bool,
    pub(super) recovered: Recovered,
}

/// Reads a log and hands out what stands in it after position `after`; `None` when there is no segment.
pub(super) fn recover<E: From<LogError>>(
    disk: &dyn Disk,
    dir: &Path,
    store_id: [u8; 16],
    after: u64,
    replay: &mut Replay<'_, E>,
) -> Result<Option<Ready>, E> {
    let mut segments = load(disk, dir, store_id, after)?;
    drop_leftovers(disk, dir, &mut segments, after)?;
    // Nothing is asked for of what stands before the newest segment that begins early enough.
    let early = |it: &Segment| it.first <= after.saturating_add(1);
    let begin = segments.iter().rposition(early).unwrap_or(0);
    let Some(first) = segments.get(begin).map(|it| it.first) else {
        return Ok(None);
    };
    for (at, segment) in segments.iter().enumerate().skip(begin) {
        let mut reader = Loaded::open(disk, dir, segment.number)?.reader;
        let next = segments.get(at + 1);
        let limit = next.map_or(u64::MAX, |next| next.first);
        let mut hand_out = |position: u64, body: &[u8]| match position > after {
            true => replay(position, body),
            false => Ok(()),
        };
        if next.is_some() {
            // All before the next one's first position was on disk when that was made.
            match walk(&mut reader, segment, limit, &mut hand_out)? {
                walked if walked.stop == Stop::Limit => continue,
                walked => return Err(damaged(segment, walked, walked.stop).into()),
            }
        }
        // All of it is on disk before any of it is handed out: what is made of it must not outlive it.
        let walked = walk::<LogError>(&mut reader, segment, limit, &mut |_, _| Ok(()))?;
        let torn_bytes = end_at(&mut reader, segment, walked)?;
        walk(&mut reader, segment, walked.end, &mut hand_out)?;
        let recovered = Recovered {
            first,
            last: walked.end - 1,
            segments: segments.len(),
            torn_bytes,
        };
        return Ok(Some(Ready {
            newest: reader,
            offset: walked.offset,
            is_marked: walked.stop == Stop::Mark,
            recovered,
            segments,
        }));
    }
    Ok(None)
}

/// The headers of all segments, in order.
fn load(
    disk: &dyn Disk,
    dir: &Path,
    store_id: [u8; 16],
    after: u64,
) -> Result<Vec<Segment>, LogError> {
    let mut segments: Vec<Segment> = Vec::new();
    for number in segment::numbers(disk, dir)? {
        let Loaded { reader, segment } = Loaded::open(disk, dir, number)?;
        let damaged = |offset: u64, position: u64, reason: &'static str| LogError::Corrupt {
            segment: number,
            offset,
            position,
            reason,
        };
        let segment = match segment {
            Ok(segment) => segment,
            Err(HeaderFault::NewerFormat(found)) => return Err(newer(number, found)),
            Err(HeaderFault::Damaged(reason)) => {
                let position = end_of(disk, dir, segments.last(), after)?;
                return Err(damaged(0, position, reason));
            }
        };
        if segment.store_id != store_id {
            return Err(LogError::OtherStore { segment: number });
        }
        if reader.bytes() < segment.bytes {
            let end = end_of(disk, dir, Some(&segment), after)?;
            return Err(damaged(reader.bytes(), end, "its file was cut off"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn newer(segment: u64, found: u32) -> LogError {
    LogError::NewerFormat {
        segment,
        found,
        known: segment::FORMAT,
    }
}

/// The position behind the last record of a segment that can be read.
fn end_of(
    disk: &dyn Disk,
    dir: &Path,
    segment: Option<&Segment>,
    after: u64,
) -> Result<u64, LogError> {
    let Some(segment) = segment else {
        return Ok(after.saturating_add(1));
    };
    let mut reader = Loaded::open(disk, dir, segment.number)?.reader;
    Ok(walk::<LogError>(&mut reader, segment, u64::MAX, &mut |_, _| Ok(()))?.end)
}

/// Removes what is left of segments that were released, and of a log that a new one was begun in place of: those before the
/// last two that don't follow each other, when nothing is asked for of them.
fn drop_leftovers(
    disk: &dyn Disk,
    dir: &Path,
    segments: &mut Vec<Segment>,
    after: u64,
) -> Result<(), LogError> {
    let follow = |it: &[Segment]| it[0].number + 1 == it[1].number && it[0].first <= it[1].first;
    let Some(at) = segments.windows(2).rposition(|it| !follow(it)) else {
        return Ok(());
    };
    let (before, behind) = (segments[at], segments[at + 1]);
    if behind.first > after.saturating_add(1) {
        let is_missing = before.number + 1 != behind.number;
        return Err(LogError::Corrupt {
            segment: before.number + 1,
            offset: 0,
            position: end_of(disk, dir, Some(&before), after)?,
            reason: match is_missing {
                true => "the segment is missing",
                false => "it begins before the segment before it",
            },
        });
    }
    for segment in segments.drain(..=at) {
        let path = segment::path(dir, segment.number);
        let removed = disk.remove(&path);
        removed.map_err(|source| LogError::io("remove", &path, source))?;
    }
    Ok(())
}

/// Ends the log where the newest segment can't be read further, unless that is damage. Gives the bytes that were torn.
fn end_at(reader: &mut Reader, segment: &Segment, walked: Walked) -> Result<u64, LogError> {
    let behind_at = match walked.stop {
        Stop::Mark => walked.offset + record::HEADER_BYTES as u64,
        Stop::Limit | Stop::Bad(_) | Stop::Misplaced => walked.offset,
    };
    let behind = search(reader, behind_at, segment.seed())?;
    if walked.stop == Stop::Misplaced || behind.synced >= walked.end {
        return Err(damaged(segment, walked, walked.stop));
    }
    let torn_bytes = reader.used_to(behind_at)? - behind_at;
    if walked.stop == Stop::Mark && torn_bytes == 0 {
        return Ok(0);
    }
    let proved = walked.synced + 1;
    let again_at = walk::<LogError>(reader, segment, proved, &mut |_, _| Ok(()))?.offset;
    let file = Arc::clone(&reader.file);
    reader.copy_to(&*file, again_at, walked.offset)?;
    // Zeros that were written before a sync that failed look as if they were on disk, so they too are written again.
    let written = zero(&*file, behind_at, reader.bytes()).and_then(|()| file.sync());
    written.map_err(|source| LogError::io("write", reader.path(), source))?;
    Ok(torn_bytes)
}

fn damaged(segment: &Segment, walked: Walked, stop: Stop) -> LogError {
    LogError::Corrupt {
        segment: segment.number,
        offset: walked.offset,
        position: walked.end,
        reason: match stop {
            Stop::Bad(reason) => reason,
            Stop::Mark => "the log was marked to end there",
            Stop::Limit | Stop::Misplaced => "a record of another position stands there",
        },
    }
}

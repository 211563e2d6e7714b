//! Looking at a log that no engine has open, whatever state it is in; and cutting it on purpose.

use std::error::Error;
use std::path::Path;

use super::error::LogError;
use super::read::{Behind, Loaded, Reader, Stop, Walked, search, walk};
use super::record;
use super::segment::{self, HeaderFault, Segment, zero};
use crate::store::disk::{self, Disk};

/// What a log looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogReport {
    /// Its segments, by number.
    pub segments: Vec<SegmentReport>,
}

/// What a segment looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// The first position that may stand in it, as its header says.
    pub first: Option<u64>,
    /// The last position that can be read and counts.
    pub last: Option<u64>,
    /// How many records can be read and count.
    pub records: u64,
    /// Bytes of header and records.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether a mark says that it ends there.
    pub is_marked: bool,
    /// Whether it holds nothing behind a good header: nothing was ever written to it.
    pub is_blank: bool,
    /// Bytes behind the end that opening would overwrite: what a crash left.
    pub torn_bytes: u64,
    /// The first thing that is wrong with it.
    pub problem: Option<LogProblem>,
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogProblem {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What was found.
    pub reason: String,
}

/// What [`cut`] has dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The first position that is gone.
    pub(crate) from: u64,
    /// The highest position that could be made out in what is gone; `None` when none could.
    pub(crate) to: Option<u64>,
    /// Bytes of records, and of whole segments.
    pub(crate) bytes: u64,
    /// How many segments went whole.
    pub(crate) segments: usize,
}

impl LogReport {
    /// Whether nothing is wrong. A torn end is not.
    pub fn is_sound(&self) -> bool {
        self.segments.iter().all(|it| it.problem.is_none())
    }
}

impl SegmentReport {
    /// Keeps the first problem.
    fn trouble(&mut self, offset: u64, reason: impl Into<String>) {
        let reason = reason.into();
        self.problem.get_or_insert(LogProblem { offset, reason });
    }
}

/// Reads a whole log and says what is in it. Changes nothing.
///
/// # Errors
/// [`LogError::Io`] when the folder can't be listed. A file that can't be read is a problem in the report.
pub(crate) fn inspect(disk: &dyn Disk, dir: &Path) -> Result<LogReport, LogError> {
    let numbers = segment::numbers(disk, dir)?;
    let headers: Vec<Option<Segment>> = numbers
        .iter()
        .map(|number| Loaded::open(disk, dir, *number).ok()?.segment.ok())
        .collect();
    let store_id = headers.iter().flatten().next().map(|it| it.store_id);
    let mut report = LogReport::default();
    for (at, number) in numbers.iter().enumerate() {
        let mut shown = SegmentReport {
            number: *number,
            ..SegmentReport::default()
        };
        let before = report.segments.last();
        if let Some(before) = before.filter(|before| before.number + 1 != *number) {
            shown.trouble(
                0,
                format!("segment {} before it is missing", before.number + 1),
            );
        }
        if let Some(segment) = headers[at]
            && store_id != Some(segment.store_id)
        {
            shown.trouble(0, "it belongs to another store");
        }
        let is_newest = at + 1 == numbers.len();
        let next = headers.get(at + 1).copied().flatten();
        if let Err(error) = look(disk, dir, next.as_ref(), is_newest, &mut shown) {
            let cause = error.source().map(ToString::to_string);
            shown.trouble(0, format!("{error}: {}", cause.unwrap_or_default()));
        }
        report.segments.push(shown);
    }
    Ok(report)
}

/// Reads one segment.
fn look(
    disk: &dyn Disk,
    dir: &Path,
    next: Option<&Segment>,
    is_newest: bool,
    shown: &mut SegmentReport,
) -> Result<(), LogError> {
    let Loaded {
        mut reader,
        segment,
    } = Loaded::open(disk, dir, shown.number)?;
    shown.file_bytes = reader.bytes();
    let segment = match segment {
        Ok(segment) => segment,
        Err(HeaderFault::Damaged(reason)) => {
            shown.trouble(0, reason);
            return Ok(());
        }
        Err(HeaderFault::NewerFormat(format)) => {
            shown.trouble(
                0,
                format!("it has format {format}, which this version can't read"),
            );
            return Ok(());
        }
    };
    shown.first = Some(segment.first);
    let header_bytes = segment::HEADER_BYTES as u64;
    shown.is_blank = reader.used_to(header_bytes)? == header_bytes;
    if reader.bytes() < segment.bytes {
        shown.trouble(reader.bytes(), "its file was cut off");
    }
    let limit = next.map_or(u64::MAX, |next| next.first.max(segment.first));
    let walked = walk_over(&mut reader, &segment, limit)?;
    shown.records = walked.records;
    shown.last = (walked.records > 0).then(|| walked.end - 1);
    shown.used_bytes = walked.offset;
    shown.is_marked = walked.stop == Stop::Mark;
    if next.is_some_and(|next| next.first < segment.first) {
        shown.trouble(0, "the segment behind it begins before it");
    }
    judge(
        &mut reader,
        &segment,
        walked,
        next.is_some(),
        is_newest,
        shown,
    )
}

/// Says what the stop of a walk means, as opening would.
fn judge(
    reader: &mut Reader,
    segment: &Segment,
    walked: Walked,
    has_next: bool,
    is_newest: bool,
    shown: &mut SegmentReport,
) -> Result<(), LogError> {
    let reason = match walked.stop {
        Stop::Limit => return Ok(()),
        Stop::Mark => "it was marked to end there",
        Stop::Bad(reason) => reason,
        Stop::Misplaced => "a record of another position stands there",
    };
    let mut behind_at = walked.offset;
    if walked.stop == Stop::Mark {
        behind_at += record::HEADER_BYTES as u64;
    }
    let behind = search(reader, behind_at, segment.seed())?;
    if has_next || walked.stop == Stop::Misplaced || behind.synced >= walked.end {
        let reason = format!("position {} was expected: {reason}", walked.end);
        shown.trouble(walked.offset, reason);
    } else if is_newest {
        shown.torn_bytes = reader.used_to(behind_at)? - behind_at;
    }
    Ok(())
}

fn walk_over(reader: &mut Reader, segment: &Segment, limit: u64) -> Result<Walked, LogError> {
    walk(reader, segment, limit, &mut |_, _| Ok(()))
}

/// Drops every record from `position` on, on purpose: for good, and whatever is wrong with it. What stands before the
/// segment in which `position` is, is not looked at. No engine may have the log open.
///
/// After a crash meanwhile the log holds all before `position` and, of the rest, none or a part without a gap: do it again.
///
/// # Errors
/// [`LogError::CutOutside`] when not all before `position` can be read: nothing was changed. [`LogError::Io`]: do it again.
pub(crate) fn cut(disk: &dyn Disk, dir: &Path, position: u64) -> Result<Dropped, LogError> {
    let numbers = segment::numbers(disk, dir)?;
    let mut behind = Vec::new();
    let mut target = None;
    for number in numbers.iter().rev() {
        let Loaded { reader, segment } = Loaded::open(disk, dir, *number)?;
        match segment {
            Ok(segment) if segment.first <= position => {
                target = Some((reader, segment));
                break;
            }
            segment => behind.push((*number, segment.ok())),
        }
    }
    let Some((mut reader, segment)) = target else {
        let oldest = behind.last().and_then(|(_, segment)| *segment);
        let first = oldest.map_or(0, |it| it.first);
        return Err(LogError::CutOutside {
            position,
            first,
            end: first,
        });
    };
    let walked = walk_over(&mut reader, &segment, position)?;
    if walked.stop != Stop::Limit {
        let (first, end) = (segment.first, walked.end);
        return Err(LogError::CutOutside {
            position,
            first,
            end,
        });
    }
    let mut dropped = Dropped {
        from: position,
        to: None,
        bytes: reader.used_to(walked.offset)? - walked.offset,
        segments: behind.len(),
    };
    let Behind { last, .. } = search(&mut reader, walked.offset, segment.seed())?;
    dropped.see(last);
    for (at, (number, gone)) in behind.iter().enumerate() {
        // What stands in the segment before, behind where this one begins, must not count once this one is gone.
        let before = behind.get(at + 1).map_or(Some(segment), |(_, it)| *it);
        if let (Some(gone), Some(before)) = (gone, before) {
            end_at(disk, dir, &before, gone.first)?;
        }
        remove(disk, dir, *number, *gone, &mut dropped)?;
    }
    end_at(disk, dir, &segment, position)?;
    Ok(dropped)
}

impl Dropped {
    fn see(&mut self, last: u64) {
        if last >= self.from {
            self.to = self.to.max(Some(last));
        }
    }
}

/// Removes a segment for good, so that the next one that goes can't leave a gap.
fn remove(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    segment: Option<Segment>,
    dropped: &mut Dropped,
) -> Result<(), LogError> {
    let path = segment::path(dir, number);
    if let Ok(Loaded { mut reader, .. }) = Loaded::open(disk, dir, number) {
        dropped.bytes += reader.bytes();
        let seed = segment.map(|it| it.seed());
        // One that can't be read is dropped all the same.
        let found = seed.map(|seed| search(&mut reader, segment::HEADER_BYTES as u64, seed));
        if let Some(Ok(behind)) = found {
            dropped.see(behind.last);
        }
    }
    let removed = disk.remove(&path).and_then(|()| disk.sync_dir(dir));
    removed.map_err(|source| LogError::io("remove", &path, source))
}

/// Puts a copy of a segment in its place that ends before `position`, when it can be read up to there. The name stands for
/// the old one or the new one at any time.
fn end_at(disk: &dyn Disk, dir: &Path, segment: &Segment, position: u64) -> Result<(), LogError> {
    let mut reader = Loaded::open(disk, dir, segment.number)?.reader;
    let walked = walk_over(&mut reader, segment, position)?;
    if walked.stop != Stop::Limit || reader.used_to(walked.offset)? == walked.offset {
        return Ok(());
    }
    let copy = Segment {
        // The header may claim more than there is.
        bytes: reader.bytes().max(segment::bytes_for(walked.offset)),
        ..*segment
    };
    let (beside, path) = (segment::spare_path(dir), segment::path(dir, segment.number));
    let failed = |source| LogError::io("cut", &path, source);
    disk::remove_if_there(disk, &beside).map_err(failed)?;
    let file = disk.create(&beside).map_err(failed)?;
    zero(&*file, 0, copy.bytes).map_err(failed)?;
    reader.copy_to(&*file, 0, walked.offset)?;
    let mark = record::mark(position - 1, segment.seed());
    let made = file
        .write_at(0, &copy.encode())
        .and_then(|()| file.write_at(walked.offset, &mark))
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&beside, &path))
        .and_then(|()| disk.sync_dir(dir));
    made.map_err(failed)
}

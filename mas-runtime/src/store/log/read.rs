//! Reading one segment: record by record, and what stands behind the last good one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LogError;
use super::record::{self, Header, Kind};
use super::segment::{self, HeaderFault, Segment};
use crate::store::disk::{Disk, DiskFile};

/// What is read at a time, unless one record is larger.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file that is read front to back through a buffer.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Bytes that may be read.
    bytes: u64,
    buffer: Vec<u8>,
    /// The offset of the buffer's first byte.
    start: u64,
}

impl Reader {
    pub(super) fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, LogError> {
        let opened = disk.open(&path).and_then(|file| {
            let bytes = file.size()?;
            Ok((file, bytes))
        });
        let (file, bytes) = opened.map_err(|source| LogError::io("open", &path, source))?;
        Ok(Self {
            file,
            path,
            bytes,
            buffer: Vec::new(),
            start: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the segment that there are.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes from `offset` on; `None` when the file ends before. Memory is taken only for bytes that there are.
    pub(super) fn get(&mut self, offset: u64, bytes: usize) -> Result<Option<&[u8]>, LogError> {
        let end = offset.checked_add(bytes as u64);
        let Some(end) = end.filter(|end| *end <= self.bytes) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            let left = self.bytes - offset;
            let take = left.min(CHUNK_BYTES.max(bytes) as u64);
            self.buffer.resize(take as usize, 0);
            self.start = offset;
            if let Err(source) = self.file.read_at(offset, &mut self.buffer) {
                self.buffer.clear();
                return Err(LogError::io("read", &self.path, source));
            }
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buffer[at..at + bytes]))
    }

    /// What is left from `offset` on, as much as is read at a time; empty at the end.
    fn chunk(&mut self, offset: u64) -> Result<&[u8], LogError> {
        let left = self.bytes.saturating_sub(offset);
        let bytes = left.min(CHUNK_BYTES as u64) as usize;
        Ok(self.get(offset, bytes)?.unwrap_or_default())
    }

    /// The offset behind the last byte that is not zero, or `offset` when all from there on are.
    pub(super) fn used_to(&mut self, mut offset: u64) -> Result<u64, LogError> {
        let mut used_to = offset;
        loop {
            let chunk = self.chunk(offset)?;
            if chunk.is_empty() {
                return Ok(used_to);
            }
            if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
                used_to = offset + last as u64 + 1;
            }
            offset += chunk.len() as u64;
        }
    }

    /// Writes what stands between two offsets to the same place of a file.
    pub(super) fn copy_to(
        &mut self,
        file: &dyn DiskFile,
        mut offset: u64,
        end: u64,
    ) -> Result<(), LogError> {
        while offset < end {
            let bytes = (end - offset).min(CHUNK_BYTES as u64);
            let Some(chunk) = self.get(offset, bytes as usize)? else {
                return Ok(());
            };
            let written = file.write_at(offset, chunk);
            written.map_err(|source| LogError::io("write", &self.path, source))?;
            offset += bytes;
        }
        Ok(())
    }
}

/// A segment's header and its file, or why the header can't be used.
pub(super) struct Loaded {
    pub(super) reader: Reader,
    pub(super) segment: Result<Segment, HeaderFault>,
}

impl Loaded {
    pub(super) fn open(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Self, LogError> {
        let mut reader = Reader::open(disk, segment::path(dir, number))?;
        let header = reader.get(0, segment::HEADER_BYTES)?;
        let segment = match header.and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Segment::decode(bytes, number),
            None => Err(HeaderFault::Damaged("its header is cut off")),
        };
        if let Ok(segment) = segment {
            reader.bytes = reader.bytes.min(segment.bytes);
        }
        Ok(Self { reader, segment })
    }
}

/// Takes what is read: position and body.
pub(crate) type Replay<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

/// How far a segment can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walked {
    /// The position that comes next.
    pub(super) end: u64,
    /// Where it would stand, in bytes of the file.
    pub(super) offset: u64,
    /// Everything up to this position was on disk, as the header and the records before say.
    pub(super) synced: u64,
    pub(super) records: u64,
    pub(super) stop: Stop,
}

/// Why a segment is not read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All that was asked for is read.
    Limit,
    /// A mark says that it ends here.
    Mark,
    /// No good record stands here: the end, torn or not, or damage.
    Bad(&'static str),
    /// A good record of another position stands here, which no crash can bring about.
    Misplaced,
}

/// Reads the records of a segment in order, up to before position `limit`, and hands out position and body.
pub(super) fn walk<E: From<LogError>>(
    reader: &mut Reader,
    segment: &Segment,
    limit: u64,
    each: &mut Replay<'_, E>,
) -> Result<Walked, E> {
    let seed = segment.seed();
    let mut walked = Walked {
        end: segment.first,
        offset: segment::HEADER_BYTES as u64,
        synced: segment.first - 1,
        records: 0,
        stop: Stop::Limit,
    };
    while walked.end < limit {
        let header = match next(reader, &walked, seed)? {
            Ok(header) => header,
            Err(stop) => {
                walked.stop = stop;
                if stop == Stop::Mark {
                    walked.synced = walked.end - 1;
                }
                break;
            }
        };
        let body_at = walked.offset + record::HEADER_BYTES as u64;
        let body = reader.get(body_at, header.body_bytes)?;
        let Some(body) = body.filter(|body| header.agrees_with(body)) else {
            walked.stop = Stop::Bad("the body of the record there does not agree with its check");
            break;
        };
        each(walked.end, body)?;
        walked.synced = walked.synced.max(header.synced);
        walked.offset += header.record_bytes() as u64;
        walked.end += 1;
        walked.records += 1;
    }
    Ok(walked)
}

/// The header of the batch that stands where the next one is expected, or why there is none.
fn next(reader: &mut Reader, at: &Walked, seed: u32) -> Result<Result<Header, Stop>, LogError> {
    let bytes = reader.get(at.offset, record::HEADER_BYTES)?;
    let header = bytes.and_then(|bytes| Header::decode(bytes, seed));
    let Some(header) = header else {
        return Ok(Err(Stop::Bad("no record stands there")));
    };
    let left = reader.bytes() - at.offset;
    Ok(match header.kind {
        Kind::Mark if header.position == at.end - 1 => Err(Stop::Mark),
        Kind::Batch if header.position == at.end && header.record_bytes() as u64 <= left => {
            Ok(header)
        }
        Kind::Batch if header.position == at.end => {
            Err(Stop::Bad("the record there goes on beyond the segment"))
        }
        Kind::Mark | Kind::Batch => Err(Stop::Misplaced),
    })
}

/// What stands behind the last good record of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// Everything up to this position was on disk, as whatever headers stand there say.
    pub(super) synced: u64,
    /// The highest position of a header that stands there.
    pub(super) last: u64,
}

/// Looks for headers at every offset from `offset` on where one may stand. One is evidence even when its body is torn.
pub(super) fn search(reader: &mut Reader, mut offset: u64, seed: u32) -> Result<Behind, LogError> {
    let mut behind = Behind::default();
    loop {
        let chunk = reader.chunk(offset)?;
        if chunk.len() < record::HEADER_BYTES {
            return Ok(behind);
        }
        let mut at = 0;
        while at + record::HEADER_BYTES <= chunk.len() {
            if let Some(header) = Header::decode(&chunk[at..], seed) {
                behind.synced = behind.synced.max(header.synced);
                behind.last = behind.last.max(header.position);
            }
            at += record::ALIGN;
        }
        offset += at as u64;
    }
}

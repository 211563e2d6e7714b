//! What can go wrong with the commit log.

use std::io;
use std::path::{Path, PathBuf};

/// Why the commit log refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk, or what stands in for it, failed. After a failed write or sync, [`Log::revive`](super::Log::revive) goes on
    /// in a new segment.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something that was on disk is not there any more. Nothing was changed.
    #[error(
        "segment {segment} of the commit log is damaged at byte {offset}, where position {position} was expected: \
         {reason}: restore it from a backup, or cut the log before that position"
    )]
    Corrupt {
        /// The number of the segment.
        segment: u64,
        /// Where in its file, in bytes.
        offset: u64,
        /// The position that was expected there.
        position: u64,
        /// What was found.
        reason: &'static str,
    },
    /// The segment belongs to another store.
    #[error(
        "segment {segment} of the commit log belongs to another store: take it out of this folder"
    )]
    OtherStore {
        /// The number of the segment.
        segment: u64,
    },
    /// A later version of mas wrote it.
    #[error(
        "segment {segment} of the commit log has format {found}, this version of mas reads up to {known}: \
         use the later version"
    )]
    NewerFormat {
        /// The number of the segment.
        segment: u64,
        /// Its format.
        found: u32,
        /// The latest format that this version reads.
        known: u32,
    },
    /// The caller left out a position or gave one twice.
    #[error("the next position of the commit log is {expected}, a record with {given} was given")]
    OutOfOrder {
        /// The position that comes next.
        expected: u64,
        /// The one that was given.
        given: u64,
    },
    /// The body is over the limit.
    #[error("a record of {bytes} bytes is too large for the commit log, the limit is {max} bytes")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A write or a sync failed before, and what the file holds is not known.
    #[error("the commit log waits to be revived: a write or a sync failed")]
    Failed,
    /// What is to be kept is not there, or can't be read.
    #[error(
        "the commit log can't be cut at position {position}: it can be read from {first} up to before {end}"
    )]
    CutOutside {
        /// The first position to drop.
        position: u64,
        /// The first position that can be read.
        first: u64,
        /// The position behind the last one that can be read.
        end: u64,
    },
}

impl LogError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

//! Opening the data directory: its lock, its format, what is in it.
//!
//! **Layout** of the directory, format 2:
//!
//! | name | holds |
//! |---|---|
//! | `lock` | locked while an engine runs, with a line that says whose |
//! | `format` | the line `mas-store 2`; the line `id`, the id of the store and a checksum, in hexadecimal; in a sealed store the line `sealed`, in one that is being sealed `sealing` |
//! | `check` | how a sealed store knows its keys: [`crate::store::seal`] |
//! | `log/` | the commit log: [`crate::store::log`] |
//! | `packs/` | leaves: [`crate::store::tree::pack`] |
//! | `snapshot` | the index in a file: [`crate::store::tree::snapshot`] |
//! | `refs/` | the index, sled's files |
//! | `refs.aside-1` … | indexes that were set aside |
//!
//! `format` is written last into a new directory, so where it stands, log and snapshot must be, too. `check` is written
//! before it, and before any value is sealed: so a store whose `format` says `sealed` or `sealing` has one, and where one
//! is, no store opens as a plain one. The checksum in `format` covers the third line as well as the id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Entropy;
use crate::store::StoreError;
use crate::store::disk::{self, Disk};
use crate::store::log::LogError;
use crate::store::seal::KeyError;
use crate::store::tree::pack::StoreId;

/// The layout that is written.
pub(super) const FORMAT: u32 = 2;
/// The layout of the engine before.
pub(super) const FORMAT_EARLIER: u32 = 1;

/// Longest text of `format` that is read, in bytes.
const NOTE_BYTES_MAX: u64 = 1024;

/// Why a data directory can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another runtime, of this process or another, has it open.
    #[error("the data directory {} is in use by {holder}", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// Process, host and start of the holder, as it wrote them.
        holder: String,
    },
    /// A later version of mas wrote it.
    #[error(
        "the data directory {} has format {found}, this version of mas reads up to {known}: use the later version",
        dir.display()
    )]
    NewerFormat {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that this version reads.
        known: u32,
    },
    /// The store's values are sealed, or were asked to be, and the keys do not fit. mas has changed nothing.
    #[error("the store in {} gets no keys", dir.display())]
    Key {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// An earlier version of mas wrote it, and this was not asked to bring it over.
    #[error(
        "the data directory {} has format {found}: open it with an engine once, which brings it over",
        dir.display()
    )]
    EarlierFormat {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The commit log holds a bad record before good ones: what was on disk is there no more. mas has changed nothing.
    #[error(
        "the commit log of {} is damaged in segment {segment} at byte {offset}, where commit {position} should be: {reason}: \
         restore the directory from a backup, or cut the log there and lose that commit and all later ones",
        dir.display()
    )]
    Corrupt {
        /// The data directory.
        dir: PathBuf,
        /// The number of the segment.
        segment: u64,
        /// Where in its file, in bytes.
        offset: u64,
        /// The commit that should be there.
        position: u64,
        /// What was found.
        reason: String,
    },
    /// What is stored can't be trusted. mas has changed nothing but the index, which it can make anew.
    #[error(
        "the store in {} is damaged: {reason}: restore the directory from a backup, or move it away to start empty",
        dir.display()
    )]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The system refused.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(super) fn damaged(dir: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            dir: dir.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn key(dir: &Path) -> impl FnOnce(KeyError) -> Self {
        let dir = dir.to_owned();
        move |source| Self::Key { dir, source }
    }

    /// What an error of the log means for its directory.
    pub(super) fn of_log(dir: &Path, error: LogError) -> Self {
        match error {
            LogError::Corrupt {
                segment,
                offset,
                position,
                reason,
            } => Self::Corrupt {
                dir: dir.to_owned(),
                segment,
                offset,
                position,
                reason: reason.to_owned(),
            },
            LogError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            other => Self::damaged(dir, other.to_string()),
        }
    }

    /// What an error of a part of the store means for its directory.
    pub(super) fn of_store(dir: &Path, error: StoreError) -> Self {
        match error {
            StoreError::Io { action, source } => Self::Io {
                action,
                path: dir.to_owned(),
                source: io::Error::new(source.kind(), source),
            },
            StoreError::Failed { reason } => Self::damaged(dir, &*reason),
            other => Self::damaged(dir, other.to_string()),
        }
    }
}

/// The files of a data directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) packs: PathBuf,
    pub(super) snapshot: PathBuf,
    pub(super) refs: PathBuf,
    pub(super) check: PathBuf,
    format: PathBuf,
}

impl Layout {
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            log: dir.join("log"),
            packs: dir.join("packs"),
            snapshot: dir.join("snapshot"),
            refs: dir.join("refs"),
            check: dir.join("check"),
            format: dir.join("format"),
        }
    }

    /// Whether something that the engine made can have this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        let refs = self.refs.file_name().and_then(|refs| refs.to_str());
        let is_index = refs.is_some_and(|refs| {
            let rest = name.strip_prefix(refs);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".aside-"))
        });
        let files = [
            "check",
            "check.new",
            "format",
            "format.new",
            "snapshot",
            "snapshot.new",
        ];
        is_index || files.contains(&name) || self.is_made_first(name)
    }

    /// Whether this name stands in a directory before there is a store in it.
    pub(super) fn is_made_first(&self, name: &str) -> bool {
        let folders = [&self.log, &self.packs];
        let made = |path: &&PathBuf| path.file_name().is_some_and(|its| its == name);
        name == "lock" || folders.iter().any(made)
    }
}

/// What `format` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Nothing: the directory is new, or was not made to its end.
    New,
    /// The directory is of the engine before.
    Earlier,
    /// The directory is of this engine.
    Current(StoreId, Values),
}

/// How the values of a store are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Plain,
    /// Some are sealed, the others are plain until they are.
    Sealing,
    Sealed,
}

impl Values {
    const ALL: [Self; 3] = [Self::Plain, Self::Sealing, Self::Sealed];

    /// The third line of `format`, with its end.
    const fn line(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Sealing => "sealing\n",
            Self::Sealed => "sealed\n",
        }
    }
}

/// Reads the format of a directory.
pub(super) fn read_format(disk: &dyn Disk, layout: &Layout) -> Result<Format, OpenError> {
    let path = &layout.format;
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Format::New),
        Err(e) => return Err(OpenError::io("open", path)(e)),
    };
    let damaged =
        |reason: &str| OpenError::damaged(&layout.dir, format!("its file `format` {reason}"));
    let bytes = match disk::read_whole(&*file, NOTE_BYTES_MAX) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(damaged("is too long")),
        read => read.map_err(OpenError::io("read", path))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let number = lines
        .next()
        .and_then(|line| line.strip_prefix("mas-store "));
    let id = lines.next().and_then(|line| line.strip_prefix("id "));
    match (number.and_then(|number| number.parse().ok()), id) {
        (Some(found), _) if found > FORMAT => Err(OpenError::NewerFormat {
            dir: layout.dir.clone(),
            found,
            known: FORMAT,
        }),
        (Some(FORMAT_EARLIER), None) => Ok(Format::Earlier),
        (Some(FORMAT), Some(id)) => decode_id(id)
            .and_then(|id| {
                let values = Values::ALL.into_iter();
                let mut fitting = values.filter(|values| text == format_text(id, *values));
                fitting.next().map(|values| Format::Current(id, values))
            })
            .ok_or_else(|| damaged("does not hold the id of the store")),
        _ => Err(damaged("does not say `mas-store` and a number")),
    }
}

/// Writes the current format. What stands in the directory counts from here on.
pub(super) fn write_format(
    disk: &dyn Disk,
    layout: &Layout,
    id: StoreId,
    values: Values,
) -> io::Result<()> {
    disk::replace(disk, &layout.format, format_text(id, values).as_bytes())
}

/// Why the format could not be written.
pub(super) fn unwritten(layout: &Layout) -> impl FnOnce(io::Error) -> OpenError {
    OpenError::io("write", &layout.format)
}

fn format_text(id: StoreId, values: Values) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = values.line();
    // Its own checksum: an id that is off by one letter would make every file one of another store, and a third line that
    // is lost would make a sealed store plain.
    let crc = crc32c::crc32c_append(crc32c::crc32c(&id), line.as_bytes());
    format!("mas-store {FORMAT}\nid {hex} {crc:08x}\n{line}")
}

fn decode_id(text: &str) -> Option<StoreId> {
    let (hex, _) = text.split_once(' ')?;
    let mut id = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(id)
}

/// An id for a new store: it tells files of different stores apart, and is no secret.
pub(super) fn new_id(entropy: &Entropy) -> StoreId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&entropy.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&entropy.next_u64().to_be_bytes());
    id
}

/// Makes the folders of a directory, and brings their names to the disk.
pub(super) fn make_folders(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<(), OpenError> {
    for dir in [&layout.dir, &layout.log, &layout.packs] {
        disk.make_dir(dir).map_err(OpenError::io("make", dir))?;
    }
    disk.sync_dir(&layout.dir)
        .map_err(OpenError::io("sync", &layout.dir))?;
    // The folders above may be as new. Those that are not its own it need not be able to open.
    for (number, above) in layout.dir.ancestors().skip(1).enumerate() {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        match disk.sync_dir(above) {
            Err(error) if number == 0 => return Err(OpenError::io("sync", above)(error)),
            _ => {}
        }
    }
    Ok(())
}

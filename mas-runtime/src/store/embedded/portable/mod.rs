//! Export and import: all that a store holds as one stream, whatever the store's own files look like.
//!
//! **Layout** of an export, format 1: lines of JSON (RFC 8259), each an object with one member, which says what the line is.
//! A line ends with one `0a`. Bytes are base64 texts with padding, message ids hyphenated lower-case hexadecimal, lanes
//! numbers from 0 critical to 4 bulk; numbers need 64 bits.
//!
//! | line | members |
//! |---|---|
//! | `mas_export`, the first | `format` 1, `mas` version that wrote it, `unix_ms` when, `position` of the last commit in it |
//! | `counters` | `position`, `seqs` given out |
//! | `state` | `agent`, `version`, `schema`, `bytes` |
//! | `inbox` | `agent`, `lane`, `seq`, `id`, `envelope` |
//! | `delivery` | `agent`, `lane`, `seq`, `attempts`, `not_before_unix_ms`, `history` |
//! | `outbox` | `agent`, `seq`, `envelope` |
//! | `dedup` | `agent`, `id`, `expires_unix_ms`, `reply` or null |
//! | `timer` | `agent`, `timer`, `due_unix_ms`, `record` |
//! | `directory` | `agent`, `lease_until_unix_ms`, `record` |
//! | `dead` | `seq`, `agent`, `id`, `reason`, `at_unix_ms`, `attempts`, `history`, `envelope` |
//! | `journal` | `name`, `number`, `bytes` |
//! | `journal_end` | `name`, `next` |
//! | `secret` | `name`, `bytes` |
//! | `check`, behind the first line, about every MiB, and before the end | `records` and `crc32c` of the lines since the check before |
//! | `end`, the last | `records` and `crc32c` of all lines before it |
//!
//! `crc32c` is over the bytes of the lines with their `0a`, as 8 hexadecimal digits; `check` and `end` are written without
//! spaces. Records stand in the order of the store's keys, each once: kinds in the order above, then as their members say.
//! What an empty store exports has position 0 and no records.
//!
//! An export is **plain**: values that are sealed in the store, secrets among them, are opened. Keep it as you keep those.
//!
//! | file | holds |
//! |---|---|
//! | `line` | one line |
//! | `base64` | bytes as text |
//! | `write` | a store into lines |
//! | `read` | lines into records |

mod base64;
mod line;
mod read;
mod write;

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::open::{self, Format, OpenError};
use super::protection::Protection;
use super::recovery::{self, Plan};
use super::{EmbeddedEngine, EmbeddedOptions};
use crate::model::{Clock, Entropy, SystemClock};
use crate::store::StoreError;

pub(super) use write::write;

/// The format that is written.
const FORMAT: u32 = 1;

/// How far an export, an import or an examination is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Records so far.
    pub records: u64,
    /// Bytes so far: of the export's stream, or of the records that were examined.
    pub bytes: u64,
}

/// Hears how far an export or an import is, and may break it off.
pub type OnProgress<'p> = dyn FnMut(Progress) -> ControlFlow<()> + 'p;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The last commit that is in it. All before are, none behind.
    pub position: u64,
    /// How many records it has.
    pub records: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The last commit that is in the store. The next one follows it.
    pub position: u64,
    /// How many records it has.
    pub records: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// When the export was made, in milliseconds since 1970-01-01 UTC.
    pub exported_unix_ms: u64,
}

/// Why an export failed. What was written until then can't be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The data directory does not open.
    #[error("the store can't be opened to be exported")]
    Open(#[source] OpenError),
    /// What is stored can't be read, or the engine was closed.
    #[error("the store can't be read to be exported")]
    Store(#[source] StoreError),
    /// The progress callback broke it off.
    #[error("the export was broken off")]
    Stopped,
    /// What the export goes to failed.
    #[error("the export can't be written")]
    Write(#[source] io::Error),
}

/// Why an import failed. The directory holds no store then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The export is not what was written, or not all of it.
    #[error("the export is damaged in the line at byte {offset}: {reason}: use another copy of it")]
    Damaged {
        /// Where the line begins in which it was found, in bytes.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// A later version of mas wrote the export.
    #[error(
        "the export has format {found}, this version of mas reads up to {known}: use the later version"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The latest format that this version reads.
        known: u32,
    },
    /// There is something in the directory.
    #[error("the directory {} is not empty, it holds {name:?}: name one that is", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Something that is in it.
        name: String,
    },
    /// The store can't be made.
    #[error("the store can't be made")]
    Open(#[source] OpenError),
    /// What the export comes from failed.
    #[error("the export can't be read")]
    Read(#[source] io::Error),
    /// The progress callback broke it off.
    #[error("the import was broken off")]
    Stopped,
}

impl From<OpenError> for ImportError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl EmbeddedEngine {
    /// Exports all that is stored while the engine goes on: every commit up to one position, none behind. That is the
    /// backup of a store that runs. The layout is described in the book.
    ///
    /// It blocks, so call it where that may be. Commits do not wait for it. It takes a snapshot first, and keeps a copy of
    /// what is not in the tree yet in memory, at most 48 MiB; then it reads leaf by leaf. Packs that the engine removes
    /// meanwhile take their room on the disk until it ends. What it reads is checked.
    ///
    /// What is exported is what readers see: of commits that were answered as buffered or relaxed, a crash right after may
    /// lose some in the store.
    ///
    /// # Errors
    /// [`ExportError::Store`] when what is stored is damaged, the disk fails, or the engine was closed;
    /// [`ExportError::Write`], [`ExportError::Stopped`].
    pub fn export(
        &self,
        to: &mut dyn Write,
        progress: &mut OnProgress<'_>,
    ) -> Result<Exported, ExportError> {
        let view = self.flushing.ask_view().recv();
        let view = view
            .map_err(|_| StoreError::Closed)
            .flatten()
            .map_err(ExportError::Store)?;
        write(&view, SystemClock::new().unix(), to, progress)
    }
}

/// Exports the store in a directory that no engine has open: opens it, so that what a crash has left is mended, and closes
/// it again. See [`EmbeddedEngine::export`].
///
/// # Errors
/// [`ExportError::Open`] as [`EmbeddedEngine::open`]; then as [`EmbeddedEngine::export`].
pub fn export(
    dir: impl AsRef<Path>,
    options: EmbeddedOptions,
    to: &mut dyn Write,
    progress: &mut OnProgress<'_>,
) -> Result<Exported, ExportError> {
    let engine = EmbeddedEngine::open(dir, options).map_err(ExportError::Open)?;
    engine.export(to, progress)
}

/// Makes a store of an export, in a directory that is empty or not there: all of it, or none. Positions and numbers go on
/// where the exported store was. It blocks, and takes memory for a part of the records at a time, at most 64 MiB or so.
///
/// After a crash meanwhile the directory holds no store, and is not empty: remove it.
///
/// # Errors
/// [`ImportError::Damaged`], [`ImportError::NewerFormat`], [`ImportError::NotEmpty`], [`ImportError::Read`],
/// [`ImportError::Stopped`]; [`ImportError::Open`] when the directory is in use or the system refuses. The directory is left
/// empty, but for its lock.
pub fn import(
    dir: impl AsRef<Path>,
    options: EmbeddedOptions,
    from: &mut dyn Read,
    progress: &mut OnProgress<'_>,
) -> Result<Imported, ImportError> {
    let dir = dir.as_ref();
    let plan = super::plan(dir, options)?;
    plan.disk
        .make_dir(dir)
        .map_err(OpenError::io("make", dir))?;
    let _lock = Lock::take(dir)?;
    let imported = import_into(&plan, &Entropy::unpredictable(), from, progress);
    if !matches!(imported, Ok(_) | Err(ImportError::NotEmpty { .. })) {
        clear(dir, &plan);
    }
    imported
}

/// Makes a store of an export, in a directory that nobody else uses.
pub(super) fn import_into(
    plan: &Plan,
    entropy: &Entropy,
    from: &mut dyn Read,
    progress: &mut OnProgress<'_>,
) -> Result<Imported, ImportError> {
    let Plan { disk, layout, .. } = plan;
    open::make_folders(disk, layout)?;
    let mut names = Vec::new();
    for dir in [&layout.dir, &layout.log, &layout.packs] {
        names.extend(disk.names(dir).map_err(OpenError::io("list", dir))?);
    }
    let known = |name: &String| layout.is_made_first(name);
    let other = names.into_iter().find(|name| !known(name));
    if let Some(name) = other {
        let dir = layout.dir.clone();
        return Err(ImportError::NotEmpty { dir, name });
    }
    if open::read_format(&**disk, layout)? != Format::New {
        let (dir, name) = (layout.dir.clone(), "format".to_owned());
        return Err(ImportError::NotEmpty { dir, name });
    }
    let mut imported = None;
    let store = open::new_id(entropy);
    let protection = Protection::begin(disk, layout, &plan.wanted, (store, None))?;
    recovery::build(plan, store, &protection, |put| {
        let read = read::read(from, &layout.dir, put, progress)?;
        imported = Some(read);
        Ok::<u64, ImportError>(read.position)
    })?;
    imported.ok_or(ImportError::Stopped)
}

/// Removes what an import that failed has left in its directory, which was empty before.
fn clear(dir: &Path, plan: &Plan) {
    let names = plan.disk.names(dir).unwrap_or_default();
    for path in names
        .iter()
        .filter(|name| *name != "lock")
        .map(|name| dir.join(name))
    {
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        if let Err(error) = removed {
            // It is no store all the same.
            tracing::warn!(%error, path = %path.display(), "can't remove what a failed import has left");
        }
    }
}

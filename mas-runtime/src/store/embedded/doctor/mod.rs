//! Examining a store that nobody has open, looking at its log, and cutting it on purpose.
//!
//! An examination changes nothing in the data directory, not even the text of the lock. What would be changed by opening is
//! changed on a disk that forgets; the index, whose files sled writes to by opening them, is copied to a folder for
//! temporary files and read there.
//!
//! What opening would do with the directory is found out by the code that opens, so the verdict is its answer.
//!
//! | file | holds |
//! |---|---|
//! | `report` | [`Examination`] and its parts |
//! | `examine` | the steps of an examination |
//! | `leaves` | are the leaves what was written |
//! | `compare` | is the index what the log makes of the snapshot |
//! | `relations` | do records fit each other |
//! | `walk` | records in order |
//! | `scratch` | the copy of the index |
//! | `cut` | looking at the log and cutting it |

mod compare;
mod cut;
mod examine;
mod leaves;
mod relations;
mod report;
mod scratch;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::Lock;
use super::open::{Layout, OpenError};
use super::portable::Progress;
use super::recovery::Plan;
use crate::store::disk::{Disk, RealDisk, StillDisk};
use crate::store::sled::SledHome;
use scratch::Scratch;

pub use cut::{CutError, CutReport, cut_log, inspect_log};
pub use report::{Examination, Finding, Place, Severity, Totals, Verdict};

#[cfg(test)]
pub(super) use cut::cut;
pub(super) use examine::run;

/// How a store is examined.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExamineOptions {
    /// Where the index is copied to; the folder for temporary files of the system when `None`. The copy holds names of
    /// agents, journals and secrets, can be read by its owner alone, and is removed at the end.
    pub scratch: Option<PathBuf>,
}

impl ExamineOptions {
    /// The same options with another folder for the copy of the index.
    pub fn scratch(mut self, dir: impl Into<PathBuf>) -> Self {
        self.scratch = Some(dir.into());
        self
    }
}

/// Examines the store in a directory that no engine has open, and changes nothing there: every segment of the log, the
/// snapshot, the index, every leaf and record, and whether they agree.
///
/// It blocks, reads what is stored up to three times, and tells `progress` how far it is. It takes memory for one leaf, and
/// about 200 bytes for each key that the log has changed since the snapshot.
///
/// Where `lock` is missing no lock is taken: then see to it that no engine is opened meanwhile.
///
/// # Errors
/// [`OpenError::Locked`], [`OpenError::NewerFormat`], [`OpenError::EarlierFormat`], [`OpenError::Io`];
/// [`OpenError::Damaged`] when the file `format` is, without which nothing can be said. All else is in the examination.
pub fn examine(
    dir: impl AsRef<Path>,
    options: &ExamineOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Examination, OpenError> {
    let layout = Layout::of(dir.as_ref());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let there = disk.names(&layout.dir);
    there.map_err(OpenError::io("list", &layout.dir))?;
    let _lock = Lock::take_unseen(&layout.dir)?;
    let scratch = Scratch::of(&layout.refs, options.scratch.as_deref())?;
    let plan = Plan {
        disk: Arc::new(StillDisk::over(&disk)),
        home: Arc::new(SledHome::new(scratch.refs())),
        ..super::plan(dir.as_ref(), super::EmbeddedOptions::default())?
    };
    run(&plan, progress)
}

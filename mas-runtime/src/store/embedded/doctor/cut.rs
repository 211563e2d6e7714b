//! Looking at the log of a store that nobody has open, and cutting it on purpose.

use std::path::Path;

use crate::store::disk::{RealDisk, StillDisk};
use crate::store::embedded::lock::Lock;
use crate::store::embedded::open::{self, Format, Layout, OpenError};
use crate::store::embedded::recovery::Plan;
use crate::store::embedded::{EmbeddedOptions, plan};
use crate::store::log::LogError;
use crate::store::log::inspect::{self, LogReport};
use crate::store::tree::snapshot;
use crate::store::{Corrupt, StoreError};

/// What was cut off a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutReport {
    /// The first commit that is gone.
    pub from: u64,
    /// The highest commit that could be made out in what is gone; `None` when none could.
    pub to: Option<u64>,
    /// Bytes of records, and of whole segments.
    pub bytes: u64,
    /// How many segments went whole.
    pub segments: usize,
    /// Where the index was put, when it reflected commits that are gone. The next open makes it anew.
    pub index_aside: Option<String>,
}

/// Why a log was not cut. Nothing was changed, unless it was the system that refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// Not all before the position can be read, or there is no such position.
    #[error(
        "the log can't be cut at commit {position}: it can be read from {first} up to before {end}"
    )]
    Outside {
        /// The first commit to drop.
        position: u64,
        /// The first that can be read, in the segment where it should be.
        first: u64,
        /// The one behind the last that can be read.
        end: u64,
    },
    /// The snapshot holds what is to be dropped.
    #[error(
        "the log can't be cut at commit {position}: the snapshot is at {snapshot}, so nothing would be undone"
    )]
    Reflected {
        /// The first commit to drop.
        position: u64,
        /// The commit that the snapshot reflects.
        snapshot: u64,
    },
    /// The directory is in use, holds no store of this format, or the system refuses.
    #[error("the store can't be opened to cut its log")]
    Open(#[source] OpenError),
    /// The snapshot can't be read, without which the store would not open after the cut.
    #[error("the log can't be cut without a snapshot")]
    Snapshot(#[source] Corrupt),
}

impl From<OpenError> for CutError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// Reads the whole log of a store that no engine has open, and says what is in it. Changes nothing.
///
/// # Errors
/// [`OpenError::Locked`], [`OpenError::Io`]. What is wrong with a segment is in the report.
pub fn inspect_log(dir: impl AsRef<Path>) -> Result<LogReport, OpenError> {
    let layout = Layout::of(dir.as_ref());
    let _lock = Lock::take_unseen(&layout.dir)?;
    inspect::inspect(&RealDisk, &layout.log).map_err(|error| OpenError::of_log(&layout.dir, error))
}

/// Drops commit `position` and all behind it from the log of a store that no engine has open: for good, and whatever is
/// wrong with it. That is the way out when the log is damaged and no backup is better. Make a copy of the directory first.
///
/// The index is set aside when it reflects what is dropped. After a crash meanwhile, do it again.
///
/// # Errors
/// [`CutError::Outside`], [`CutError::Reflected`], [`CutError::Snapshot`]: nothing was changed. [`CutError::Open`] as
/// [`EmbeddedEngine::open`](crate::store::EmbeddedEngine::open), or when the system refuses: then do it again.
pub fn cut_log(dir: impl AsRef<Path>, position: u64) -> Result<CutReport, CutError> {
    let plan = plan(dir.as_ref(), EmbeddedOptions::default())?;
    let dir = &plan.layout.dir;
    plan.disk.names(dir).map_err(OpenError::io("list", dir))?;
    let _lock = Lock::take(dir)?;
    cut(&plan, position)
}

/// Cuts the log of a store that nobody else uses.
pub(in super::super) fn cut(plan: &Plan, position: u64) -> Result<CutReport, CutError> {
    let Plan { disk, layout, .. } = plan;
    let of_store = |error| OpenError::of_store(&layout.dir, error);
    let of_log = |error| match error {
        LogError::CutOutside {
            position,
            first,
            end,
        } => CutError::Outside {
            position,
            first,
            end,
        },
        other => CutError::Open(OpenError::of_log(&layout.dir, other)),
    };
    let store = match open::read_format(&**disk, layout)? {
        Format::Current(store, _) => store,
        Format::Earlier => {
            let (dir, found) = (layout.dir.clone(), open::FORMAT_EARLIER);
            return Err(OpenError::EarlierFormat { dir, found }.into());
        }
        Format::New => {
            let reason = "there is no store in it, or not a whole one";
            return Err(OpenError::damaged(&layout.dir, reason).into());
        }
    };
    match snapshot::read(&**disk, &layout.snapshot, store, &mut |_, _| Ok(())) {
        Ok(Some(snapshot)) if snapshot >= position => {
            return Err(CutError::Reflected { position, snapshot });
        }
        Ok(Some(_)) => {}
        Ok(None) => {
            return Err(CutError::Snapshot(Corrupt::new(
                "snapshot",
                "it is not there",
            )));
        }
        Err(StoreError::Corrupt(corrupt)) => return Err(CutError::Snapshot(corrupt)),
        Err(error) => return Err(of_store(error).into()),
    }
    // First to see that it can be done.
    inspect::cut(&StillDisk::over(disk), &layout.log, position).map_err(of_log)?;
    let index_aside = match plan.home.open() {
        Ok(index) => {
            let reflected = index.position();
            index.close().map_err(of_store)?;
            let aside = (reflected >= position).then(|| plan.home.set_aside());
            aside.transpose().map_err(of_store)?
        }
        Err(error @ StoreError::Io { .. }) => return Err(of_store(error).into()),
        // Opening makes it anew.
        Err(_) => None,
    };
    let dropped = inspect::cut(&**disk, &layout.log, position).map_err(of_log)?;
    Ok(CutReport {
        from: dropped.from,
        to: dropped.to,
        bytes: dropped.bytes,
        segments: dropped.segments,
        index_aside,
    })
}

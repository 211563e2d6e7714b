//! Opening the data directory: its lock, its format, its index.
//!
//! **Layout** of the directory:
//!
//! | name | holds |
//! |---|---|
//! | `lock` | locked while an engine runs, with a line that says whose |
//! | `format` | `mas-store`, a blank and the number of this layout: 1 |
//! | `tip` | the last position that was brought to disk |
//! | `index/` | sled's files |

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::index::{Place, SledIndex, SyncFile};
use crate::model::{Clock, SystemClock};
use crate::store::StoreError;

/// The only layout so far.
const FORMAT: u32 = 1;

/// Longest text of `lock` and `format` that is read, in bytes.
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
    /// What is stored can't be trusted. mas has changed nothing; sled may have cut off what it could not read.
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
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// An open data directory. Its lock is released when this is dropped.
pub(super) struct DataDir {
    /// Dropped before the lock.
    pub(super) index: SledIndex,
    pub(super) lock: Lock,
}

/// Opens a data directory, and makes it if it is not there.
pub(super) fn open(dir: &Path, cache_bytes: u64, sync: SyncFile) -> Result<DataDir, OpenError> {
    make_private(dir).map_err(OpenError::io("make", dir))?;
    let lock = Lock::take(dir)?;
    check_format(dir)?;
    let index = dir.join("index");
    // Also where somebody else has made the directory, open to all.
    make_private(&index).map_err(OpenError::io("make", &index))?;
    let place = Place {
        dir: index.clone(),
        tip: dir.join("tip"),
        cache_bytes,
        sync,
    };
    let opened = SledIndex::open(place).map_err(|error| match error {
        StoreError::Io { action, source } => OpenError::Io {
            action,
            path: index.clone(),
            source: io::Error::new(source.kind(), source),
        },
        StoreError::Failed { reason } => damaged(dir, &*reason),
        other => damaged(dir, other.to_string()),
    });
    let opened = opened.inspect_err(|error| tracing::error!(%error, "the store did not open"))?;
    // sled never syncs its settings, and the names of new files outlive a power cut only with their directories.
    let settings = index.join("conf");
    let synced = File::open(&settings).and_then(|file| file.sync_all());
    synced.map_err(OpenError::io("sync", &settings))?;
    for synced in [&index, dir] {
        sync_dir(synced).map_err(OpenError::io("sync", synced))?;
    }
    Ok(DataDir {
        index: opened,
        lock,
    })
}

pub(super) fn damaged(dir: &Path, reason: impl Into<String>) -> OpenError {
    OpenError::Damaged {
        dir: dir.to_owned(),
        reason: reason.into(),
    }
}

/// Makes a directory that only its owner can look into.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Brings the names in a directory to disk. Only Unix can, or must.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Checks the format of a directory, and writes it into a new one.
fn check_format(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("format");
    let text = match File::open(&path) {
        Ok(file) => read_note(&file).map_err(OpenError::io("read", &path))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return write_format(dir, &path),
        Err(e) => return Err(OpenError::io("open", &path)(e)),
    };
    let number = text.trim_end().strip_prefix("mas-store ");
    match number.and_then(|number| number.parse().ok()) {
        Some(found) if found > FORMAT => Err(OpenError::NewerFormat {
            dir: dir.to_owned(),
            found,
            known: FORMAT,
        }),
        Some(1..) => Ok(()),
        _ => Err(damaged(
            dir,
            "its file `format` does not say `mas-store` and a number",
        )),
    }
}

fn write_format(dir: &Path, path: &Path) -> Result<(), OpenError> {
    if dir.join("index").join("db").exists() {
        return Err(damaged(dir, "it holds an index but no file `format`"));
    }
    let new = dir.join("format.new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(format!("mas-store {FORMAT}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_dir(dir)
    };
    write().map_err(OpenError::io("write", path))
}

fn read_note(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lock of a data directory, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let holder = read_note(&file).unwrap_or_default().trim().to_owned();
                let unknown = "another process, which has not said which".to_owned();
                return Err(OpenError::Locked {
                    dir: dir.to_owned(),
                    holder: if holder.is_empty() { unknown } else { holder },
                });
            }
            Err(fs::TryLockError::Error(e)) => return Err(OpenError::io("lock", &path)(e)),
        }
        let mut note = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder().as_bytes())
        };
        if let Err(error) = note() {
            // The lock holds without it: a second engine is only told less.
            tracing::warn!(%error, "the store can't note who holds its lock");
        }
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The text is for people only: a stale one misleads nobody while the lock is free.
        let _ = self.0.set_len(0);
    }
}

/// Who this process is, in one line.
fn holder() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(io::Error::other))
        .unwrap_or_else(|_| "unknown".to_owned());
    let since = utc(SystemClock::new().unix().as_secs());
    let pid = std::process::id();
    format!("process {pid} on host {} since {since}\n", host.trim())
}

/// A time in seconds since 1970 as people write it.
///
/// The civil date comes from the day's number by counting in years that begin in March (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

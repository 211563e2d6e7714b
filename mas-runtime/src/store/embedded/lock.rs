//! The lock of a data directory: one engine at a time, in all processes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::open::OpenError;
use crate::model::{Clock, SystemClock};

/// Longest text of the lock that is read, in bytes.
const NOTE_BYTES_MAX: u64 = 1024;

/// The lock of a data directory, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock and changes nothing, not even the text; `None` where no engine has ever run.
    pub(super) fn take_unseen(dir: &Path) -> Result<Option<LookLock>, OpenError> {
        let path = dir.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(OpenError::io("open", &path)(e)),
        };
        lock(dir, &path, &file)?;
        Ok(Some(LookLock(file)))
    }

    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        lock(dir, &path, &file)?;
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

/// The lock of a data directory that is only looked at.
#[derive(Debug)]
pub(super) struct LookLock(#[expect(dead_code, reason = "it is held")] File);

fn lock(dir: &Path, path: &Path, file: &File) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => {
            let holder = read_note(file).unwrap_or_default().trim().to_owned();
            let unknown = "another process, which has not said which".to_owned();
            Err(OpenError::Locked {
                dir: dir.to_owned(),
                holder: if holder.is_empty() { unknown } else { holder },
            })
        }
        Err(fs::TryLockError::Error(e)) => Err(OpenError::io("lock", path)(e)),
    }
}

fn read_note(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

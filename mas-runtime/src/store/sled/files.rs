//! sled's files, where it does not look after them itself.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::model::limits::STORE_HANDOVER_MAX;

/// Makes a folder that only its owner can look into.
pub(super) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Removes what an interrupted snapshot has left: sled would take it for the latest one and refuse to open.
pub(super) fn remove_leftovers(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing an interrupted snapshot of sled");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Waits until an earlier tree has let go of sled's file: its threads end a little after it, and after the lock of the
/// directory, which this engine holds by now.
pub(super) fn wait_for_handover(path: &Path) -> io::Result<()> {
    const STEP: Duration = Duration::from_millis(5);
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut waited = Duration::ZERO;
    while let Err(error) = file.try_lock() {
        match error {
            fs::TryLockError::WouldBlock if waited < STORE_HANDOVER_MAX => {
                thread::sleep(STEP);
                waited += STEP;
            }
            fs::TryLockError::WouldBlock => {
                let text = "an engine that failed still holds it: end its process";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            fs::TryLockError::Error(error) => return Err(error),
        }
    }
    Ok(())
}

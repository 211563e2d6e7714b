//! A copy of the index, in a folder for temporary files.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::embedded::OpenError;

/// A folder with a copy of the index, which goes when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    refs: PathBuf,
}

impl Scratch {
    /// Copies the index in `refs` to a new folder in `above`.
    pub(super) fn of(refs: &Path, above: Option<&Path>) -> Result<Self, OpenError> {
        let above = above.map_or_else(std::env::temp_dir, Path::to_owned);
        let dir = make_new(&above).map_err(OpenError::io("make a folder in", &above))?;
        let copy = dir.join("refs");
        let scratch = Self { dir, refs: copy };
        if refs.exists() {
            copy_files(refs, &scratch.refs).map_err(OpenError::io("copy the index in", refs))?;
        }
        Ok(scratch)
    }

    /// Where the copy is.
    pub(super) fn refs(&self) -> &Path {
        &self.refs
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, path = %self.dir.display(), "can't remove the copy of an index");
        }
    }
}

/// Makes a folder that was not there, which only its owner can look into.
fn make_new(above: &Path) -> io::Result<PathBuf> {
    /// More than examinations that run at a time.
    const TRIES: u32 = 1000;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let id = std::process::id();
    let mut made = Err(io::ErrorKind::AlreadyExists.into());
    for number in 0..TRIES {
        let dir = above.join(format!("mas-examine-{id}-{number}"));
        made = builder.create(&dir).map(|()| dir);
        match &made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    made
}

/// Copies the files of a folder, and those of the folders in it. Whatever else is there is not sled's.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

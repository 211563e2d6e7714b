//! A disk that takes changes and forgets them, so that what opens a store can be run to see what it would do.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile};

/// A disk that reads from another one, takes changes and forgets them.
#[derive(Clone, Debug)]
pub(crate) struct StillDisk(Arc<dyn Disk>);

impl StillDisk {
    pub(crate) fn over(disk: &Arc<dyn Disk>) -> Self {
        Self(Arc::clone(disk))
    }
}

impl Disk for StillDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// A folder that would have been made is empty.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.0.names(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(StillFile(None)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(StillFile(Some(self.0.open(path)?))))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A file of such a disk: `None` for one that was made on it, which stays empty.
#[derive(Debug)]
struct StillFile(Option<Arc<dyn DiskFile>>);

impl DiskFile for StillFile {
    fn size(&self) -> io::Result<u64> {
        self.0.as_ref().map_or(Ok(0), |file| file.size())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.0 {
            Some(file) => file.read_at(offset, buffer),
            None if buffer.is_empty() => Ok(()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

//! What is on a simulated disk, and what the operations do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::contents::Contents;
use super::fate::PowerCut;
use super::folder::{FileId, Folder, NameChange};

/// The most that a disk holds, in bytes: all of it is in memory, several times.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// What is on a disk, and what goes wrong with it.
pub(super) struct State {
    folders: BTreeMap<PathBuf, Folder>,
    /// Those that a name stands for or may stand for after a power cut, and those that are open.
    files: BTreeMap<FileId, File>,
    files_made: u64,
    operations: u64,
    crash_at: Option<u64>,
    has_crashed: bool,
    writes_fail: Option<io::ErrorKind>,
    full_at_bytes: u64,
    full_from: Option<u64>,
    next_sync_fails: bool,
}

#[derive(Default)]
struct File {
    contents: Contents,
    /// Who has the file open holds a clone.
    open: Arc<()>,
}

impl File {
    fn new(contents: Contents) -> Self {
        Self {
            contents,
            open: Arc::default(),
        }
    }

    fn is_open(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }
}

impl Default for State {
    fn default() -> Self {
        let root = (PathBuf::from("/"), Folder::default());
        Self {
            folders: BTreeMap::from([root]),
            files: BTreeMap::new(),
            files_made: 0,
            operations: 0,
            crash_at: None,
            has_crashed: false,
            writes_fail: None,
            full_at_bytes: BYTES_MAX,
            full_from: None,
            next_sync_fails: false,
        }
    }
}

/// The error of an operation that the crash hit, and of everything after it.
pub(super) fn crashed() -> io::Error {
    io::Error::other("the disk has crashed")
}

/// Faults, and what a crash leaves.
impl State {
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn crash_at(&mut self, number: u64) {
        self.crash_at = Some(number);
    }

    pub(super) fn fail_writes(&mut self, kind: Option<io::ErrorKind>) {
        self.writes_fail = kind;
    }

    pub(super) fn full_at_bytes(&mut self, limit: u64) {
        self.full_at_bytes = limit.min(BYTES_MAX);
    }

    pub(super) fn full_from(&mut self, number: Option<u64>) {
        self.full_from = number;
    }

    /// Why nothing can be written now.
    fn write_fault(&self) -> Option<io::ErrorKind> {
        let is_full = self.full_from.is_some_and(|from| from <= self.operations);
        self.writes_fail
            .or_else(|| is_full.then_some(io::ErrorKind::StorageFull))
    }

    pub(super) fn fail_next_sync(&mut self) {
        self.next_sync_fails = true;
    }

    /// Counts an operation, and says whether the crash hits it.
    pub(super) fn begin(&mut self) -> io::Result<bool> {
        self.check()?;
        self.operations += 1;
        self.has_crashed = self.crash_at.is_some_and(|at| at <= self.operations);
        Ok(self.has_crashed)
    }

    /// Fails once the disk has crashed.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.has_crashed {
            return Err(crashed());
        }
        Ok(())
    }

    pub(super) fn killed(&self) -> Self {
        let files = self.files.iter();
        let files = files.map(|(id, file)| (*id, File::new(file.contents.clone())));
        self.left(self.folders.clone(), files.collect())
    }

    pub(super) fn after(&self, cut: &PowerCut) -> Self {
        let folders = self.folders.iter();
        let folders = folders.map(|(path, folder)| (path.clone(), folder.after(cut)));
        let files = self.files.iter();
        let files = files.map(|(id, file)| (*id, File::new(file.contents.after(cut))));
        self.left(folders.collect(), files.collect())
    }

    /// A disk with these folders, and those of these files that have a place in them.
    fn left(&self, folders: BTreeMap<PathBuf, Folder>, files: BTreeMap<FileId, File>) -> Self {
        let mut left = Self {
            folders,
            files,
            files_made: self.files_made,
            ..Self::default()
        };
        left.forget_lost();
        left
    }

    /// Drops the files that nobody can reach, whatever happens.
    fn forget_lost(&mut self) {
        let named: BTreeSet<FileId> = self.folders.values().flat_map(Folder::files).collect();
        self.files
            .retain(|id, file| named.contains(id) || file.is_open());
    }
}

/// Names.
impl State {
    pub(super) fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        let folders = dir.ancestors().filter(|dir| *dir != Path::new(""));
        if let Some(file) = folders.clone().find(|dir| self.find(dir).is_ok()) {
            return Err(error(io::ErrorKind::AlreadyExists, file));
        }
        for folder in folders {
            self.folders.entry(folder.to_owned()).or_default();
        }
        Ok(())
    }

    pub(super) fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.folder(dir)?.seen().keys().cloned();
        let folders = self
            .folders
            .keys()
            .filter(|path| path.parent() == Some(dir));
        let folders = folders.filter_map(|path| split(path).ok());
        let folders = folders.map(|(_, name)| name.to_owned());
        let mut names: Vec<String> = files.chain(folders).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<(FileId, Arc<()>)> {
        if self.folders.contains_key(path) || self.find(path).is_ok() {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        if let Some(kind) = self.write_fault() {
            return Err(kind.into());
        }
        if self.used_bytes() >= self.full_at_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.make(path, File::default())
    }

    fn make(&mut self, path: &Path, file: File) -> io::Result<(FileId, Arc<()>)> {
        let (dir, name) = split(path)?;
        let id = FileId(self.files_made);
        self.folder_mut(dir)?.change(NameChange::Create {
            name: name.to_owned(),
            file: id,
        });
        self.files_made += 1;
        let open = Arc::clone(&file.open);
        self.files.insert(id, file);
        Ok((id, open))
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<(FileId, Arc<()>)> {
        if self.folders.contains_key(path) {
            return Err(error(io::ErrorKind::IsADirectory, path));
        }
        let id = self.find(path)?;
        let open = Arc::clone(&self.file(id)?.open);
        Ok((id, open))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find(from)?;
        let ((dir, from_name), (to_dir, to_name)) = (split(from)?, split(to)?);
        if dir != to_dir {
            return Err(error(io::ErrorKind::CrossesDevices, to));
        }
        if self.folders.contains_key(to) {
            return Err(error(io::ErrorKind::IsADirectory, to));
        }
        if from_name != to_name {
            self.folder_mut(dir)?.change(NameChange::Rename {
                from: from_name.to_owned(),
                to: to_name.to_owned(),
                file,
            });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.folders.contains_key(path) {
            return Err(error(io::ErrorKind::IsADirectory, path));
        }
        let file = self.find(path)?;
        let (dir, name) = split(path)?;
        self.folder_mut(dir)?.change(NameChange::Remove {
            name: name.to_owned(),
            file,
        });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.folder_mut(dir)?.sync();
        self.forget_lost();
        Ok(())
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        let folders = self.folders.iter();
        let mut files: Vec<(PathBuf, u64)> = folders
            .flat_map(|(dir, folder)| {
                let names = folder.seen().iter();
                names.map(|(name, file)| (dir.join(name), self.size_bytes(*file)))
            })
            .collect();
        files.sort_unstable();
        files
    }

    /// The file that a path stands for.
    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        let (dir, name) = split(path)?;
        let file = self.folder(dir)?.seen().get(name).copied();
        file.ok_or_else(|| error(io::ErrorKind::NotFound, path))
    }

    fn folder(&self, dir: &Path) -> io::Result<&Folder> {
        let folder = self.folders.get(dir);
        folder.ok_or_else(|| error(io::ErrorKind::NotFound, dir))
    }

    fn folder_mut(&mut self, dir: &Path) -> io::Result<&mut Folder> {
        let folder = self.folders.get_mut(dir);
        folder.ok_or_else(|| error(io::ErrorKind::NotFound, dir))
    }
}

/// What files hold.
impl State {
    pub(super) fn seen(&self, file: FileId) -> io::Result<&[u8]> {
        Ok(self.file(file)?.contents.seen())
    }

    pub(super) fn read_at(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.seen(file).ok()?.get(offset..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_at(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        self.make_room(file, end)?;
        // The end is within a file or within the disk's room, which is far below the size of memory.
        self.file_mut(file)?.contents.write(offset as usize, bytes);
        Ok(())
    }

    pub(super) fn set_size(&mut self, file: FileId, size: u64) -> io::Result<()> {
        self.make_room(file, size)?;
        self.file_mut(file)?.contents.set_size(size as usize);
        Ok(())
    }

    pub(super) fn sync(&mut self, file: FileId) -> io::Result<()> {
        let fails = std::mem::take(&mut self.next_sync_fails);
        let contents = &mut self.file_mut(file)?.contents;
        if fails {
            contents.forget_unsynced();
            return Err(io::Error::other("the disk could not write what was synced"));
        }
        contents.sync();
        Ok(())
    }

    pub(super) fn flip(&mut self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let file = self.find(path)?;
        self.read_at(file, offset, &mut [0])?;
        let contents = &mut self.file_mut(file)?.contents;
        contents.flip(offset as usize, 1 << (bit % 8));
        Ok(())
    }

    pub(super) fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let contents = Contents::durable(bytes.to_vec());
        match self.find(path) {
            Ok(file) => self.file_mut(file)?.contents = contents,
            Err(_) => {
                self.make(path, File::new(contents))?;
            }
        }
        let (dir, _) = split(path)?;
        self.sync_dir(dir)
    }

    /// The room that files take which have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let folders = self.folders.values();
        let named = folders.flat_map(|folder| folder.seen().values().copied());
        let open = self.files.iter().filter(|(_, file)| file.is_open());
        let files: BTreeSet<FileId> = named.chain(open.map(|(id, _)| *id)).collect();
        files.into_iter().map(|id| self.size_bytes(id)).sum()
    }

    /// Whether a file may be written up to `end`.
    fn make_room(&self, file: FileId, end: u64) -> io::Result<()> {
        if let Some(kind) = self.write_fault() {
            return Err(kind.into());
        }
        let more = end.saturating_sub(self.size_bytes(file));
        if more > 0 && self.used_bytes().saturating_add(more) > self.full_at_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn size_bytes(&self, file: FileId) -> u64 {
        let file = self.files.get(&file);
        file.map_or(0, |file| file.contents.seen().len() as u64)
    }

    fn file(&self, file: FileId) -> io::Result<&File> {
        self.files.get(&file).ok_or_else(no_file)
    }

    fn file_mut(&mut self, file: FileId) -> io::Result<&mut File> {
        self.files.get_mut(&file).ok_or_else(no_file)
    }
}

/// The folder and the name of a path.
fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let parts = path.parent().zip(name);
    parts.ok_or_else(|| error(io::ErrorKind::InvalidInput, path))
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

/// Invariant: files that have a name or are open are kept, so no caller meets this.
fn no_file() -> io::Error {
    io::Error::other("the file is gone")
}

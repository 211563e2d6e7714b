//! Random operations: against a plain model of what may be left, and against the real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;

use super::SECTOR_BYTES;
#[cfg(unix)]
use crate::store::disk;
use crate::store::disk::Disk;
use crate::store::disk::sim::SimDisk;

const FOLDERS: u8 = 2;
const NAMES: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Create(Name),
    Write(Name, u16, u16, u8),
    SetSize(Name, u16),
    Sync(Name),
    Rename(Name, u8),
    Remove(Name),
    SyncDir(u8),
}

/// A file, by the numbers of its folder and of its name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Name(u8, u8);

impl Name {
    fn path(self, root: &Path) -> PathBuf {
        folder(root, self.0).join(self.1.to_string())
    }
}

fn folder(root: &Path, number: u8) -> PathBuf {
    root.join(format!("folder-{number}"))
}

fn every_name() -> impl Iterator<Item = Name> {
    (0..FOLDERS).flat_map(|folder| (0..NAMES).map(move |name| Name(folder, name)))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || (0..FOLDERS, 0..NAMES).prop_map(|(folder, name)| Name(folder, name));
    let step = prop_oneof![
        3 => name().prop_map(Step::Create),
        6 => (name(), 0..2000_u16, 0..1500_u16, 1..=255_u8)
            .prop_map(|(name, offset, size, byte)| Step::Write(name, offset, size, byte)),
        2 => (name(), 0..3000_u16).prop_map(|(name, size)| Step::SetSize(name, size)),
        2 => name().prop_map(Step::Sync),
        3 => (name(), 0..NAMES).prop_map(|(name, to)| Step::Rename(name, to)),
        1 => name().prop_map(Step::Remove),
        1 => (0..FOLDERS).prop_map(Step::SyncDir),
    ];
    vec(step, 0..50)
}

fn make_folders(disk: &dyn Disk, root: &Path) {
    for number in 0..FOLDERS {
        disk.make_dir(&folder(root, number)).unwrap();
    }
}

fn run(disk: &dyn Disk, root: &Path, step: &Step) -> io::Result<()> {
    match *step {
        Step::Create(name) => disk.create(&name.path(root)).map(drop),
        Step::Write(name, offset, size, byte) => {
            let bytes = vec![byte; usize::from(size)];
            let file = disk.open(&name.path(root))?;
            file.write_at(u64::from(offset), &bytes)
        }
        Step::SetSize(name, size) => disk.open(&name.path(root))?.set_size(u64::from(size)),
        Step::Sync(name) => disk.open(&name.path(root))?.sync(),
        Step::Rename(name, to) => disk.rename(&name.path(root), &Name(name.0, to).path(root)),
        Step::Remove(name) => disk.remove(&name.path(root)),
        Step::SyncDir(number) => disk.sync_dir(&folder(root, number)),
    }
}

/// What is there, and everything that may be there after a power cut.
#[derive(Default)]
struct Model {
    files: Vec<ModelFile>,
    names: BTreeMap<Name, usize>,
    names_possible: BTreeMap<Name, BTreeSet<Option<usize>>>,
}

#[derive(Default)]
struct ModelFile {
    bytes: Vec<u8>,
    /// What each byte may be, if it is there.
    bytes_possible: Vec<BTreeSet<u8>>,
    sizes_possible: BTreeSet<usize>,
}

impl ModelFile {
    fn grow(&mut self, size: usize) {
        self.bytes.resize(size.max(self.bytes.len()), 0);
        let known = self.bytes_possible.len();
        self.bytes_possible
            .resize(size.max(known), BTreeSet::from([0]));
    }

    fn write(&mut self, offset: usize, size: usize, byte: u8) {
        if size == 0 {
            return;
        }
        let end = offset + size;
        self.grow(end);
        self.bytes[offset..end].fill(byte);
        for possible in &mut self.bytes_possible[offset..end] {
            possible.insert(byte);
        }
        let sectors = (offset + 1..end).filter(|at| at % SECTOR_BYTES == 0);
        self.sizes_possible.extend(sectors);
        self.sizes_possible.insert(end);
    }

    fn set_size(&mut self, size: usize) {
        self.grow(size);
        self.bytes.truncate(size);
        for possible in &mut self.bytes_possible[size..] {
            possible.insert(0);
        }
        self.sizes_possible.insert(size);
    }

    fn sync(&mut self) {
        let bytes = self.bytes.iter();
        self.bytes_possible = bytes.map(|byte| BTreeSet::from([*byte])).collect();
        self.sizes_possible = BTreeSet::from([self.bytes.len()]);
    }

    fn may_be(&self, bytes: &[u8]) -> bool {
        let mut both = bytes.iter().zip(&self.bytes_possible);
        self.sizes_possible.contains(&bytes.len())
            && both.all(|(byte, possible)| possible.contains(byte))
    }
}

impl Model {
    /// Does a step, if it can be done. One that the crash hits is done, but nothing is synced for certain.
    fn run(&mut self, step: &Step, is_hit: bool) -> bool {
        let named = |name| self.names.get(name).copied();
        match step {
            Step::Create(name) => {
                if self.names.contains_key(name) {
                    return false;
                }
                let mut file = ModelFile::default();
                file.sync();
                self.set_name(*name, Some(self.files.len()));
                self.files.push(file);
            }
            Step::Write(name, offset, size, byte) => {
                let Some(file) = named(name) else {
                    return false;
                };
                self.files[file].write(usize::from(*offset), usize::from(*size), *byte);
            }
            Step::SetSize(name, size) => {
                let Some(file) = named(name) else {
                    return false;
                };
                self.files[file].set_size(usize::from(*size));
            }
            Step::Sync(name) => {
                let Some(file) = named(name) else {
                    return false;
                };
                if !is_hit {
                    self.files[file].sync();
                }
            }
            Step::Rename(name, to) => {
                let Some(file) = named(name) else {
                    return false;
                };
                self.set_name(*name, None);
                self.set_name(Name(name.0, *to), Some(file));
            }
            Step::Remove(name) => {
                if named(name).is_none() {
                    return false;
                }
                self.set_name(*name, None);
            }
            Step::SyncDir(number) if !is_hit => self.sync_dir(*number),
            Step::SyncDir(_) => {}
        }
        true
    }

    fn set_name(&mut self, name: Name, file: Option<usize>) {
        let before = self.names.get(&name).copied();
        let possible = self.names_possible.entry(name);
        let possible = possible.or_insert_with(|| BTreeSet::from([before]));
        possible.insert(file);
        match file {
            Some(file) => self.names.insert(name, file),
            None => self.names.remove(&name),
        };
    }

    fn sync_dir(&mut self, number: u8) {
        self.names_possible.retain(|name, _| name.0 != number);
    }

    fn possible(&self, name: Name) -> BTreeSet<Option<usize>> {
        let now = || BTreeSet::from([self.names.get(&name).copied()]);
        self.names_possible.get(&name).cloned().unwrap_or_else(now)
    }

    fn check_killed(&self, disk: &SimDisk, root: &Path) {
        let mut expected = BTreeMap::new();
        for (name, file) in &self.names {
            expected.insert(name.path(root), self.files[*file].bytes.clone());
        }
        let read = |(path, size): (PathBuf, u64)| {
            let bytes = disk.read_file(&path).unwrap();
            assert_eq!(bytes.len() as u64, size);
            (path, bytes)
        };
        let found: BTreeMap<_, _> = disk.files().into_iter().map(read).collect();
        assert!(found == expected, "{:?}", found.keys());
    }

    fn check_cut(&self, disk: &SimDisk, root: &Path) {
        for name in every_name() {
            let possible = self.possible(name);
            let fits = match disk.read_file(&name.path(root)) {
                Ok(bytes) => {
                    let mut files = possible.iter().flatten();
                    files.any(|file| self.files[*file].may_be(&bytes))
                }
                Err(_) => possible.contains(&None),
            };
            assert!(fits, "{name:?} is none of {possible:?}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_left_but_what_may_be(
        steps in steps(),
        crash_at in 1..60_u64,
        seeds in any::<[u64; 6]>(),
    ) {
        let root = Path::new("/");
        let disk = SimDisk::new();
        make_folders(&disk, root);
        disk.crash_at(crash_at);
        let mut model = Model::default();
        for step in &steps {
            let done = run(&disk, root, step);
            let is_hit = disk.operations() == crash_at;
            let possible = model.run(step, is_hit);
            prop_assert_eq!(done.is_ok(), possible && !is_hit, "{:?}: {:?}", step, done);
            if is_hit {
                break;
            }
        }
        let killed = disk.kill();
        model.check_killed(&disk, root);
        model.check_killed(&killed, root);
        for seed in seeds {
            model.check_cut(&disk.after_crash(seed), root);
            model.check_cut(&killed.after_crash(seed), root);
        }
        // Once all is synced, nothing may be lost.
        for (path, _) in killed.files() {
            killed.open(&path).unwrap().sync().unwrap();
        }
        for number in 0..FOLDERS {
            killed.sync_dir(&folder(root, number)).unwrap();
        }
        for seed in seeds {
            model.check_killed(&killed.after_crash(seed), root);
        }
    }
}

#[cfg(unix)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn it_answers_as_the_real_disk_does(steps in steps()) {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        let simulated = SimDisk::new();
        let disks: [&dyn Disk; 2] = [&simulated, &disk::RealDisk];
        for disk in disks {
            make_folders(disk, root);
        }
        for step in &steps {
            let [ours, real] = disks.map(|disk| run(disk, root, step).map_err(|error| error.kind()));
            prop_assert_eq!(ours, real, "{:?}", step);
        }
        prop_assert_eq!(simulated.names(root).unwrap(), disk::RealDisk.names(root).unwrap());
        for number in 0..FOLDERS {
            let [ours, real] = disks.map(|disk| disk.names(&folder(root, number)).unwrap());
            prop_assert_eq!(ours, real);
        }
        for name in every_name() {
            let [ours, real] = disks.map(|disk| {
                let file = disk.open(&name.path(root)).map_err(|error| error.kind())?;
                Ok::<_, io::ErrorKind>(disk::read_whole(&*file, 1 << 20).unwrap())
            });
            prop_assert!(ours == real, "{:?}", name);
        }
    }
}

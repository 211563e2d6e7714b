//! The names in a folder: as they are read, and as the disk has them.

use std::collections::BTreeMap;

use super::fate::PowerCut;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct FileId(pub(super) u64);

/// What names stand for.
pub(super) type Names = BTreeMap<String, FileId>;

/// The names in a folder, as they are read and as the disk has them.
#[derive(Clone, Default)]
pub(super) struct Folder {
    /// What reads see.
    seen: Names,
    /// What outlives a power cut for certain.
    durable: Names,
    /// What became of `durable` since the last sync, oldest first.
    unsynced: Vec<NameChange>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Create {
        name: String,
        file: FileId,
    },
    Remove {
        name: String,
        file: FileId,
    },
    Rename {
        from: String,
        to: String,
        file: FileId,
    },
}

impl Folder {
    /// `names`, all of them durable.
    fn durable(names: Names) -> Self {
        Self {
            seen: names.clone(),
            durable: names,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.unsynced.clear();
    }

    /// What reads see.
    pub(super) fn seen(&self) -> &Names {
        &self.seen
    }

    /// The files that a name stands for, or may stand for after a power cut.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        let unsynced = self.unsynced.iter().map(NameChange::file);
        let names = self.seen.values().chain(self.durable.values());
        names.copied().chain(unsynced)
    }

    /// What is there after a power cut.
    pub(super) fn after(&self, cut: &PowerCut) -> Self {
        let fate = cut.fate(self.unsynced.len());
        let mut left = self.durable.clone();
        for (index, change) in self.unsynced.iter().enumerate() {
            if fate.keeps(index) {
                change.apply(&mut left);
            }
        }
        Self::durable(left)
    }
}

impl NameChange {
    fn file(&self) -> FileId {
        match self {
            Self::Create { file, .. } | Self::Remove { file, .. } | Self::Rename { file, .. } => {
                *file
            }
        }
    }

    /// Does it where it can be done. When an earlier change was lost, a name may be taken, or stand for another file.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create { name, file } => {
                names.entry(name.clone()).or_insert(*file);
            }
            Self::Remove { name, file } => {
                if names.get(name) == Some(file) {
                    names.remove(name);
                }
            }
            Self::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                    names.insert(to.clone(), *file);
                }
            }
        }
    }
}

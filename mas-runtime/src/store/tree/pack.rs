//! Packs: files of leaves, appended to and never changed.
//!
//! **Layout**: a header of 36 bytes, then leaves, one after the other. Numbers are big-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `maspack` and the layout's version, 1 |
//! | 8 | 8 | the pack's number, as in its name |
//! | 16 | 16 | the id of the store |
//! | 32 | 4 | CRC32C of the 32 bytes before |
//!
//! A leaf's size and checksum stand with its [reference](LeafRef), so the bytes behind the last leaf that is referred to
//! mean nothing: a crash may have left anything there. A pack of an earlier run is not appended to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::{BufMut, Bytes};

use super::leaf::{self, Leaf};
use super::refs::LeafRef;
use crate::store::disk::{Disk, DiskFile};
use crate::store::{Corrupt, StoreError};

const MAGIC: &[u8; 8] = b"maspack\x01";

/// Size of a pack's header.
const HEADER_BYTES: u64 = 36;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// What a store's files say of the store that they belong to.
pub(crate) type StoreId = [u8; 16];

/// What a pack takes, and how much of it is referred to, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackUse {
    pub(crate) size: u64,
    pub(crate) live: u64,
}

impl PackUse {
    /// Bytes that nobody refers to.
    pub(crate) const fn garbage(&self) -> u64 {
        self.size.saturating_sub(HEADER_BYTES + self.live)
    }
}

/// What is wrong with a file among the packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PackFault {
    /// It is another pack, or one of another store: the store does not open.
    Foreign,
    /// Its header is damaged; its leaves may be sound.
    Header,
    /// It has not the name of a pack.
    Stranger,
    /// It never got its header. Opening removes it.
    Unfinished,
    /// The system refuses.
    Unreadable(String),
}

/// All packs of a store.
#[derive(Debug)]
pub(crate) struct Packs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store: StoreId,
    packs: RwLock<BTreeMap<u64, Pack>>,
    /// The highest number that a pack has had. None is given again: leaves of the pack that had it may be remembered.
    last: AtomicU64,
}

#[derive(Clone, Debug)]
struct Pack {
    file: Arc<dyn DiskFile>,
    used: PackUse,
}

impl Packs {
    /// Opens what is there. Files whose header is not there yet are removed: nothing can refer into them.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        store: StoreId,
    ) -> Result<Self, StoreError> {
        let failed = |e| StoreError::io("open the packs", e);
        disk.make_dir(dir).map_err(failed)?;
        let (mut packs, mut last) = (BTreeMap::new(), 0);
        for name in disk.names(dir).map_err(failed)? {
            let Some(number) = number(&name) else {
                continue;
            };
            last = last.max(number);
            let path = dir.join(&name);
            let file = disk.open(&path).map_err(failed)?;
            let size = file.size().map_err(failed)?;
            match read_header(&*file, size).map_err(failed)? {
                Some((of, its)) if of == number && its == store => {}
                Some(_) => {
                    let reason = "it is another pack, or one of another store";
                    return Err(Corrupt::new(format!("pack {}", path.display()), reason).into());
                }
                // Referred to or not, its leaves can be read as long as their checksums hold.
                None if size > HEADER_BYTES => {}
                None => {
                    disk.remove(&path).map_err(failed)?;
                    continue;
                }
            }
            let used = PackUse { size, live: 0 };
            packs.insert(number, Pack { file, used });
        }
        let (dir, packs) = (dir.to_owned(), RwLock::new(packs));
        Ok(Self {
            disk,
            dir,
            store,
            packs,
            last: AtomicU64::new(last),
        })
    }

    fn packs(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Pack>> {
        self.packs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn packs_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Pack>> {
        self.packs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what can be opened and changes nothing. What is wrong with the others is shown, by the name of the file.
    pub(crate) fn look(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        store: StoreId,
        fault: &mut dyn FnMut(&str, PackFault),
    ) -> Result<Self, StoreError> {
        let names = disk.names(dir);
        let mut packs = BTreeMap::new();
        for name in names.map_err(|e| StoreError::io("list the packs", e))? {
            let Some(number) = number(&name) else {
                fault(&name, PackFault::Stranger);
                continue;
            };
            let opened = disk.open(&dir.join(&name)).and_then(|file| {
                let size = file.size()?;
                let header = read_header(&*file, size)?;
                Ok((file, size, header))
            });
            let (file, size, header) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    fault(&name, PackFault::Unreadable(error.to_string()));
                    continue;
                }
            };
            match header {
                Some(its) if its != (number, store) => {
                    fault(&name, PackFault::Foreign);
                    continue;
                }
                Some(_) => {}
                None if size > HEADER_BYTES => fault(&name, PackFault::Header),
                None => {
                    fault(&name, PackFault::Unfinished);
                    continue;
                }
            }
            let used = PackUse { size, live: 0 };
            packs.insert(number, Pack { file, used });
        }
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            store,
            last: AtomicU64::new(packs.last_key_value().map_or(0, |(last, _)| *last)),
            packs: RwLock::new(packs),
        })
    }

    /// The same packs as they are now, to be read whatever becomes of them: their files are kept open.
    pub(crate) fn pinned(&self) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            store: self.store,
            last: AtomicU64::new(self.last.load(Ordering::Relaxed)),
            packs: RwLock::new(self.packs().clone()),
        }
    }

    /// Whether the bytes of a leaf can be there.
    pub(crate) fn holds(&self, leaf: LeafRef) -> bool {
        self.packs()
            .get(&leaf.pack)
            .is_some_and(|pack| leaf.offset >= HEADER_BYTES && leaf.end() <= pack.used.size)
    }

    /// Reads the leaf that begins with the key `first`, and checks it.
    pub(crate) fn read(&self, first: &[u8], leaf: LeafRef) -> Result<Leaf, StoreError> {
        let bytes = self.read_bytes(first, leaf)?;
        let read = Leaf::decode(bytes).map_err(|e| leaf::damaged(first, e.reason))?;
        if read.len() != leaf.records as usize {
            return Err(leaf::damaged(first, "it has not the records that were written").into());
        }
        Ok(read)
    }

    /// Reads the bytes of a leaf, and checks them.
    pub(crate) fn read_bytes(&self, first: &[u8], leaf: LeafRef) -> Result<Bytes, StoreError> {
        let file = self
            .packs()
            .get(&leaf.pack)
            .map(|pack| Arc::clone(&pack.file));
        let at = || format!("pack {} at {}", leaf.pack, leaf.offset);
        let file = file.ok_or_else(|| leaf::damaged(first, format!("{} is not there", at())))?;
        let mut bytes = vec![0; leaf.bytes as usize];
        match file.read_at(leaf.offset, &mut bytes) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(leaf::damaged(first, format!("{} ends before it", at())).into());
            }
            Err(e) => return Err(StoreError::io("read a leaf", e)),
        }
        if crc32c::crc32c(&bytes) != leaf.crc {
            let reason = format!("{} does not match its checksum", at());
            return Err(leaf::damaged(first, reason).into());
        }
        Ok(bytes.into())
    }

    /// Counts a leaf as referred to, or no longer.
    pub(crate) fn count(&self, leaf: LeafRef, is_live: bool) {
        if let Some(pack) = self.packs_mut().get_mut(&leaf.pack) {
            let (bytes, live) = (u64::from(leaf.bytes), pack.used.live);
            pack.used.live = if is_live {
                live + bytes
            } else {
                live.saturating_sub(bytes)
            };
        }
    }

    /// What each pack takes.
    pub(crate) fn used(&self) -> BTreeMap<u64, PackUse> {
        let packs = self.packs();
        packs
            .iter()
            .map(|(number, pack)| (*number, pack.used))
            .collect()
    }

    /// Removes packs, whose leaves nobody refers to.
    pub(crate) fn remove(&self, numbers: &[u64]) -> Result<(), StoreError> {
        for number in numbers {
            // Who reads in it goes on doing so.
            if self.packs_mut().remove(number).is_some() {
                let removed = self.disk.remove(&self.path(*number));
                removed.map_err(|e| StoreError::io("remove a pack", e))?;
            }
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.pack"))
    }

    /// Makes an empty pack behind all others.
    fn make(&self) -> io::Result<(u64, Arc<dyn DiskFile>)> {
        let number = self.last.load(Ordering::Relaxed) + 1;
        let path = self.path(number);
        // What an interrupted attempt may have left.
        crate::store::disk::remove_if_there(&*self.disk, &path)?;
        let file = self.disk.create(&path)?;
        file.write_at(0, &header(number, self.store))?;
        let used = PackUse {
            size: HEADER_BYTES,
            live: 0,
        };
        let pack = Pack {
            file: Arc::clone(&file),
            used,
        };
        self.packs_mut().insert(number, pack);
        self.last.store(number, Ordering::Relaxed);
        Ok((number, file))
    }

    fn grow(&self, number: u64, size: u64) {
        if let Some(pack) = self.packs_mut().get_mut(&number) {
            pack.used.size = size;
        }
    }
}

fn header(number: u64, store: StoreId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    bytes.put_slice(MAGIC);
    bytes.put_u64(number);
    bytes.put_slice(&store);
    bytes.put_u32(crc32c::crc32c(&bytes));
    bytes
}

/// The number and the store that a header names; `None` when it is not whole.
fn read_header(file: &dyn DiskFile, size: u64) -> io::Result<Option<(u64, StoreId)>> {
    if size < HEADER_BYTES {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    file.read_at(0, &mut bytes)?;
    let number = bytes[8..16]
        .first_chunk()
        .map_or(0, |n| u64::from_be_bytes(*n));
    let mut store = [0; 16];
    store.copy_from_slice(&bytes[16..32]);
    Ok((bytes[..] == header(number, store)[..]).then_some((number, store)))
}

/// The number of the pack with this file name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".pack")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// What appends to packs. There is one.
#[derive(Debug)]
pub(crate) struct PackWriter {
    packs: Arc<Packs>,
    /// Where a pack is full, in bytes.
    pack_bytes: u64,
    open: Option<Open>,
}

/// The pack that is appended to.
#[derive(Debug)]
struct Open {
    number: u64,
    file: Arc<dyn DiskFile>,
    /// What was written.
    size: u64,
    /// What is to be written behind it.
    buffer: Vec<u8>,
    /// Whether its name is not on disk yet.
    is_new: bool,
}

impl PackWriter {
    pub(crate) const fn new(packs: Arc<Packs>, pack_bytes: u64) -> Self {
        Self {
            packs,
            pack_bytes,
            open: None,
        }
    }

    /// Adds a leaf, and says where it will be.
    pub(crate) fn append(&mut self, bytes: &[u8], records: u32) -> Result<LeafRef, StoreError> {
        let appended = self.try_append(bytes, records);
        appended.map_err(|e| self.abandon(StoreError::io("write a pack", e)))
    }

    fn try_append(&mut self, bytes: &[u8], records: u32) -> io::Result<LeafRef> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.end() >= self.pack_bytes)
        {
            self.finish()?;
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let (number, file) = self.packs.make()?;
                none.insert(Open {
                    number,
                    file,
                    size: HEADER_BYTES,
                    buffer: Vec::new(),
                    is_new: true,
                })
            }
        };
        let leaf = LeafRef {
            pack: open.number,
            offset: open.end(),
            // Invariant: leaves are far smaller than 4 GiB.
            bytes: bytes.len() as u32,
            crc: crc32c::crc32c(bytes),
            records,
        };
        open.buffer.extend_from_slice(bytes);
        if open.buffer.len() >= WRITE_BYTES {
            open.write()?;
        }
        self.packs.grow(leaf.pack, leaf.end());
        Ok(leaf)
    }

    /// Brings all that was appended to the disk, and appends to another pack from here on.
    pub(crate) fn end_pack(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        self.open = None;
        Ok(())
    }

    /// Brings all that was appended to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        let finished = self.finish();
        finished.map_err(|e| self.abandon(StoreError::io("write a pack", e)))
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.write()?;
        open.file.sync()?;
        if open.is_new {
            self.packs.disk.sync_dir(&self.packs.dir)?;
            open.is_new = false;
        }
        Ok(())
    }

    /// Does not append to this pack any more: what it holds is uncertain. Nobody refers to that.
    fn abandon(&mut self, error: StoreError) -> StoreError {
        if let Some(open) = self.open.take()
            && open.is_new
        {
            // Nothing in it can be referred to, not even by a snapshot. What went wrong first says more than what this says.
            let _ = self.packs.remove(&[open.number]);
        }
        error
    }

    /// Where a pack is full, in bytes.
    pub(crate) const fn pack_bytes(&self) -> u64 {
        self.pack_bytes
    }

    /// The number of the pack that is appended to.
    pub(crate) fn current(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.number)
    }
}

impl Open {
    const fn end(&self) -> u64 {
        self.size + self.buffer.len() as u64
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.size, &self.buffer)?;
        self.size = self.end();
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    const STORE: StoreId = [7; 16];

    fn packs(dir: &Path, store: StoreId) -> Result<Arc<Packs>, StoreError> {
        Packs::open(Arc::new(RealDisk), dir, store).map(Arc::new)
    }

    fn leaf(byte: u8) -> Leaf {
        let mut writer = leaf::LeafWriter::default();
        writer.add(&[0x10, byte], &[byte; 100]);
        writer.finish().unwrap().1
    }

    #[test]
    fn leaves_come_back_and_damage_shows() {
        let dir = tempfile::tempdir().unwrap();
        let packs_of = packs(dir.path(), STORE).unwrap();
        let mut writer = PackWriter::new(Arc::clone(&packs_of), 250);
        let refs: Vec<_> = (0..4)
            .map(|n| writer.append(leaf(n).bytes(), 1).unwrap())
            .collect();
        writer.sync().unwrap();
        assert_eq!(
            refs.iter().map(|r| r.pack).collect::<Vec<_>>(),
            [1, 1, 2, 2]
        );
        let packs_of = packs(dir.path(), STORE).unwrap();
        for (n, leaf) in refs.iter().enumerate() {
            assert!(packs_of.holds(*leaf));
            let read = packs_of.read(&[0x10], *leaf).unwrap();
            assert_eq!(read.record(0).unwrap().1, [n as u8; 100]);
            let wrong = LeafRef {
                crc: leaf.crc ^ 1,
                ..*leaf
            };
            let read = packs_of.read(&[0x10], wrong);
            assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        }
        let beyond = LeafRef {
            offset: refs[3].offset + 1,
            ..refs[3]
        };
        assert!(!packs_of.holds(beyond));
        assert!(matches!(
            packs_of.read(&[0x10], beyond),
            Err(StoreError::Corrupt(_))
        ));
        packs_of.remove(&[1]).unwrap();
        assert!(!packs_of.holds(refs[0]) && packs_of.holds(refs[2]));
        assert_eq!(packs(dir.path(), STORE).unwrap().used().len(), 1);
    }

    #[test]
    fn a_number_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let packs_of = packs(dir.path(), STORE).unwrap();
        for number in 1..=3 {
            let mut writer = PackWriter::new(Arc::clone(&packs_of), 250);
            let place = writer.append(leaf(0).bytes(), 1).unwrap();
            assert_eq!(place.pack, number);
            packs_of.remove(&[number]).unwrap();
        }
    }

    #[test]
    fn a_pack_of_another_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::new(packs(dir.path(), STORE).unwrap(), 150);
        writer.append(leaf(0).bytes(), 1).unwrap();
        writer.sync().unwrap();
        let other = packs(dir.path(), [8; 16]);
        assert!(matches!(other, Err(StoreError::Corrupt(_))), "{other:?}");
    }

    #[test]
    fn a_pack_that_never_got_its_header_goes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("0000000000000003.pack", 10), ("notes.txt", 100)] {
            let file = RealDisk.create(&dir.path().join(name)).unwrap();
            file.write_at(0, &vec![0; bytes]).unwrap();
        }
        assert!(packs(dir.path(), STORE).unwrap().used().is_empty());
        // What somebody else has put there stays.
        assert_eq!(RealDisk.names(dir.path()).unwrap(), ["notes.txt"]);
    }

    #[test]
    fn layout_1_of_a_header_is_as_it_was() {
        let hex: String = header(258, STORE)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let body = "6d61737061636b01".to_owned() + "0000000000000102" + &"07".repeat(16);
        assert_eq!(hex.len(), 72);
        assert!(hex.starts_with(&body), "{hex}");
    }
}

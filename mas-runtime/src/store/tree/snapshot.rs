//! The index in one file: with the log behind it, all that is needed to make the index anew.
//!
//! **Layout**, with big-endian numbers:
//!
//! | part | bytes | encoding |
//! |---|---|---|
//! | header | 36 | `massnap` and the layout's version, 1; the id of the store, 16; the commit that it reflects u64; CRC32C u32 of these |
//! | block | 8 and more | bytes u32, CRC32C u32 of the entries, entries |
//! | entry | 30 and more | key length u16, the first key, the [reference](LeafRef) of its leaf |
//! | end | 16 | 0 u32, CRC32C u32 of the count, how many entries there are u64 |
//!
//! It is written beside the one before and takes its name when all of it is on disk.

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut};

use super::pack::StoreId;
use super::refs::{LEAF_REF_BYTES, LeafIndex, LeafRef, RefVisitor};
use crate::store::disk::{self, Disk, DiskFile};
use crate::store::{Corrupt, StoreError};

const MAGIC: &[u8; 8] = b"massnap\x01";
const HEADER_BYTES: usize = 36;
const BLOCK_HEADER_BYTES: usize = 8;

/// Entries of a block, in bytes, before it is written.
const BLOCK_BYTES: usize = 64 * 1024;
/// Most that a block can claim: a full one and one entry with the longest key.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 2 + u16::MAX as usize + LEAF_REF_BYTES;

/// Writes the index as it is to `path`, in place of an earlier snapshot. Nobody may change the index meanwhile. Gives the
/// snapshot's size in bytes.
pub(crate) fn write(
    disk: &dyn Disk,
    path: &Path,
    store: StoreId,
    index: &dyn LeafIndex,
) -> Result<u64, StoreError> {
    let failed = |e| StoreError::io("write a snapshot", e);
    let beside = path.with_extension("new");
    disk::remove_if_there(disk, &beside).map_err(failed)?;
    let file = disk.create(&beside).map_err(failed)?;
    let mut writer = Writer {
        file: &*file,
        size: 0,
        block: Vec::new(),
        count: 0,
    };
    writer
        .put(&header(store, index.position()))
        .map_err(failed)?;
    index.walk(&mut |first, leaf| writer.add(first, leaf).map_err(failed))?;
    writer.finish().map_err(failed)?;
    let size = writer.size;
    let put_in_place = || {
        file.sync()?;
        disk.rename(&beside, path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    put_in_place().map_err(failed)?;
    Ok(size)
}

struct Writer<'f> {
    file: &'f dyn DiskFile,
    size: u64,
    block: Vec<u8>,
    count: u64,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.size, bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn add(&mut self, first: &[u8], leaf: LeafRef) -> io::Result<()> {
        // Invariant: keys are far shorter than 64 KiB.
        self.block.put_u16(first.len() as u16);
        self.block.put_slice(first);
        self.block.put_slice(&leaf.encode());
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.put_block()?;
        }
        Ok(())
    }

    fn put_block(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.block);
        let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + entries.len());
        block.put_u32(entries.len() as u32);
        block.put_u32(crc32c::crc32c(&entries));
        block.put_slice(&entries);
        self.put(&block)
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.put_block()?;
        }
        let count = self.count.to_be_bytes();
        let mut end = Vec::with_capacity(16);
        end.put_u32(0);
        end.put_u32(crc32c::crc32c(&count));
        end.put_slice(&count);
        self.put(&end)
    }
}

fn header(store: StoreId, position: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_slice(&store);
    bytes.put_u64(position);
    bytes.put_u32(crc32c::crc32c(&bytes));
    bytes
}

/// Reads a snapshot to its end, shows its entries in order, and gives the commit that it reflects: `None` when there is no
/// snapshot. What was shown before an error must not be used.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    store: StoreId,
    visit: &mut RefVisitor<'_>,
) -> Result<Option<u64>, StoreError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("open the snapshot", e)),
    };
    let size = file
        .size()
        .map_err(|e| StoreError::io("read the snapshot", e))?;
    let mut reader = Reader::new(&*file, 0, size);
    let position = reader.header(store)?;
    let mut count = 0;
    while let Some(block) = reader.block()? {
        let mut entries = &block[..];
        while !entries.is_empty() {
            let (first, leaf, rest) =
                entry(entries).ok_or_else(|| damaged("an entry is not whole"))?;
            visit(first, leaf)?;
            count += 1;
            entries = rest;
        }
    }
    reader.end(count)?;
    Ok(Some(position))
}

/// The first entry of a block, and what follows it.
pub(super) fn entry(bytes: &[u8]) -> Option<(&[u8], LeafRef, &[u8])> {
    let (key_bytes, rest) = bytes.split_first_chunk()?;
    let (first, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*key_bytes)))?;
    let (leaf, rest) = rest.split_at_checked(LEAF_REF_BYTES)?;
    Some((first, LeafRef::decode(leaf)?, rest))
}

pub(super) fn damaged(reason: &str) -> StoreError {
    Corrupt::new("snapshot", reason).into()
}

/// What reads a snapshot front to back.
pub(super) struct Reader<'f> {
    file: &'f dyn DiskFile,
    at: u64,
    size: u64,
}

impl<'f> Reader<'f> {
    /// A reader of a file of `size` bytes, from `at` on.
    pub(super) const fn new(file: &'f dyn DiskFile, at: u64, size: u64) -> Self {
        Self { file, at, size }
    }

    /// Where it goes on.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, StoreError> {
        if bytes as u64 > self.size - self.at {
            return Err(damaged("it ends early"));
        }
        let mut buffer = vec![0; bytes];
        let read = self.file.read_at(self.at, &mut buffer);
        read.map_err(|e| StoreError::io("read the snapshot", e))?;
        self.at += bytes as u64;
        Ok(buffer)
    }

    /// The commit that the snapshot reflects.
    pub(super) fn header(&mut self, store: StoreId) -> Result<u64, StoreError> {
        let bytes = self.take(HEADER_BYTES)?;
        let position = bytes[24..32]
            .first_chunk()
            .map_or(0, |p| u64::from_be_bytes(*p));
        if bytes == header(store, position) {
            return Ok(position);
        }
        let mut its = [0; 16];
        its.copy_from_slice(&bytes[8..24]);
        Err(damaged(if bytes == header(its, position) {
            "it is one of another store"
        } else {
            "its header does not match its checksum"
        }))
    }

    /// The entries of the next block; `None` at the end.
    pub(super) fn block(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let header = self.take(BLOCK_HEADER_BYTES)?;
        let mut header = &header[..];
        let (bytes, crc) = (header.get_u32() as usize, header.get_u32());
        let (what, is_end) = if bytes == 0 {
            (8, true)
        } else {
            (bytes, false)
        };
        if what > BLOCK_BYTES_MAX {
            return Err(damaged("a block claims to be too large"));
        }
        let content = self.take(what)?;
        if crc32c::crc32c(&content) != crc {
            return Err(damaged("a block does not match its checksum"));
        }
        if is_end {
            // Read again by `end`.
            self.at -= 8;
        }
        Ok((!is_end).then_some(content))
    }

    /// Checks the end of the file, behind so many entries.
    pub(super) fn end(&mut self, count: u64) -> Result<(), StoreError> {
        if self.take(8)? != count.to_be_bytes() {
            return Err(damaged("it has not the entries that were written"));
        }
        if self.at != self.size {
            return Err(damaged("bytes follow its end"));
        }
        Ok(())
    }
}

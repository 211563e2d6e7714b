//! What a file holds: as it is read, and as the disk has it.

use std::iter;

use super::fate::PowerCut;

/// What a disk writes all or none of, from multiples of it on.
pub(super) const SECTOR_BYTES: usize = 512;

/// The bytes of a file, as they are read and as the disk has them.
#[derive(Clone, Default)]
pub(super) struct Contents {
    /// What reads see.
    seen: Vec<u8>,
    /// What outlives a power cut for certain.
    durable: Vec<u8>,
    /// What became of `durable` since the last sync, oldest first.
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetSize(usize),
}

impl Contents {
    /// `bytes`, all of them durable.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            seen: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.seen, offset, bytes);
        self.unsynced.push(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_size(&mut self, size: usize) {
        self.seen.resize(size, 0);
        self.unsynced.push(Change::SetSize(size));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { offset, bytes } => put(&mut self.durable, offset, &bytes),
                Change::SetSize(size) => self.durable.resize(size, 0),
            }
        }
    }

    /// What a sync that failed leaves: the system takes what it could not write for written.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Flips bits of one byte, wherever it stands.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        for bytes in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        }
        for change in &mut self.unsynced {
            if let Change::Write {
                offset: from,
                bytes,
            } = change
                && let Some(index) = offset.checked_sub(*from)
                && let Some(byte) = bytes.get_mut(index)
            {
                *byte ^= mask;
            }
        }
    }

    /// What reads see.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// What is there after a power cut.
    pub(super) fn after(&self, cut: &PowerCut) -> Self {
        let fate = cut.fate(self.unsynced.len());
        let mut left = self.durable.clone();
        for (index, change) in self.unsynced.iter().enumerate() {
            match change {
                Change::Write { offset, bytes } => {
                    for (at, part) in sectors(*offset, bytes) {
                        if fate.keeps(index) {
                            put(&mut left, at, part);
                        }
                    }
                    // The size is written apart from the bytes: it can be kept where they are lost.
                    if fate.keeps(index) {
                        extend(&mut left, offset + bytes.len());
                    }
                }
                Change::SetSize(size) => {
                    if fate.keeps(index) {
                        left.resize(*size, 0);
                    }
                }
            }
        }
        Self::durable(left)
    }
}

/// The parts of a write that lie in different sectors of the file, each with its offset.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (mut offset, mut bytes) = (offset, bytes);
    iter::from_fn(move || {
        let room = SECTOR_BYTES - offset % SECTOR_BYTES;
        let (part, rest) = bytes.split_at(room.min(bytes.len()));
        let at = offset;
        (offset, bytes) = (offset + part.len(), rest);
        (!part.is_empty()).then_some((at, part))
    })
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    extend(image, end);
    image[offset..end].copy_from_slice(bytes);
}

/// Extends by zeros what is shorter than `size`.
fn extend(image: &mut Vec<u8>, size: usize) {
    if image.len() < size {
        image.resize(size, 0);
    }
}

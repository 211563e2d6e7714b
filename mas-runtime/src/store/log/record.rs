//! The bytes of one record.
//!
//! **Layout**, all numbers little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | check of the header: CRC32C of bytes 4 to 32, begun from the segment's seed |
//! | 4 | 4 | check of the body: its CRC32C |
//! | 8 | 4 | bytes of the body |
//! | 12 | 1 | kind: 1 batch, 2 mark |
//! | 13 | 3 | zero |
//! | 16 | 8 | position |
//! | 24 | 8 | synced: the highest position known to be on disk when the record was written |
//! | 32 | | body, then zeros up to a multiple of 8, which nobody reads |
//!
//! The seed is the CRC32C of the segment's number and the store's id, so a record of another segment never passes, nor one
//! that somebody placed in a body without knowing the store. The header has a check of its own so that its length can be
//! trusted before the body is read, and so that looking for what stands behind a bad record takes one look at each offset,
//! whatever lengths the bytes there claim.

use crc32c::{crc32c, crc32c_append};

/// Bytes of a record before its body.
pub(super) const HEADER_BYTES: usize = 32;

/// Every record begins at a multiple of it.
pub(super) const ALIGN: usize = 8;

const BATCH: u8 = 1;
const MARK: u8 = 2;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Batch,
    Mark,
}

/// A header whose check agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) position: u64,
    pub(super) synced: u64,
    pub(super) body_bytes: usize,
    body_check: u32,
}

impl Header {
    /// Reads a header; `None` when these bytes are none, or one of another segment.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        // What is looked at first settles nearly every offset that no record begins at.
        let kind = match bytes[12..16] {
            [BATCH, 0, 0, 0] => Kind::Batch,
            [MARK, 0, 0, 0] => Kind::Mark,
            _ => return None,
        };
        if crc32c_append(seed, &bytes[4..]) != u32_at(bytes, 0) {
            return None;
        }
        let header = Self {
            kind,
            position: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            body_bytes: u32_at(bytes, 8) as usize,
            body_check: u32_at(bytes, 4),
        };
        let is_meant = match kind {
            Kind::Batch => header.synced < header.position && header.position < u64::MAX,
            Kind::Mark => header.synced == header.position && header.body_bytes == 0,
        };
        is_meant.then_some(header)
    }

    /// Bytes that the record takes, with what fills it up.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.body_bytes)
    }

    pub(super) fn agrees_with(&self, body: &[u8]) -> bool {
        crc32c(body) == self.body_check
    }
}

/// Bytes that a record with such a body takes.
pub(super) const fn record_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGN)
}

/// Appends a batch that is not sealed yet.
///
/// Invariant: the body is within the limit of [`Log::append`](super::Log::append), far below 4 GiB.
pub(super) fn append(buffer: &mut Vec<u8>, position: u64, body: &[u8]) {
    buffer.reserve(record_bytes(body.len()));
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&crc32c(body).to_le_bytes());
    buffer.extend_from_slice(&(body.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&[BATCH, 0, 0, 0]);
    buffer.extend_from_slice(&position.to_le_bytes());
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(body);
    buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
}

/// Makes records that were appended one behind the other fit to be written to a segment.
pub(super) fn seal(mut records: &mut [u8], seed: u32, synced: u64) {
    while records.len() >= HEADER_BYTES {
        records[24..32].copy_from_slice(&synced.to_le_bytes());
        let check = crc32c_append(seed, &records[4..HEADER_BYTES]);
        records[..4].copy_from_slice(&check.to_le_bytes());
        let bytes = record_bytes(u32_at(records, 8) as usize);
        records = records.get_mut(bytes..).unwrap_or_default();
    }
}

/// The mark that says: everything up to `position` is on disk.
pub(super) fn mark(position: u64, seed: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[12] = MARK;
    bytes[16..24].copy_from_slice(&position.to_le_bytes());
    seal(&mut bytes, seed, position);
    bytes
}

/// Invariant: there are 4 bytes at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// Invariant: there are 8 bytes at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

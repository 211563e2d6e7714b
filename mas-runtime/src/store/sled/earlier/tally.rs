//! A count and a sum over all entries of the first engine's tree.

use bytes::Buf;

use crate::store::sled::digest::hash;

/// What the tree knows about itself.
///
/// **Layout** at rest: version u8 (1), entries u64, sum u64, chunks u64, all big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Entries, large values counted once.
    pub(super) entries: u64,
    /// The sum of their hashes.
    pub(super) sum: u64,
    /// Numbers given to large values so far.
    pub(super) chunked: u64,
}

impl Tally {
    const VERSION: u8 = 1;

    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    /// The tally with these bytes; `None` for what the engine did not write.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 25 || bytes.get_u8() != Self::VERSION {
            return None;
        }
        Some(Self {
            entries: bytes.get_u64(),
            sum: bytes.get_u64(),
            chunked: bytes.get_u64(),
        })
    }
}

//! Where leaves are: the reference to one, and the index of all.

use std::fmt;

use bytes::{Buf, BufMut};

use crate::store::StoreError;
use crate::store::keys::Key;

/// Where a leaf is, and how to know it again.
///
/// **Layout**: pack u64, offset u64, bytes u32, CRC32C u32, records u32, all big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafRef {
    /// The number of its pack.
    pub(crate) pack: u64,
    /// Where it begins in the pack.
    pub(crate) offset: u64,
    /// Its size.
    pub(crate) bytes: u32,
    /// The CRC32C of its bytes.
    pub(crate) crc: u32,
    /// Its records.
    pub(crate) records: u32,
}

/// Size of an encoded [`LeafRef`].
pub(crate) const LEAF_REF_BYTES: usize = 28;

impl LeafRef {
    pub(crate) fn encode(self) -> [u8; LEAF_REF_BYTES] {
        let mut bytes = [0; LEAF_REF_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_u64(self.pack);
        rest.put_u64(self.offset);
        rest.put_u32(self.bytes);
        rest.put_u32(self.crc);
        rest.put_u32(self.records);
        bytes
    }

    /// The reference with these bytes; `None` when they are too few or too many.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LEAF_REF_BYTES {
            return None;
        }
        Some(Self {
            pack: bytes.get_u64(),
            offset: bytes.get_u64(),
            bytes: bytes.get_u32(),
            crc: bytes.get_u32(),
            records: bytes.get_u32(),
        })
    }

    /// Where it ends in its pack.
    pub(crate) const fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes as u64)
    }
}

/// A leaf by the first key that it holds. Its range ends where the next one begins.
pub(crate) type LeafEntry = (Key, LeafRef);

/// Changes to the index: the new reference of a first key, or `None` where it goes.
pub(crate) type RefChanges = [(Key, Option<LeafRef>)];

/// What a walk over the index shows an entry to.
pub(crate) type RefVisitor<'v> = dyn FnMut(&[u8], LeafRef) -> Result<(), StoreError> + 'v;

/// The ordered map from first keys to leaves. It can be made anew from a snapshot and the log, so it may lose the latest
/// batches of changes in a crash, or all of them; what it must not do is lose some and not say so.
pub(crate) trait LeafIndex: fmt::Debug + Send + Sync + 'static {
    /// The commit that it reflects: 0 when it is empty.
    fn position(&self) -> u64;

    /// The leaf with the greatest first key that is not above `key`.
    fn floor(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError>;

    /// The leaf with the least first key above `key`.
    fn above(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError>;

    /// Shows all leaves in order.
    fn walk(&self, visit: &mut RefVisitor<'_>) -> Result<(), StoreError>;

    /// Makes all the changes, or none, and reflects the commit `position` from here on. After an error nothing can be said
    /// of the index: it is to be opened again.
    fn apply(&self, changes: &RefChanges, position: u64) -> Result<(), StoreError>;

    /// Lets go of everything. Later calls give [`StoreError::Closed`].
    fn close(&self) -> Result<(), StoreError>;
}

/// Where an index is kept.
pub(crate) trait IndexHome: fmt::Debug + Send + Sync + 'static {
    /// Opens the index that is there, or a new one, and checks all of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system refuses; everything else means that what is there can't be trusted.
    fn open(&self) -> Result<std::sync::Arc<dyn LeafIndex>, StoreError>;

    /// Moves what can't be trusted out of the way, and says where to: the next [`open`](Self::open) finds nothing.
    fn set_aside(&self) -> Result<String, StoreError>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layout_1_of_a_reference_is_as_it_was() {
        let leaf = LeafRef {
            pack: 1,
            offset: 0x0203,
            bytes: 4,
            crc: 0x0506_0708,
            records: 9,
        };
        let hex: String = leaf.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "00000000000000010000000000000203000000040506070800000009"
        );
    }

    proptest! {
        #[test]
        fn references_come_back(pack: u64, offset: u64, bytes: u32, crc: u32, records: u32) {
            let leaf = LeafRef { pack, offset, bytes, crc, records };
            prop_assert_eq!(LeafRef::decode(&leaf.encode()), Some(leaf));
            prop_assert_eq!(LeafRef::decode(&leaf.encode()[1..]), None);
        }
    }
}

//! Leaves: runs of records in the order of their keys, written once.
//!
//! **Layout**: the records one after the other, then where each begins, then how many there are. Numbers are big-endian.
//!
//! | part | bytes | encoding |
//! |---|---|---|
//! | record | 6 and more | key length u16, value length u32, key, value |
//! | offsets | 4 a record | u32, from the start of the leaf |
//! | count | 4 | u32 |

use bytes::{BufMut, Bytes};

use crate::store::error::Corrupt;
use crate::store::keys::{self, Key};

/// Bytes in front of a record's key.
const RECORD_HEADER_BYTES: usize = 6;

/// What a record takes in a leaf, in bytes.
pub(crate) const fn record_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + key_bytes + value_bytes + 4
}

/// A leaf in memory. Invariant: every record and offset lies within it, keys ascend.
#[derive(Clone)]
pub(crate) struct Leaf {
    bytes: Bytes,
    count: usize,
}

impl Leaf {
    /// Reads a leaf, and checks all of it.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Corrupt> {
        let damaged = |reason: &str| Corrupt::new("leaf", reason);
        let count = last_u32(&bytes).ok_or_else(|| damaged("it has no count"))? as usize;
        let tail = count.checked_mul(4).and_then(|table| table.checked_add(4));
        let records = tail.and_then(|tail| bytes.len().checked_sub(tail));
        let records = records.ok_or_else(|| damaged("it is shorter than its count says"))?;
        let leaf = Self { bytes, count };
        let mut at = 0;
        let mut before: Option<&[u8]> = None;
        for index in 0..count {
            if leaf.offset(index) != Some(at) {
                return Err(damaged("its records are not where it says"));
            }
            let (key, value) = leaf
                .parts(at)
                .ok_or_else(|| damaged("a record runs over its end"))?;
            if before.is_some_and(|before| before >= key) {
                return Err(damaged("its keys do not ascend"));
            }
            before = Some(key);
            at += RECORD_HEADER_BYTES + key.len() + value.len();
        }
        if at != records || count == 0 {
            return Err(damaged("its records do not fill it"));
        }
        Ok(leaf)
    }

    /// How many records it has: at least one.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Its size, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The key and the value of a record.
    pub(crate) fn record(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.parts(self.offset(index)?)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        let index = self.seek(key);
        let (found, value) = self.record(index)?;
        (found == key).then(|| self.share(value))
    }

    /// The index of the first record whose key is `key` or above.
    pub(crate) fn seek(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle) {
                Some((found, _)) if found < key => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// A value of this leaf. What is small is copied, so that it does not hold the whole leaf in memory.
    pub(crate) fn share(&self, value: &[u8]) -> Bytes {
        if value.len() < self.bytes.len() / 2 {
            Bytes::copy_from_slice(value)
        } else {
            self.bytes.slice_ref(value)
        }
    }

    fn offset(&self, index: usize) -> Option<usize> {
        let table = self.bytes.len() - 4 * (self.count + 1);
        let at = table + 4 * index;
        let offset = self.bytes.get(at..at + 4)?.first_chunk()?;
        (index < self.count).then(|| u32::from_be_bytes(*offset) as usize)
    }

    fn parts(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let rest = self.bytes.get(at..)?;
        let (key_bytes, rest) = rest.split_first_chunk()?;
        let (value_bytes, rest) = rest.split_first_chunk()?;
        let key_bytes = usize::from(u16::from_be_bytes(*key_bytes));
        let (key, rest) = rest.split_at_checked(key_bytes)?;
        let value = rest.get(..u32::from_be_bytes(*value_bytes) as usize)?;
        Some((key, value))
    }
}

fn last_u32(bytes: &[u8]) -> Option<u32> {
    bytes.last_chunk().map(|last| u32::from_be_bytes(*last))
}

/// Shows the size: what is stored stays out of logs.
impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (records, bytes) = (self.count, self.bytes.len());
        write!(f, "Leaf({records} records, {bytes} bytes)")
    }
}

/// A leaf that is being written.
#[derive(Default)]
pub(crate) struct LeafWriter {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    first: Option<Key>,
}

impl LeafWriter {
    /// Adds a record, whose key is above all others.
    ///
    /// Invariant: keys have less than 64 KiB and leaves less than 4 GiB, far beyond the limits of a batch.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.offsets.push(self.bytes.len() as u32);
        self.bytes.put_u16(key.len() as u16);
        self.bytes.put_u32(value.len() as u32);
        self.bytes.put_slice(key);
        self.bytes.put_slice(value);
        if self.first.is_none() {
            self.first = Some(key.to_vec());
        }
    }

    /// What it will take, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + 4 * (self.offsets.len() + 1)
    }

    /// The leaf and its first key; `None` for one without records. The writer is empty after it.
    pub(crate) fn finish(&mut self) -> Option<(Key, Leaf)> {
        let first = self.first.take()?;
        let mut bytes = std::mem::take(&mut self.bytes);
        for offset in &self.offsets {
            bytes.put_u32(*offset);
        }
        let count = self.offsets.len();
        bytes.put_u32(count as u32);
        self.offsets.clear();
        let bytes = Bytes::from(bytes);
        Some((first, Leaf { bytes, count }))
    }
}

impl Leaf {
    /// The bytes that a pack holds of it.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Damage in the leaf that begins with this key.
pub(crate) fn damaged(first: &[u8], reason: impl Into<String>) -> Corrupt {
    Corrupt::new(format!("leaf from {}", keys::describe(first)), reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn written(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Leaf {
        let mut writer = LeafWriter::default();
        records
            .iter()
            .for_each(|(key, value)| writer.add(key, value));
        let size = writer.size();
        let (first, leaf) = writer.finish().unwrap();
        assert_eq!(Some(&first), records.keys().next());
        assert_eq!(leaf.size(), size);
        leaf
    }

    #[test]
    fn layout_1_of_a_leaf_is_as_it_was() {
        let records = [(vec![1, 2], vec![3; 3]), (vec![4], vec![])];
        let leaf = written(&records.into_iter().collect());
        let hex: String = leaf.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let records = "0002000000030102030303000100000000".to_owned() + "04";
        assert_eq!(hex, records + "00000000" + "0000000b" + "00000002");
    }

    #[test]
    fn an_empty_one_is_none() {
        assert!(LeafWriter::default().finish().is_none());
        assert!(Leaf::decode(Bytes::from_static(&[0; 4])).is_err());
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..40), 1..30), other in prop::collection::vec(any::<u8>(), 0..6)) {
            let leaf = Leaf::decode(written(&records).bytes().clone()).unwrap();
            prop_assert_eq!(leaf.len(), records.len());
            for (index, (key, value)) in records.iter().enumerate() {
                prop_assert_eq!(leaf.record(index), Some((&key[..], &value[..])));
                prop_assert_eq!(leaf.get(key), Some(Bytes::copy_from_slice(value)));
            }
            prop_assert_eq!(leaf.record(records.len()), None);
            prop_assert_eq!(leaf.get(&other).map(|v| v.to_vec()), records.get(&other).cloned());
            prop_assert_eq!(leaf.seek(&other), records.range(..other.clone()).count());
        }

        #[test]
        fn what_is_cut_or_changed_never_panics(records in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..4), prop::collection::vec(any::<u8>(), 0..9), 1..9), at in any::<prop::sample::Index>(), with in 1u8..) {
            let bytes = written(&records).bytes().to_vec();
            let at = at.index(bytes.len());
            prop_assert!(Leaf::decode(bytes[..at].to_vec().into()).is_err());
            let mut changed = bytes;
            changed[at] ^= with;
            if let Ok(leaf) = Leaf::decode(changed.into()) {
                for index in 0..leaf.len() {
                    let _ = leaf.record(index).map(|(key, _)| leaf.get(key));
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = Leaf::decode(bytes.into());
        }
    }
}

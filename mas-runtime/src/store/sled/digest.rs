//! A count and a sum over all entries of the index, kept with every change and checked at every opening.
//!
//! sled checks each piece of its files, but after damage in the middle it may go on without that piece: entries vanish and
//! nothing says so. The sum says so. It guards against accidents, not against people.

use bytes::{Buf, BufMut};

/// A hash of one entry: any change within 8 bytes changes it, any other change with odds of 2^64 to 1.
pub(super) fn hash(key: &[u8], value: &[u8]) -> u64 {
    // One after the other: a step treats its two arguments alike, and a key must not pass for a value.
    let start = step(step(SEED, key.len() as u64), value.len() as u64);
    absorb(absorb(start, key), value)
}

/// Where every hash begins: the first digits of pi in 64 bits.
const SEED: u64 = 0x243f_6a88_85a3_08d3;

fn absorb(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = step(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(hash, u64::from_le_bytes(last))
}

/// One to one in each argument while the other is fixed.
const fn step(hash: u64, word: u64) -> u64 {
    // An odd number: the golden ratio in 64 bits.
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// What the index knows about itself.
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

    pub(super) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        bytes.put_u8(Self::VERSION);
        bytes.put_u64(self.entries);
        bytes.put_u64(self.sum);
        bytes.put_u64(self.chunked);
        bytes
    }

    /// The tally with these bytes; `None` for what [`encode`](Self::encode) did not write.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zero_byte_in_the_key_is_none_in_the_value() {
        assert_ne!(hash(&[0], b""), hash(b"", &[0]));
    }

    #[test]
    fn layout_1_of_the_sum_is_as_it_was() {
        let mut tally = Tally::default();
        tally.add(b"key", b"a value of more than 8 bytes");
        tally.chunked = 258;
        let hex: String = tally.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "010000000000000001e6d55f264ebec38d0000000000000102");
    }

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(mut entries in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..20)) {
            let mut one = Tally::default();
            entries.iter().for_each(|(key, value)| one.add(key, value));
            entries.reverse();
            let mut two = Tally::default();
            two.add(b"gone", b"x");
            entries.iter().for_each(|(key, value)| two.add(key, value));
            two.subtract(b"gone", b"x");
            prop_assert_eq!(one, two);
            prop_assert_eq!(Tally::decode(&one.encode()), Some(one));
        }

        #[test]
        fn a_flipped_byte_changes_the_hash(key in any::<Vec<u8>>(), mut value in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), with in 1u8..) {
            let before = hash(&key, &value);
            let at = at.index(value.len());
            value[at] ^= with;
            prop_assert_ne!(hash(&key, &value), before);
        }

        #[test]
        fn bytes_do_not_wander_between_key_and_value(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            prop_assert_ne!(hash(&bytes, b""), hash(b"", &bytes));
            let padded = [&bytes[..], &[0]].concat();
            prop_assert_ne!(hash(b"", &padded), hash(b"", &bytes));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = Tally::decode(&bytes);
        }
    }
}

//! A hash of entries. Their sum shows whether some are missing. It guards against accidents, not against people.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zero_byte_in_the_key_is_none_in_the_value() {
        assert_ne!(hash(&[0], b""), hash(b"", &[0]));
    }

    #[test]
    fn the_hash_is_as_it_was() {
        assert_eq!(
            hash(b"key", b"a value of more than 8 bytes"),
            0xe6d5_5f26_4ebe_c38d
        );
    }

    proptest! {
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
    }
}

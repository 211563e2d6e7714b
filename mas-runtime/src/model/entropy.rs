//! Chance, handed in: one seeded stream from which ids and jitter are drawn.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The increment of SplitMix64 (Steele, Lea, Flood 2014): the odd number next to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded stream of random numbers that many tasks may draw from. Two streams of one seed give the same numbers.
///
/// It makes ids and jitter. It is no source of keys: cryptography draws from the operating system.
pub struct Entropy {
    state: AtomicU64,
}

impl Entropy {
    /// The stream of `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// A stream that differs on every call and in every process.
    pub fn unpredictable() -> Self {
        // The standard library seeds its hash maps from the operating system; that seed is all that is needed here.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u8(1);
        Self::seeded(hasher.finish())
    }

    /// The next 64 random bits.
    pub fn next_u64(&self) -> u64 {
        let state = self.state.fetch_add(GOLDEN, Ordering::Relaxed);
        mix(state.wrapping_add(GOLDEN))
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The high half of a 64 x 64 bit product spreads evenly enough for jitter (bias below 2^-32 for bounds below 2^32).
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

/// The output function of SplitMix64: every input bit changes about half of the output bits.
pub(crate) const fn mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_published_numbers() {
        // The first outputs of SplitMix64 for the seed 1234567, as its authors' C code prints them.
        let entropy = Entropy::seeded(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| entropy.next_u64()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let entropy = Entropy::seeded(7);
        assert_eq!(entropy.below(0), 0);
        assert!((0..1000).all(|_| entropy.below(10) < 10));
    }

    #[test]
    fn unpredictable_streams_differ() {
        assert_ne!(
            Entropy::unpredictable().next_u64(),
            Entropy::unpredictable().next_u64()
        );
    }
}

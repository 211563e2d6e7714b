//! Chance, handed in: one seeded stream from which ids and jitter are drawn. And chance that nobody can guess, straight from
//! the operating system, for keys and nonces.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The increment of SplitMix64 (Steele, Lea, Flood 2014): the odd number next to 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A seeded stream of random numbers that many tasks may draw from. Two streams of one seed give the same numbers.
///
/// It makes ids and jitter. It is no source of keys: those come from the operating system.
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

/// The operating system gave no random bytes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct EntropyError {
    #[source]
    source: getrandom::Error,
}

/// Fills `bytes` from the operating system's random source: for keys and nonces, never for what must come out the same again.
///
/// Every call asks the system, and nothing is kept between calls. A generator in this process would be faster (12 ns
/// instead of 250 for 24 bytes), but a fork or a snapshot of a virtual machine copies its state, and both copies then draw
/// the same nonces.
///
/// # Errors
/// [`EntropyError`] when the system refuses. `bytes` then hold nothing to rely on.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|source| EntropyError { source })
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
    fn random_bytes_fill_the_whole_buffer_and_differ() {
        let draws: Vec<[u8; 32]> = (0..64)
            .map(|_| {
                let mut bytes = [0; 32];
                fill_random(&mut bytes).unwrap();
                bytes
            })
            .collect();
        let mut distinct = draws.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 64);
        // A position that is 0 in all 64 draws was not filled; by chance that happens once in 2^507.
        assert!((0..32).all(|at| draws.iter().any(|bytes| bytes[at] != 0)));
    }

    #[test]
    fn unpredictable_streams_differ() {
        assert_ne!(
            Entropy::unpredictable().next_u64(),
            Entropy::unpredictable().next_u64()
        );
    }
}

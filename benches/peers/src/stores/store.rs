//! What a figure asks of a store, and what all stores are asked to keep.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;

/// Memory of the cache that each store is given, in bytes.
pub const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Records are spread over this many agents in turn: neighbours in time are not neighbours in the order of keys.
const AGENTS: u64 = 1000;

/// One change of a commit.
#[derive(Clone, Debug)]
pub enum Change {
    /// Stores a record in place of an earlier one.
    Put { key: Key, value: Bytes },
    /// Adds an entry to a queue; the store gives its number.
    Append { queue: u32, value: Bytes },
    /// Removes an entry from a queue.
    Remove { queue: u32, number: u64 },
}

/// Which record: whose, and which of his.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub agent: u32,
    pub number: u64,
}

impl Key {
    /// The key of the record that is loaded as number `index`.
    pub const fn nth(index: u64) -> Self {
        Self {
            agent: (index % AGENTS) as u32,
            number: index / AGENTS,
        }
    }
}

/// All agents that have records.
pub const fn agents() -> std::ops::Range<u32> {
    0..AGENTS as u32
}

/// A store under measurement. Commits are durable: on disk when they come back.
pub trait Store: Send + Sync + Sized + 'static {
    /// Whether many writers are tasks of tokio; threads otherwise, since a commit blocks.
    const WRITERS_ARE_TASKS: bool = false;

    /// Opens what is in `dir`, or makes it.
    fn open(dir: &Path) -> Self;

    /// Gives the numbers of what was appended, in order.
    fn commit(&self, changes: Vec<Change>) -> impl Future<Output = Vec<u64>> + Send;

    fn get(&self, key: Key) -> impl Future<Output = Option<Bytes>> + Send;

    /// Reads all records in the order of their keys, and gives how many there are.
    fn scan(&self) -> impl Future<Output = u64> + Send;
}

/// Bytes that do not compress, the same for the same `seed`.
pub fn value(seed: u64, len: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A generator of numbers (xorshift64*), seeded so that every store sees the same work.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

//! Group commit over a plain map of keys: the writers that wait are served by one of them, together.
//!
//! A writer that finds nobody at work leads: it takes all that waits as one group, makes it durable, and wakes its
//! followers. One wake-up more goes to a writer of the group that has gathered meanwhile, which leads next.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::store::{Change, Key, Store};

/// One write: a key, and its value or that it goes.
pub type Write = (Vec<u8>, Option<Bytes>);

/// A map of ordered keys with a durable write of many.
pub trait Map: Send + Sync + 'static {
    fn open(dir: &Path) -> Self;

    /// Applies all of it at once; it is on disk when this returns.
    fn apply(&self, writes: &[Write]);

    fn get(&self, key: &[u8]) -> Option<Bytes>;

    /// Counts the records from `from` on, below `to`, by reading them.
    fn scan(&self, from: &[u8], to: &[u8]) -> u64;
}

/// First bytes of keys: records, and entries of queues.
const RECORD: u8 = 1;
const ENTRY: u8 = 2;

/// A map whose writers commit in groups.
pub struct Grouped<M> {
    map: M,
    line: Mutex<Line>,
    /// Who waits for a group waits here, by whether the group's number is odd.
    turn: [Condvar; 2],
    numbers: AtomicU64,
}

/// Who waits.
#[derive(Default)]
struct Line {
    writes: Vec<Write>,
    /// The number of the group that gathers now.
    group: u64,
    /// How many groups are on disk.
    done: u64,
    /// Whether somebody leads.
    led: bool,
}

impl<M: Map> Grouped<M> {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut writes: Vec<Write>) {
        let mut line = self.line();
        line.writes.append(&mut writes);
        let own = line.group;
        let turn = |group: u64| &self.turn[(group % 2) as usize];
        while line.done <= own {
            if line.led {
                line = turn(own).wait(line).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            line.led = true;
            line.group += 1;
            let writes = std::mem::take(&mut line.writes);
            drop(line);
            self.map.apply(&writes);
            line = self.line();
            line.led = false;
            line.done = own + 1;
            turn(own).notify_all();
            turn(own + 1).notify_one();
        }
    }
}

impl<M: Map> Store for Grouped<M> {
    fn open(dir: &Path) -> Self {
        Self {
            map: M::open(dir),
            line: Mutex::default(),
            turn: [Condvar::new(), Condvar::new()],
            numbers: AtomicU64::new(1),
        }
    }

    async fn commit(&self, changes: Vec<Change>) -> Vec<u64> {
        let (writes, numbers) = writes(changes, &self.numbers);
        self.write(writes);
        numbers
    }

    async fn get(&self, key: Key) -> Option<Bytes> {
        self.map.get(&record_key(key))
    }

    async fn scan(&self) -> u64 {
        self.map.scan(&[RECORD], &[RECORD + 1])
    }
}

/// A map whose writers commit one after the other.
pub struct Alone<M> {
    map: M,
    turn: Mutex<()>,
    numbers: AtomicU64,
}

impl<M: Map> Store for Alone<M> {
    fn open(dir: &Path) -> Self {
        Self {
            map: M::open(dir),
            turn: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }

    async fn commit(&self, changes: Vec<Change>) -> Vec<u64> {
        let (writes, numbers) = writes(changes, &self.numbers);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.map.apply(&writes);
        numbers
    }

    async fn get(&self, key: Key) -> Option<Bytes> {
        self.map.get(&record_key(key))
    }

    async fn scan(&self) -> u64 {
        self.map.scan(&[RECORD], &[RECORD + 1])
    }
}

/// What the changes write, and the numbers of what they append.
fn writes(changes: Vec<Change>, numbers: &AtomicU64) -> (Vec<Write>, Vec<u64>) {
    let mut given = Vec::new();
    let write = |change| match change {
        Change::Put { key, value } => (record_key(key), Some(value)),
        Change::Append { queue, value } => {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            given.push(number);
            (key(ENTRY, queue, number), Some(value))
        }
        Change::Remove { queue, number } => (key(ENTRY, queue, number), None),
    };
    (changes.into_iter().map(write).collect(), given)
}

fn record_key(of: Key) -> Vec<u8> {
    key(RECORD, of.agent, of.number)
}

fn key(kind: u8, of: u32, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(kind);
    key.extend_from_slice(&of.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

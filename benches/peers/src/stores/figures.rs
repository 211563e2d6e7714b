//! What is measured: the parts of the figures, each for any store.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::process::{Ticks, disk_mib, memory_mib, tell, tell_ready};
use super::store::{Change, Key, Random, Store, value};

/// How long each cell of a table is measured.
const CELL: Duration = Duration::from_millis(2500);

/// How long it runs before that.
const WARM: Duration = Duration::from_millis(300);

/// Size of a queue's entry: an envelope with a small payload.
const ENTRY_BYTES: usize = 200;

/// Size of a record.
const RECORD_BYTES: usize = 100;

/// Records of the figures that read.
const RECORDS: u64 = 1_000_000;

/// Records of the figures that weigh: 137 MiB with their keys left out.
const WEIGHED: u64 = 1_436_000;

/// Records of a commit that loads.
const LOAD_BATCH: u64 = 4096;

/// How often all weighed records are written again.
const CHURN: u64 = 20;

/// How long churn may take: a slow store writes less, and the table says how much.
const CHURN_MAX: Duration = Duration::from_secs(120);

/// Entries that stand in the queue while others pass through.
const QUEUE_DEPTH: usize = 10_000;

/// Runs the part of a figure that is called `part`.
pub async fn run<S: Store>(part: &str, dir: &Path) {
    let numbered = part.split_once(' ').map(|(name, number)| {
        let number: usize = number.parse().expect("a number of writers");
        (name, number)
    });
    let ticks = Ticks::now();
    match (part, numbered) {
        (_, Some(("commit", writers))) => commits(Arc::new(S::open(dir)), writers, 1).await,
        (_, Some(("batch", writers))) => commits(Arc::new(S::open(dir)), writers, 64).await,
        ("records", _) => records(&S::open(dir)).await,
        ("crash", _) => crash(&S::open(dir)).await,
        ("open", _) => open::<S>(dir).await,
        ("disk", _) => disk(&S::open(dir), dir).await,
        ("queue", _) => queue(&S::open(dir), dir).await,
        _ => panic!("no part is called {part}"),
    }
    tell("peak memory", memory_mib(), "MiB");
    ticks.tell_others();
}

/// Durable commits of `count` entries each, by `writers` side by side.
async fn commits<S: Store>(store: Arc<S>, writers: usize, count: usize) {
    let start = Instant::now() + WARM;
    let end = start + CELL;
    let write = |writer: usize| {
        let store = Arc::clone(&store);
        async move { writer_loop(&*store, writer, count, start, end).await }
    };
    let mut taken: Vec<u32> = Vec::new();
    if S::WRITERS_ARE_TASKS {
        let tasks: Vec<_> = (0..writers)
            .map(|writer| tokio::spawn(write(writer)))
            .collect();
        for task in tasks {
            taken.append(&mut task.await.expect("it writes"));
        }
    } else {
        let runtime = Handle::current();
        let block = |future| {
            let runtime = runtime.clone();
            std::thread::spawn(move || runtime.block_on(future))
        };
        let threads: Vec<_> = (0..writers).map(|writer| block(write(writer))).collect();
        for thread in threads {
            taken.append(&mut thread.join().expect("it writes"));
        }
    }
    taken.sort_unstable();
    let at = |share: f64| f64::from(taken[((taken.len() - 1) as f64 * share) as usize]) / 1e3;
    let rate = taken.len() as f64 / CELL.as_secs_f64();
    if count == 1 {
        tell("commits", rate, "/s");
    } else {
        tell("records", rate * count as f64, "/s");
    }
    tell("p50", at(0.5), "ms");
    tell("p99", at(0.99), "ms");
}

/// Commits until `end`, and gives what each took after `start`, in microseconds.
async fn writer_loop<S: Store>(
    store: &S,
    writer: usize,
    count: usize,
    start: Instant,
    end: Instant,
) -> Vec<u32> {
    let mut taken = Vec::new();
    let payload = value(writer as u64, ENTRY_BYTES);
    let append = Change::Append {
        queue: writer as u32,
        value: payload,
    };
    loop {
        let changes = vec![append.clone(); count];
        let begun = Instant::now();
        if begun >= end {
            return taken;
        }
        store.commit(changes).await;
        if begun >= start {
            taken.push(begun.elapsed().as_micros() as u32);
        }
    }
}

/// Loads `count` records, in their `round`th version, until `end`; gives how many it loaded.
async fn load<S: Store>(store: &S, count: u64, round: u64, end: Option<Instant>) -> u64 {
    for first in (0..count).step_by(LOAD_BATCH as usize) {
        if end.is_some_and(|end| Instant::now() >= end) {
            return first;
        }
        let put = |index| Change::Put {
            key: Key::nth(index),
            value: value(index + round * count, RECORD_BYTES),
        };
        let last = count.min(first + LOAD_BATCH);
        store.commit((first..last).map(put).collect()).await;
    }
    count
}

/// Loading, and reading at random and in order.
async fn records<S: Store>(store: &S) {
    let start = Instant::now();
    load(store, RECORDS, 0, None).await;
    tell(
        "load, 4096 a commit",
        RECORDS as f64 / start.elapsed().as_secs_f64(),
        "/s",
    );
    tell("peak memory, loaded", memory_mib(), "MiB");

    let mut random = Random::new(7);
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < CELL {
        for _ in 0..64 {
            let found = store.get(Key::nth(random.next() % RECORDS)).await;
            assert_eq!(found.map(|value| value.len()), Some(RECORD_BYTES));
        }
        count += 64;
    }
    tell(
        "get at random",
        count as f64 / start.elapsed().as_secs_f64(),
        "/s",
    );

    let (start, mut count) = (Instant::now(), 0);
    while count == 0 || start.elapsed() < CELL {
        let found = store.scan().await;
        assert_eq!(found, RECORDS);
        count += found;
    }
    tell("scan", count as f64 / start.elapsed().as_secs_f64(), "/s");
}

/// Loads, then writes until it is killed.
async fn crash<S: Store>(store: &S) {
    load(store, RECORDS, 0, None).await;
    tell_ready();
    loop {
        let change = Change::Append {
            queue: 0,
            value: value(0, ENTRY_BYTES),
        };
        store.commit(vec![change]).await;
    }
}

/// Opens what a killed process left, until the first record is read.
async fn open<S: Store>(dir: &Path) {
    let start = Instant::now();
    let store = S::open(dir);
    assert!(store.get(Key::nth(RECORDS - 1)).await.is_some());
    tell(
        "open after a kill",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    assert_eq!(store.scan().await, RECORDS);
}

/// Time in which a store may tidy up before it is weighed.
const SETTLE: Duration = Duration::from_secs(2);

/// What records weigh on the disk, at first and when they were written again and again.
async fn disk<S: Store>(store: &S, dir: &Path) {
    load(store, WEIGHED, 0, None).await;
    tokio::time::sleep(SETTLE).await;
    tell("disk for 137 MiB", disk_mib(dir), "MiB");
    let start = Instant::now();
    let (mut written, mut most) = (0, 0.0_f64);
    for round in 1..=CHURN {
        written += load(store, WEIGHED, round, Some(start + CHURN_MAX)).await;
        most = most.max(disk_mib(dir));
    }
    tell(
        "churn, times all records",
        written as f64 / WEIGHED as f64,
        "",
    );
    tell(
        "overwrites",
        written as f64 / start.elapsed().as_secs_f64(),
        "/s",
    );
    tell("disk, at most", most, "MiB");
    tokio::time::sleep(SETTLE).await;
    tell("disk after churn", disk_mib(dir), "MiB");
}

/// What a queue weighs when as much has passed through it as is weighed elsewhere.
async fn queue<S: Store>(store: &S, dir: &Path) {
    let payload = value(1, RECORD_BYTES);
    let mut standing = std::collections::VecDeque::new();
    let (start, mut passed) = (Instant::now(), 0);
    while passed < WEIGHED && start.elapsed() < CHURN_MAX {
        let append = Change::Append {
            queue: 0,
            value: payload.clone(),
        };
        let mut changes = vec![append; 1024];
        let surplus = standing.len().saturating_sub(QUEUE_DEPTH);
        let remove = |number| Change::Remove { queue: 0, number };
        changes.extend(standing.drain(..surplus).map(remove));
        standing.extend(store.commit(changes).await);
        passed += 1024;
    }
    tell(
        "entries through a queue",
        passed as f64 / start.elapsed().as_secs_f64(),
        "/s",
    );
    tokio::time::sleep(SETTLE).await;
    tell("disk, 10 000 entries stand", disk_mib(dir), "MiB");
}

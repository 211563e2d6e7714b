//! The embedded engine: what a runtime keeps things in unless told otherwise. Nothing to install, one directory.
//!
//! Commits go through a [`queue`] to one [`committer`] thread, which decides all that wait as one group, writes one record a
//! batch to the [log](crate::store::log) and answers after one sync. What is committed is [kept in memory](records) until
//! the [`flusher`] thread has brought it into the [tree](crate::store::tree), whose snapshots let old segments of the log
//! go. Reads look into both, on threads that may block.
//!
//! | file | holds |
//! |---|---|
//! | `queue` | where batches wait, in the order of the calls |
//! | `committer` | the thread that changes the store, and what a failure means |
//! | `body` | what a record of the log says |
//! | `records` | all that is stored, as reads and decisions see it |
//! | `flusher` | the thread that brings commits into the tree |
//! | `flushing` | what these two tell each other |
//! | `open` | the data directory: format, layout, errors |
//! | `lock` | its lock |
//! | `recovery` | from what is on the disk to an engine that runs |

mod body;
mod committer;
mod flusher;
mod flushing;
mod lock;
mod open;
mod queue;
mod records;
mod recovery;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use committer::{Committer, caught};
use flusher::Flusher;
use flushing::Flushing;
use lock::Lock;
use open::Layout;
use queue::Queue;
use records::Records;
use recovery::{Opened, Plan};

use super::disk::RealDisk;
use super::log::LogOptions;
use super::read::{self, impl_reads};
use super::sled::SledHome;
use super::traits::{BoxFuture, Commit, ReadFuture};
use super::{Batch, CommitError, Committed, StoreError};
use crate::model::limits::{STORE_CACHE_BYTES_DEFAULT, STORE_READS_MAX};
use crate::model::{AgentId, Entropy, MessageId, SystemClock};

pub use open::OpenError;
pub use recovery::{RebuiltIndex, Recovery};

/// Where a pack is full, in bytes.
const PACK_BYTES: u64 = 64 * 1024 * 1024;

/// How the embedded engine is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EmbeddedOptions {
    /// Memory of the cache, in bytes; at least 1 MiB is taken.
    pub cache_bytes: u64,
}

impl EmbeddedOptions {
    /// The same options with another size of the cache, in bytes.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: STORE_CACHE_BYTES_DEFAULT,
        }
    }
}

/// The engine that keeps everything in one directory of this machine.
///
/// A commit that is answered as durable is on disk: `fdatasync` came back after its last byte. One directory serves one
/// engine at a time, in all processes.
///
/// Dropping the engine closes it as [`close`](Commit::close) does, and waits for the disk meanwhile.
pub struct EmbeddedEngine {
    dir: PathBuf,
    records: Arc<Records>,
    queue: Arc<Queue>,
    reads: Arc<Semaphore>,
    recovery: Recovery,
    /// How the committer ended; `None` while it runs.
    ended: watch::Receiver<Option<Result<(), StoreError>>>,
    committer: Option<JoinHandle<()>>,
}

impl EmbeddedEngine {
    /// Opens the store in `dir`, and makes it if it is not there. It reads and checks every byte that is stored, and blocks
    /// meanwhile: about a second for a million small entries.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when an engine runs on it, [`OpenError::NewerFormat`] when a later version wrote it,
    /// [`OpenError::Damaged`] when what is stored is not what was written, [`OpenError::Io`] when the system refuses.
    pub fn open(dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        const CACHE_BYTES_MIN: u64 = 1024 * 1024;
        let layout = Layout::of(dir.as_ref());
        Self::open_with(&Plan {
            disk: Arc::new(RealDisk),
            home: Arc::new(SledHome::new(&layout.refs)),
            layout,
            cache_bytes: options.cache_bytes.max(CACHE_BYTES_MIN),
            log: LogOptions::default(),
            pack_bytes: PACK_BYTES,
        })
    }

    fn open_with(plan: &Plan) -> Result<Self, OpenError> {
        let dir = &plan.layout.dir;
        plan.disk
            .make_dir(dir)
            .map_err(OpenError::io("make", dir))?;
        let lock = Lock::take(dir)?;
        let clock = Arc::new(SystemClock::new());
        let opened = recovery::open(plan, &*clock, &Entropy::unpredictable());
        let opened =
            opened.inspect_err(|error| tracing::error!(%error, "the store did not open"))?;
        let queue = Arc::new(Queue::default());
        let Opened {
            records,
            log,
            flusher,
            flushing,
            recovery,
        } = opened;
        let parts = committer::Parts {
            records: Arc::clone(&records),
            log,
            queue: Arc::clone(&queue),
            flushing: Arc::clone(&flushing),
            clock,
        };
        let committer = Committer::new(parts).map_err(|error| OpenError::of_store(dir, error))?;
        let (tell, ended) = watch::channel(None);
        let threads = Threads {
            committer,
            flusher,
            flushing,
            records: Arc::clone(&records),
        };
        let thread = thread::Builder::new().name("mas-committer".to_owned());
        let spawned = thread.spawn(move || {
            let result = threads.run();
            // Whoever hears of the end may open the directory again.
            drop(lock);
            tell.send_replace(Some(result));
        });
        let committer = spawned.map_err(OpenError::io("start the committer of", dir))?;
        Ok(Self {
            dir: dir.clone(),
            records,
            queue,
            reads: Arc::new(Semaphore::new(STORE_READS_MAX)),
            recovery,
            ended,
            committer: Some(committer),
        })
    }

    /// What opening has found, and done about it.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Runs a read where it may block: on a thread of tokio's for that, or here where there is no tokio.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Records) -> Result<T, StoreError> + Send + 'static,
    ) -> ReadFuture<'_, T> {
        if self.queue.is_closed() {
            return Box::pin(ready(Err(StoreError::Closed)));
        }
        let (records, reads) = (Arc::clone(&self.records), Arc::clone(&self.reads));
        Box::pin(async move {
            let Ok(runtime) = Handle::try_current() else {
                return read(&records);
            };
            let permit = reads.acquire_owned().await;
            let read = runtime.spawn_blocking(move || {
                // Held by the thread, not by the future, which may be dropped before the thread is done.
                let _permit = permit;
                read(&records)
            });
            read.await.unwrap_or_else(|error| {
                Err(if error.is_cancelled() {
                    StoreError::Closed
                } else {
                    StoreError::failed("a read panicked")
                })
            })
        })
    }
}

impl_reads!(EmbeddedEngine);

impl Commit for EmbeddedEngine {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        match self.queue.push(batch) {
            Ok(ticket) => Box::pin(ticket),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.queue.close();
        let mut ended = self.ended.clone();
        Box::pin(async move {
            let lost = || Err(StoreError::failed("the committer was lost"));
            match ended.wait_for(Option::is_some).await {
                Ok(ended) => ended.clone().unwrap_or_else(lost),
                Err(_) => lost(),
            }
        })
    }

    fn describe(&self) -> String {
        format!("embedded engine in {}", self.dir.display())
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(committer) = self.committer.take() {
            // Its panics are caught and told on its own thread.
            let _ = committer.join();
        }
    }
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEngine")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// The work of the engine's two threads.
struct Threads {
    committer: Committer,
    flusher: Flusher,
    flushing: Arc<Flushing>,
    records: Arc<Records>,
}

impl Threads {
    /// Runs until the engine is closed, and says how it went.
    fn run(self) -> Result<(), StoreError> {
        let Self {
            mut committer,
            mut flusher,
            flushing,
            records,
        } = self;
        let flushes = thread::scope(|scope| {
            let thread = thread::Builder::new().name("mas-flusher".to_owned());
            let flushes = thread.spawn_scoped(scope, || caught("the flusher", || flusher.run()));
            let served = match &flushes {
                Ok(_) => committer.run(),
                Err(error) => committer.fail(StoreError::failed(format!(
                    "it can't start its flusher: {error}"
                ))),
            };
            flushing.end();
            let flushed = flushes.map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(StoreError::failed("the flusher was lost")))
            });
            served.and(flushed.unwrap_or(Ok(())))
        });
        let closed = committer.close();
        let index = records.alone(|tree| tree.index().close());
        flushes.and(closed).and(index)
    }
}

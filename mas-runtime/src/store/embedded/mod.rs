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
//! | `protection` | whether values are sealed, and with which keys |
//! | `sealing` | the thread that seals anew what is stored |
//! | `recovery` | from what is on the disk to an engine that runs |
//! | `portable` | export and import |
//! | `doctor` | examining a store that nobody has open; looking at its log and cutting it |

mod body;
mod committer;
mod doctor;
mod flusher;
mod flushing;
mod lock;
mod open;
mod portable;
mod protection;
mod queue;
mod records;
mod recovery;
mod sealing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use committer::{Committer, caught};
use flusher::Flusher;
use flushing::Flushing;
use lock::Lock;
use open::Layout;
use queue::Queue;
use records::{Records, View};
use recovery::{Opened, Plan};
use sealing::{Resealer, ThreadHands};

use super::disk::RealDisk;
use super::log::LogOptions;
use super::read::{self, impl_reads};
use super::sled::SledHome;
use super::traits::{BoxFuture, Commit, ReadFuture};
use super::tree::is_too_far;
use super::{Batch, CommitError, Committed, StoreError};
use crate::model::limits::{
    ENGINE_DEADLINE, STORE_CACHE_BYTES_DEFAULT, STORE_FLUSH_BYTES, STORE_READS_MAX,
};
use crate::model::{AgentId, Entropy, MessageId, SystemClock};

pub use doctor::{
    CutError, CutReport, Examination, ExamineOptions, Finding, Place, Severity, Totals, Verdict,
    cut_log, examine, inspect_log,
};
pub use open::OpenError;
pub use portable::{
    ExportError, Exported, ImportError, Imported, OnProgress, Progress, export, import,
};
pub use protection::Encryption;
pub use recovery::{RebuiltIndex, Recovery};
pub use sealing::SealingProgress;

/// Where a pack is full, in bytes.
const PACK_BYTES: u64 = 64 * 1024 * 1024;

/// How the embedded engine is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EmbeddedOptions {
    /// Memory of the cache, in bytes; at least 1 MiB is taken.
    pub cache_bytes: u64,
    /// Whether values are sealed on the disk.
    pub encryption: Encryption,
}

impl EmbeddedOptions {
    /// The same options with another size of the cache, in bytes.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// The same options with values sealed or plain.
    ///
    /// # Examples
    /// ```no_run
    /// use mas_runtime::store::{EmbeddedEngine, EmbeddedOptions, Encryption, KeyFile};
    ///
    /// KeyFile::create("store.key")?; // once
    /// let encryption = Encryption::KeyFile("store.key".into());
    /// let engine = EmbeddedEngine::open("data", EmbeddedOptions::default().encryption(encryption))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: STORE_CACHE_BYTES_DEFAULT,
            encryption: Encryption::Off,
        }
    }
}

/// How a store in a directory of this machine is kept.
fn plan(dir: &Path, options: EmbeddedOptions) -> Result<Plan, OpenError> {
    const CACHE_BYTES_MIN: u64 = 1024 * 1024;
    let layout = Layout::of(dir);
    let wanted = options.encryption.wanted();
    Ok(Plan {
        wanted: wanted.map_err(OpenError::key(dir))?,
        disk: Arc::new(RealDisk),
        home: Arc::new(SledHome::new(&layout.refs)),
        layout,
        cache_bytes: options.cache_bytes.max(CACHE_BYTES_MIN),
        log: LogOptions::default(),
        pack_bytes: PACK_BYTES,
        flush_bytes: STORE_FLUSH_BYTES,
    })
}

/// The engine that keeps everything in one directory of this machine.
///
/// A commit that is answered as durable is on disk: `fdatasync` came back after its last byte. One directory serves one
/// engine at a time, in all processes.
///
/// Dropping the engine closes it as [`close`](Commit::close) does, and waits for the disk meanwhile: for at most
/// [`ENGINE_DEADLINE`].
pub struct EmbeddedEngine {
    dir: PathBuf,
    records: Arc<Records>,
    queue: Arc<Queue>,
    flushing: Arc<Flushing>,
    reads: Arc<Semaphore>,
    recovery: Recovery,
    sealing: Arc<Mutex<SealingProgress>>,
    /// How the committer ended; `None` while it runs.
    ended: watch::Receiver<Option<Result<(), StoreError>>>,
    /// Hangs up when the committer's thread ends.
    over: Mutex<mpsc::Receiver<()>>,
    committer: Option<JoinHandle<()>>,
}

impl EmbeddedEngine {
    /// Opens the store in `dir`, and makes it if it is not there. It reads and checks every byte that is stored, and blocks
    /// meanwhile: about a second for a million small entries.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when an engine runs on it, [`OpenError::NewerFormat`] when a later version wrote it,
    /// [`OpenError::Damaged`] when what is stored is not what was written, [`OpenError::Key`] when the store is sealed and its
    /// key does not come, or is plain and one comes, [`OpenError::Io`] when the system refuses.
    pub fn open(dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        Self::open_with(&plan(dir.as_ref(), options)?)
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
            resealer,
            sealing,
        } = opened;
        let hands = ThreadHands {
            queue: Arc::clone(&queue),
            flushing: Arc::clone(&flushing),
            records: Arc::clone(&records),
        };
        let parts = committer::Parts {
            records: Arc::clone(&records),
            log,
            queue: Arc::clone(&queue),
            flushing: Arc::clone(&flushing),
            clock,
        };
        let committer = Committer::new(parts).map_err(|error| OpenError::of_store(dir, error))?;
        let (tell, ended) = watch::channel(None);
        let (is_over, over) = mpsc::sync_channel::<()>(0);
        let threads = Threads {
            committer,
            flusher,
            resealer: resealer.map(|resealer| (resealer, hands)),
            flushing: Arc::clone(&flushing),
            records: Arc::clone(&records),
        };
        let thread = thread::Builder::new().name("mas-committer".to_owned());
        let spawned = thread.spawn(move || {
            let _over = is_over;
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
            flushing,
            reads: Arc::new(Semaphore::new(STORE_READS_MAX)),
            recovery,
            sealing,
            ended,
            over: Mutex::new(over),
            committer: Some(committer),
        })
    }

    /// What opening has found, and done about it.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How far the values are sealed: of interest while a plain store is being sealed, or after its key file got a new key.
    pub fn sealing(&self) -> SealingProgress {
        *self.sealing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read: here as far as memory goes, and where it may block when that is not enough, on a thread of tokio's.
    fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> ReadFuture<'_, T> {
        if self.queue.is_closed() {
            return Box::pin(ready(Err(StoreError::Closed)));
        }
        let (records, reads) = (Arc::clone(&self.records), Arc::clone(&self.reads));
        Box::pin(async move {
            match read(&records.glance()) {
                Err(error) if is_too_far(&error) => {}
                answer => return answer,
            }
            let Ok(runtime) = Handle::try_current() else {
                return read(&records.view());
            };
            let permit = reads.acquire_owned().await;
            let read = runtime.spawn_blocking(move || {
                // Held by the thread, not by the future, which may be dropped before the thread is done.
                let _permit = permit;
                read(&records.view())
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
        let Some(committer) = self.committer.take() else {
            return;
        };
        // A disk that is stuck may never answer: the thread is left to it then, and keeps the directory locked.
        let over = self.over.get_mut().unwrap_or_else(PoisonError::into_inner);
        if over.recv_timeout(ENGINE_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(dir = %self.dir.display(), "the store's disk does not answer: its end is not waited for");
            return;
        }
        // Its panics are caught and told on its own thread.
        let _ = committer.join();
    }
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEngine")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// The work of the engine's threads.
struct Threads {
    committer: Committer,
    flusher: Flusher,
    resealer: Option<(Resealer, ThreadHands)>,
    flushing: Arc<Flushing>,
    records: Arc<Records>,
}

impl Threads {
    /// Runs until the engine is closed, and says how it went.
    fn run(self) -> Result<(), StoreError> {
        let Self {
            mut committer,
            mut flusher,
            resealer,
            flushing,
            records,
        } = self;
        let flushes = thread::scope(|scope| {
            let thread = thread::Builder::new().name("mas-flusher".to_owned());
            let flushes = thread.spawn_scoped(scope, || {
                let flushed = caught("the flusher", || flusher.run());
                // Whoever waits for it waits in vain.
                flushing.tell(flushed.as_ref().map(drop));
                flushing.leave();
                flushed
            });
            if flushes.is_err() {
                flushing.leave();
            }
            if let Some((mut resealer, hands)) = resealer {
                let thread = thread::Builder::new().name("mas-resealer".to_owned());
                let work = move || {
                    caught("the resealer", || {
                        resealer.run(hands);
                        Ok(())
                    })
                };
                if let Err(error) = thread.spawn_scoped(scope, work) {
                    tracing::error!(%error, "the store can't seal its values anew");
                }
            }
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

//! The embedded engine: what a runtime keeps things in unless told otherwise. Nothing to install, one directory.
//!
//! Commits go through a [`queue`] to one [`committer`] thread, which decides and applies all that wait as one group and
//! answers after one sync. Reads go to sled on threads that may block.
//!
//! | file | holds |
//! |---|---|
//! | `queue` | where batches wait, in the order of the calls |
//! | `committer` | the thread that changes the store, and what a failure means |
//! | `open` | the data directory: lock, format |
//! | `index` | sled as an index that outlives the process |
//! | `tree` | what stands in sled, and how it is checked |
//! | `digest` | the sum over all entries |
//! | `tip` | the last position that was brought to disk |
//! | `guard` | sled's panics and errors in our words |

mod committer;
mod digest;
mod guard;
mod index;
mod open;
mod queue;
#[cfg(test)]
mod tests;
mod tip;
mod tree;

use std::fmt;
use std::fs::File;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use committer::Committer;
use index::{SledIndex, SyncFile};
use open::DataDir;
use queue::Queue;
use tree::Tree;

use super::read::{self, impl_reads};
use super::traits::{BoxFuture, Commit, ReadFuture};
use super::{Batch, CommitError, Committed, StoreError};
use crate::model::limits::{STORE_CACHE_BYTES_DEFAULT, STORE_READS_MAX};
use crate::model::{AgentId, MessageId, SystemClock};

pub use open::OpenError;

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
    index: Arc<SledIndex>,
    queue: Arc<Queue>,
    reads: Arc<Semaphore>,
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
        Self::open_with(dir.as_ref(), options, Arc::new(File::sync_data))
    }

    fn open_with(dir: &Path, options: EmbeddedOptions, sync: SyncFile) -> Result<Self, OpenError> {
        const CACHE_BYTES_MIN: u64 = 1024 * 1024;
        let cache_bytes = options.cache_bytes.max(CACHE_BYTES_MIN);
        let DataDir { index, lock } = open::open(dir, cache_bytes, sync)?;
        let (index, queue) = (Arc::new(index), Arc::new(Queue::default()));
        let clock = Arc::new(SystemClock::new());
        let committer = Committer::new(Arc::clone(&index), Arc::clone(&queue), clock);
        let committer = committer.map_err(|error| open::damaged(dir, error.to_string()))?;
        let (tell, ended) = watch::channel(None);
        let thread = thread::Builder::new().name("mas-committer".to_owned());
        let spawned = thread.spawn(move || {
            let result = committer.run();
            // Whoever hears of the end may open the directory again.
            drop(lock);
            tell.send_replace(Some(result));
        });
        let committer = spawned.map_err(|source| OpenError::Io {
            action: "start the committer of",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            index,
            queue,
            reads: Arc::new(Semaphore::new(STORE_READS_MAX)),
            ended,
            committer: Some(committer),
        })
    }

    /// Runs a read where it may block: on a thread of tokio's for that, or here where there is no tokio.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> ReadFuture<'_, T> {
        if self.queue.is_closed() {
            return Box::pin(ready(Err(StoreError::Closed)));
        }
        let (index, reads) = (Arc::clone(&self.index), Arc::clone(&self.reads));
        Box::pin(async move {
            let Ok(runtime) = Handle::try_current() else {
                return index.with(read);
            };
            let permit = reads.acquire_owned().await;
            let read = runtime.spawn_blocking(move || {
                // Held by the thread, not by the future, which may be dropped before the thread is done.
                let _permit = permit;
                index.with(read)
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
        format!("embedded engine on sled in {}", self.dir.display())
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

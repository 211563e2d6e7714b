//! What the committer and the flusher tell each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::StoreError;

/// What the committer and the flusher tell each other.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    line: Mutex<Line>,
    news: Condvar,
    /// The log is not needed up to this position.
    released: AtomicU64,
    /// What the log takes on the disk, in bytes.
    log_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    /// Whether something waits for the flusher.
    is_asked: bool,
    /// Whether nothing more will.
    is_ended: bool,
    /// Why the last flush failed.
    failed: Option<StoreError>,
}

impl Flushing {
    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while the line is half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flusher has something to do.
    pub(super) fn ask(&self) {
        self.line().is_asked = true;
        self.news.notify_all();
    }

    /// The flusher will have nothing more to do after what it is asked for.
    pub(super) fn end(&self) {
        self.line().is_ended = true;
        self.news.notify_all();
    }

    /// Waits until there is something to do, or `patience` is over when it is given. Gives whether all has ended.
    pub(super) fn wait_asked(&self, patience: Option<Duration>) -> bool {
        let mut line = self.line();
        if let Some(patience) = patience {
            let waits = |line: &mut Line| !line.is_ended;
            let waited = self.news.wait_timeout_while(line, patience, waits);
            line = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            let waits = |line: &mut Line| !line.is_asked && !line.is_ended;
            let waited = self.news.wait_while(line, waits);
            line = waited.unwrap_or_else(PoisonError::into_inner);
        }
        line.is_asked = false;
        line.is_ended
    }

    /// How a flush went.
    pub(super) fn tell(&self, result: Result<(), &StoreError>) {
        self.line().failed = result.err().cloned();
        self.news.notify_all();
    }

    /// Waits while `waits` says so and flushes do not fail.
    ///
    /// # Errors
    /// Why the last flush failed.
    pub(super) fn wait_room(&self, waits: impl Fn() -> bool) -> Result<(), StoreError> {
        let mut line = self.line();
        while waits() {
            if let Some(error) = &line.failed {
                return Err(error.clone());
            }
            line = self.news.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// The log is not needed up to this position any more.
    pub(super) fn release(&self, position: u64) {
        self.released.store(position, Ordering::Release);
    }

    pub(super) fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    pub(super) fn set_log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }
}

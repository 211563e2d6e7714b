//! What the committer and the flusher tell each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::Records;
use crate::store::StoreError;

/// What waits for a view of all that is stored.
pub(super) type Waiting = SyncSender<Result<Records, StoreError>>;

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
    renewal: Renewal,
    /// Who waits for a view: few, each a thread that does nothing else.
    waiting: Vec<Waiting>,
    /// Whether the flusher is gone, so that nobody is to wait for it.
    is_alone: bool,
}

/// Whether the packs are to be renewed.
#[derive(Debug, Default)]
enum Renewal {
    #[default]
    None,
    Asked,
    Ended(Result<(), StoreError>),
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

    /// Asks for a view of all that is stored. What comes is received; nothing comes when the flusher has ended.
    pub(super) fn ask_view(&self) -> Receiver<Result<Records, StoreError>> {
        let (waiting, view) = mpsc::sync_channel(1);
        let mut line = self.line();
        if !line.is_alone {
            line.waiting.push(waiting);
            line.is_asked = true;
            self.news.notify_all();
        }
        view
    }

    /// Those who wait for a view.
    pub(super) fn take_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.line().waiting)
    }

    /// The flusher has ended, however that came.
    pub(super) fn leave(&self) {
        let mut line = self.line();
        line.is_alone = true;
        line.waiting.clear();
        self.news.notify_all();
    }

    /// How a flush went.
    pub(super) fn tell(&self, result: Result<(), &StoreError>) {
        self.line().failed = result.err().cloned();
        self.news.notify_all();
    }

    /// Waits while `waits` says so, flushes do not fail and all has not ended.
    ///
    /// # Errors
    /// Why the last flush failed.
    pub(super) fn wait_room(&self, waits: impl Fn() -> bool) -> Result<(), StoreError> {
        let mut line = self.line();
        while waits() && !line.is_ended {
            if let Some(error) = &line.failed {
                return Err(error.clone());
            }
            if line.is_alone {
                return Err(StoreError::failed("the flusher has ended"));
            }
            line = self.news.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Asks the flusher to renew the packs, and waits until it has.
    ///
    /// # Errors
    /// Why it could not. [`StoreError::Closed`] when all has ended before.
    pub(super) fn renew(&self) -> Result<(), StoreError> {
        let mut line = self.line();
        line.renewal = Renewal::Asked;
        line.is_asked = true;
        self.news.notify_all();
        while !line.is_ended && !line.is_alone {
            if let Renewal::Ended(result) = &line.renewal {
                return result.clone();
            }
            line = self.news.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        Err(StoreError::Closed)
    }

    /// Whether the packs are to be renewed.
    pub(super) fn is_renewal_asked(&self) -> bool {
        matches!(self.line().renewal, Renewal::Asked)
    }

    /// How renewing the packs went.
    pub(super) fn tell_renewed(&self, result: Result<(), StoreError>) {
        self.line().renewal = Renewal::Ended(result);
        self.news.notify_all();
    }

    /// Whether nothing more will be asked for.
    pub(super) fn is_ended(&self) -> bool {
        self.line().is_ended
    }

    /// Waits for the end, at most so long, and gives whether it came.
    pub(super) fn wait_end(&self, patience: Duration) -> bool {
        let waits = |line: &mut Line| !line.is_ended;
        let waited = self.news.wait_timeout_while(self.line(), patience, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_ended
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

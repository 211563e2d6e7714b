//! The one thread that changes the store: takes what waits as a group, decides it, applies it, makes it durable, answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::guard::panic_text;
use super::queue::{Answer, Queue, Waiting, Work};
use crate::model::limits::{BUFFERED_BEHIND_MAX, STORE_REVIVE_EVERY};
use crate::model::{Clock, Moment};
use crate::store::apply::{self, Group};
use crate::store::index::DurableIndex;
use crate::store::record::Counters;
use crate::store::{CommitError, Durability, StoreError};

/// The committer's own state. It lives on its thread.
///
/// # Failures
/// - A batch whose condition fails is refused alone.
/// - When the index can't apply, or has no room to flush, the group's senders get the error and the index is revived: at
///   once when somebody commits, then every [`STORE_REVIVE_EVERY`] or slower, so that it takes at most a quarter of a core.
///   Until then commits and reads fail. What was applied but never synced may be lost by then: it was answered as buffered
///   or relaxed at most.
/// - When a sync fails, the system may have dropped what it could not write and forget about it, so a later sync would
///   prove nothing. The same holds for a flush that fails for another reason than a lack of room: it waits for the disk as
///   well, and hears of what was dropped first. The engine stops: commits fail until the store is opened anew, reads go on.
/// - When the index panics or is damaged, the engine stops.
pub(super) struct Committer<I> {
    index: Arc<I>,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    counters: Counters,
    /// The last position that is on disk for certain.
    durable: u64,
    /// When the oldest buffered commit was answered that is not on disk.
    behind_since: Option<Moment>,
    broken: Option<Broken>,
}

/// An index that must be revived.
struct Broken {
    /// Why, or why it could not be revived.
    error: StoreError,
    /// When that is tried next.
    next: Moment,
}

impl<I: DurableIndex> Committer<I> {
    /// A committer for an index whose content is all on disk.
    pub(super) fn new(
        index: Arc<I>,
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let counters = apply::counters(&*index)?;
        Ok(Self {
            index,
            queue,
            clock,
            counters,
            durable: counters.position,
            behind_since: None,
            broken: None,
        })
    }

    /// Runs until the queue is closed, lets go of the index, and says how it went. Whatever happens, everybody is answered.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        let served = caught("the committer", || self.serve());
        if let Err(error) = &served {
            tracing::error!(%error, "the store's committer has stopped");
            self.queue.fail(error.to_string().into());
            // What is stored stays readable.
            self.queue.wait_closed();
        }
        let closed = caught("closing the index", || self.index.close());
        served.and(closed)
    }

    /// Works until the queue is closed and empty, or until the engine must stop.
    fn serve(&mut self) -> Result<(), StoreError> {
        loop {
            match self.queue.next(self.patience()) {
                Work::Group(group) => self.commit(group)?,
                Work::Idle => {}
                Work::End => return self.finish(),
            }
            if self.patience() == Some(Duration::ZERO) {
                self.tend()?;
            }
        }
    }

    /// How long until something is to be done without a commit; `None` when nothing is.
    fn patience(&self) -> Option<Duration> {
        let behind = self.behind_since.map(|since| since + BUFFERED_BEHIND_MAX);
        let due = self.broken.as_ref().map(|b| b.next).or(behind)?;
        Some(due.since(self.clock.now()))
    }

    /// Does what is due: brings the index back, or buffered commits to disk.
    fn tend(&mut self) -> Result<(), StoreError> {
        if self.broken.is_none() {
            return self.catch_up();
        }
        match self.revive() {
            Err(StoreError::Io { .. }) => Ok(()),
            other => other,
        }
    }

    /// Commits a group and answers it. An error stops the engine.
    fn commit(&mut self, group: Vec<Waiting>) -> Result<(), StoreError> {
        if let Err(error) = self.revive() {
            return refuse(group.into_iter().map(|w| w.answer), error);
        }
        let mut decided = Group::new(&*self.index, self.counters);
        let mut pending = Pending::default();
        for Waiting { batch, answer, .. } in group {
            let result = decided.add(&batch);
            pending.add(batch.level(), answer, result);
        }
        let (changes, counters) = decided.finish();
        if let Some(error) = pending.failure() {
            return self.broke(error, pending);
        }
        if changes.is_empty() {
            pending.answer(|_| true);
            return Ok(());
        }
        if let Err(error) = self.index.apply(&changes, counters.position) {
            return self.broke(error, pending);
        }
        self.counters = counters;
        self.settle(pending)
    }

    /// Makes what was applied as durable as each batch asks for, and answers.
    fn settle(&mut self, mut pending: Pending) -> Result<(), StoreError> {
        if pending.has(Durability::Buffered) {
            self.behind_since.get_or_insert(self.clock.now());
            pending.answer(|level| level == Durability::Buffered);
        }
        if pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.index.flush() {
            pending.refuse(&error);
            return self.note(unflushed(error));
        }
        pending.answer(|level| level != Durability::Durable);
        if pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.sync() {
            pending.refuse(&error);
            return Err(error.into_failed());
        }
        pending.answer(|_| true);
        Ok(())
    }

    /// Notes that the index must be revived, and tells the group.
    fn broke(&mut self, error: StoreError, pending: Pending) -> Result<(), StoreError> {
        pending.refuse(&error);
        self.note(error)
    }

    /// Notes that the index must be revived. What can't be revived stops the engine.
    fn note(&mut self, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Io { .. } = error else {
            return Err(error);
        };
        tracing::error!(%error, cause = ?error, "the store's index failed");
        let next = self.clock.now();
        self.broken = Some(Broken { error, next });
        self.behind_since = None;
        Ok(())
    }

    /// Brings a broken index back, if there is one.
    fn revive(&mut self) -> Result<(), StoreError> {
        let Some(broken) = &mut self.broken else {
            return Ok(());
        };
        let began = self.clock.now();
        if began < broken.next {
            return Err(broken.error.clone());
        }
        if let Err(error) = self.index.revive() {
            let ended = self.clock.now();
            broken.next = ended + STORE_REVIVE_EVERY.max(ended.since(began) * 3);
            broken.error = error.clone();
            return Err(error);
        }
        let found = apply::counters(&*self.index)?;
        if found.position < self.durable {
            let (found, durable) = (found.position, self.durable);
            let reason = format!("the index came back at position {found}, {durable} was on disk");
            return Err(StoreError::failed(reason));
        }
        let lost = self.counters.position.saturating_sub(found.position);
        tracing::warn!(
            lost,
            "the store's index works again without what was never synced"
        );
        // Numbers that were told to somebody are not told again, even if their entries are lost.
        self.counters.seqs = self.counters.seqs.max(found.seqs);
        self.counters.position = self.counters.position.max(found.position);
        (self.counters.dead, self.counters.dead_above) = (found.dead, found.dead_above);
        self.broken = None;
        Ok(())
    }

    /// Brings buffered commits to disk.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.index.flush() {
            return self.note(unflushed(error));
        }
        self.sync().map_err(StoreError::into_failed)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.index.sync()?;
        self.durable = self.counters.position;
        self.behind_since = None;
        Ok(())
    }

    /// Brings everything to disk at the end.
    fn finish(&mut self) -> Result<(), StoreError> {
        if let Some(broken) = &mut self.broken {
            // The last chance does not wait for its turn.
            broken.next = Moment::default();
        }
        self.revive()?;
        self.index.flush()?;
        self.sync()
    }
}

/// What a failed flush means: it stops the engine unless nothing but room was missing.
fn unflushed(error: StoreError) -> StoreError {
    if error.is_full() {
        error
    } else {
        error.into_failed()
    }
}

/// Runs what may panic.
fn caught(what: &str, run: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(StoreError::failed(format!("{what} panicked: {text}")))
    })
}

/// Answers everybody with an error. What can't be revived stops the engine.
fn refuse(
    answers: impl Iterator<Item = oneshot::Sender<Answer>>,
    error: StoreError,
) -> Result<(), StoreError> {
    for answer in answers {
        // Who dropped the future does not want the answer.
        let _ = answer.send(Err(error.clone().into()));
    }
    match error {
        StoreError::Io { .. } => Ok(()),
        stop => Err(stop),
    }
}

/// Results of a group that are not told yet.
#[derive(Default)]
struct Pending(Vec<(Durability, oneshot::Sender<Answer>, Answer)>);

impl Pending {
    /// Adds a result. A refusal counts as relaxed: it is told once what it rests on is out of the process.
    fn add(&mut self, level: Durability, answer: oneshot::Sender<Answer>, result: Answer) {
        let level = if result.is_ok() {
            level
        } else {
            Durability::Relaxed
        };
        self.0.push((level, answer, result));
    }

    /// What stops the engine, if one of the results says so.
    fn failure(&self) -> Option<StoreError> {
        self.0.iter().find_map(|(_, _, result)| match result {
            Err(CommitError::Failed { reason }) => Some(StoreError::Failed {
                reason: Arc::clone(reason),
            }),
            _ => None,
        })
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, level: Durability) -> bool {
        self.0.iter().any(|(of, ..)| *of == level)
    }

    /// Tells the results of these levels.
    fn answer(&mut self, levels: impl Fn(Durability) -> bool) {
        for (_, answer, result) in self.0.extract_if(.., |(level, ..)| levels(*level)) {
            // Who dropped the future does not want the answer.
            let _ = answer.send(result);
        }
    }

    /// Tells everybody that is left of an error.
    fn refuse(self, error: &StoreError) {
        for (_, answer, _) in self.0 {
            let _ = answer.send(Err(CommitError::from(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests;

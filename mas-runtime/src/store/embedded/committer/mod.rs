//! The one thread that changes the store: takes what waits as a group, decides it, writes it to the log, syncs, answers.

mod chores;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::body::BodyWriter;
use super::flushing::Flushing;
use super::queue::{Answer, Queue, Waiting, Work};
use super::records::Records;
use crate::model::limits::{
    BUFFERED_BEHIND_MAX, STORE_ACTIVE_BYTES_MAX, STORE_FLUSH_BYTES, STORE_REVIVE_EVERY,
    STORE_UNSYNCED_BYTES_MAX,
};
use crate::model::{Clock, Moment};
use crate::store::apply::{self, Group};
use crate::store::index::Changes;
use crate::store::keys::Key;
use crate::store::log::{Log, LogError};
use crate::store::record::Counters;
use crate::store::seal::Sealer;
use crate::store::{CommitError, Durability, StoreError};

pub(super) use chores::{Chore, Resealed};

/// How long nobody must commit before the log gets its mark: one who commits in a row does not pay for it.
const MARK_AFTER: Duration = Duration::from_millis(2);

/// How long a group waits at most for those who were in the last one: a third of what a fast disk takes for a sync.
const GATHER_MAX: Duration = Duration::from_micros(50);

/// The committer's own state. It lives on its thread.
///
/// # Failures
/// - A batch whose condition fails is refused alone.
/// - When the log can't be written or synced, the group's senders get the error, and what was decided stays: it goes to a new
///   segment as soon as one can be made, and readers see it then. That is tried at once when
///   somebody commits, then every [`STORE_REVIVE_EVERY`] or slower, so that it takes at most a quarter of a core. Until then
///   commits fail. A crash meanwhile loses it, and it was promised to nobody.
/// - When something panics, the engine stops: commits fail until the store is opened anew, reads go on.
pub(super) struct Committer {
    records: Arc<Records>,
    log: Log,
    queue: Arc<Queue>,
    flushing: Arc<Flushing>,
    clock: Arc<dyn Clock>,
    counters: Counters,
    /// When the oldest buffered commit was answered that is not on disk.
    behind_since: Option<Moment>,
    broken: Option<Broken>,
    /// What went to the log since changes were last sent into the tree, in bytes.
    logged_bytes: u64,
    /// How many the last group had.
    answered: usize,
    /// What the last group has changed, as long as nobody may read it.
    decided: Vec<(Key, Option<Bytes>)>,
}

/// A log that must be revived.
#[derive(Debug)]
struct Broken {
    /// Why, or why it could not be revived.
    error: StoreError,
    /// When that is tried next.
    next: Moment,
}

/// What a committer works with.
pub(super) struct Parts {
    pub(super) records: Arc<Records>,
    pub(super) log: Log,
    pub(super) queue: Arc<Queue>,
    pub(super) flushing: Arc<Flushing>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Committer {
    /// A committer for records that are all on disk.
    pub(super) fn new(parts: Parts) -> Result<Self, StoreError> {
        let Parts {
            records,
            log,
            queue,
            flushing,
            clock,
        } = parts;
        let counters = apply::counters(&*records)?;
        flushing.set_log_bytes(log.bytes());
        Ok(Self {
            records,
            log,
            queue,
            flushing,
            clock,
            counters,
            behind_since: None,
            broken: None,
            logged_bytes: 0,
            answered: 0,
            decided: Vec::new(),
        })
    }

    /// Runs until the queue is closed, and says how it went: with `Ok` all that was taken is on disk. Whatever happens,
    /// everybody is answered.
    pub(super) fn run(&mut self) -> Result<(), StoreError> {
        let served = caught("the committer", || self.serve());
        served.or_else(|error| self.fail(error))
    }

    /// Refuses everything from here on, until the queue is closed. What is stored stays readable.
    pub(super) fn fail(&mut self, error: StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "the store's committer has stopped");
        self.queue.fail(error.to_string().into());
        // What was answered as buffered is brought to the disk all the same: only what is written already is.
        let _ = caught("the last sync", || self.log.sync().map_err(from_log));
        self.queue.wait_closed();
        Err(error)
    }

    /// Works until the queue is closed and empty, or until the engine must stop.
    fn serve(&mut self) -> Result<(), StoreError> {
        loop {
            let rest = self.log.wants_mark().then_some(MARK_AFTER);
            let patience = self.patience().into_iter().chain(rest).min();
            let mut is_idle = false;
            self.gather();
            match self.queue.next(patience) {
                Work::Group(group) => {
                    self.answered = group.len();
                    self.commit(group)?;
                }
                Work::Chore(chore) => self.do_chore(chore),
                Work::Idle => is_idle = true,
                Work::End => return self.finish(),
            }
            if self.patience() == Some(Duration::ZERO) {
                self.tend();
            }
            if is_idle {
                self.look_after_log();
            } else {
                self.release_log();
            }
        }
    }

    /// Lets those who were just answered come back before the next group begins: who comes an instant later waits for a whole
    /// sync. One who commits alone, or two, are not waited for.
    fn gather(&self) {
        let expected = self.answered * 3 / 4;
        if expected < 2 || self.queue.is_empty() {
            return;
        }
        let until = self.clock.now() + GATHER_MAX;
        while self.queue.len() < expected && self.clock.now() < until {
            thread::yield_now();
        }
    }

    /// How long until something is to be done without a commit; `None` when nothing is.
    pub(super) fn patience(&self) -> Option<Duration> {
        let behind = self.behind_since.map(|since| since + BUFFERED_BEHIND_MAX);
        let due = self.broken.as_ref().map(|b| b.next).or(behind)?;
        Some(due.since(self.clock.now()))
    }

    /// Does what is due: brings the log back, or buffered commits to disk.
    pub(super) fn tend(&mut self) {
        // An error is kept for those who commit next.
        let _ = match self.broken {
            Some(_) => self.revive(),
            None => self.sync(),
        };
    }

    /// Commits a group and answers it. An error stops the engine.
    pub(super) fn commit(&mut self, group: Vec<Waiting>) -> Result<(), StoreError> {
        if let Err(error) = self.revive().and_then(|()| self.make_room()) {
            return refuse(group.into_iter().map(|w| w.answer), &error);
        }
        let mut decided = Group::new(&*self.records, self.counters);
        let (mut pending, log) = (Pending::default(), &mut self.log);
        let (mut logged_bytes, mut sealed) = (0, Vec::new());
        let sealer = self.records.sealer();
        for Waiting { batch, answer, .. } in group {
            let result = decided.add_with(&batch, |position, changes| {
                let (body, kept) = body_of(changes, sealer.map(|sealer| &**sealer))?;
                logged_bytes += body.len() as u64;
                log.append(position, &body).map_err(untaken)?;
                sealed.extend(kept);
                Ok(())
            });
            pending.add(batch.level(), answer, result);
        }
        let (changes, counters) = decided.finish();
        if let Some(error) = pending.failure() {
            // Nothing of it was written, and nothing will be.
            pending.refuse(&error);
            return Err(error);
        }
        self.logged_bytes += logged_bytes;
        self.counters = counters;
        self.decided = match sealer {
            None => changes.into_changes().collect(),
            Some(_) => sealed,
        };
        self.settle(pending)
    }

    /// Makes what was decided as durable as each batch asks for, and answers.
    fn settle(&mut self, pending: Pending) -> Result<(), StoreError> {
        let written = self.log.write().map_err(from_log);
        if let Err(error) = written {
            pending.refuse(&error);
            self.note(error);
            return Ok(());
        }
        if pending.has(Durability::Buffered) {
            self.behind_since.get_or_insert(self.clock.now());
        }
        let is_behind = self.log.unsynced_bytes() > STORE_UNSYNCED_BYTES_MAX;
        if pending.has(Durability::Durable) || is_behind {
            // Nobody reads of a durable batch before it is on disk: what it sends must not leave earlier.
            if let Err(error) = self.sync() {
                pending.refuse(&error);
                return Ok(());
            }
        }
        self.publish();
        pending.answer();
        self.send_into_tree();
        Ok(())
    }

    /// Shows what was decided to all who read from here on.
    fn publish(&mut self) {
        if !self.decided.is_empty() {
            self.records.publish(std::mem::take(&mut self.decided));
        }
    }

    /// Sends what was committed into the tree when it is enough, or when the log has grown by enough.
    fn send_into_tree(&mut self) {
        let bytes = self.records.active_bytes();
        let is_enough =
            bytes >= STORE_FLUSH_BYTES || self.logged_bytes >= 4 * STORE_FLUSH_BYTES as u64;
        if is_enough && self.records.frozen().is_none() && self.sync().is_ok() {
            self.freeze();
        }
    }

    /// Sends all that was committed into the tree: all of it is on disk.
    fn freeze(&mut self) {
        if self.records.freeze(self.counters.position) {
            self.logged_bytes = 0;
            self.flushing.ask();
        }
    }

    /// Whether the log waits to be revived, for tests.
    #[cfg(test)]
    pub(super) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The last commit that was decided, for tests.
    #[cfg(test)]
    pub(super) const fn position(&self) -> u64 {
        self.counters.position
    }

    /// Sends all that was committed into the tree, for tests.
    #[cfg(test)]
    pub(super) fn send_all(&mut self) -> Result<(), StoreError> {
        self.revive()?;
        self.sync()?;
        self.freeze();
        Ok(())
    }

    /// Waits while too much is on its way into the tree.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.records.active_bytes() < STORE_ACTIVE_BYTES_MAX {
            return Ok(());
        }
        self.sync()?;
        self.freeze();
        self.flushing.wait_room(|| {
            self.records.active_bytes() >= STORE_ACTIVE_BYTES_MAX && self.records.frozen().is_some()
        })?;
        self.freeze();
        Ok(())
    }

    /// What is done when nobody commits: old segments go, and a mark says that all is on disk.
    pub(super) fn look_after_log(&mut self) {
        self.release_log();
        if self.broken.is_none()
            && self.queue.is_empty()
            && let Err(error) = self.log.mark()
        {
            self.note(from_log(error));
        }
    }

    /// Lets segments go that are not needed any more.
    fn release_log(&mut self) {
        if let Err(error) = self.log.release(self.flushing.released()) {
            // They are in nobody's way but the disk's, and the next time comes soon.
            tracing::warn!(%error, "the store can't remove a segment of its log");
        }
        self.flushing.set_log_bytes(self.log.bytes());
    }

    /// Notes that the log must be revived.
    fn note(&mut self, error: StoreError) {
        tracing::error!(%error, cause = ?error, "the store's log failed");
        let next = self.clock.now();
        self.broken = Some(Broken { error, next });
        self.behind_since = None;
    }

    /// Brings a broken log back, if there is one, with all that was decided.
    fn revive(&mut self) -> Result<(), StoreError> {
        let Some(broken) = &mut self.broken else {
            return Ok(());
        };
        let began = self.clock.now();
        if began < broken.next {
            return Err(broken.error.clone());
        }
        let log = &mut self.log;
        let revived = log
            .revive()
            .and_then(|()| log.write())
            .and_then(|()| log.sync());
        if let Err(error) = revived {
            let ended = self.clock.now();
            broken.next = ended + STORE_REVIVE_EVERY.max(ended.since(began) * 3);
            broken.error = from_log(error);
            return Err(broken.error.clone());
        }
        tracing::warn!("the store's log works again");
        self.publish();
        self.broken = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let synced = self
            .log
            .write()
            .and_then(|()| self.log.sync())
            .map_err(from_log);
        match synced {
            Ok(()) => {
                self.behind_since = None;
                Ok(())
            }
            Err(error) => {
                self.note(error.clone());
                Err(error)
            }
        }
    }

    /// Brings everything to disk at the end, and sends it into the tree.
    fn finish(&mut self) -> Result<(), StoreError> {
        if let Some(broken) = &mut self.broken {
            // The last chance does not wait for its turn.
            broken.next = Moment::default();
        }
        self.revive()?;
        self.sync()?;
        self.flushing
            .wait_room(|| self.records.frozen().is_some())?;
        self.freeze();
        Ok(())
    }

    /// Ends the log, after the last flush: old segments go, and a mark on disk says that nothing follows.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if self.broken.is_some() {
            return Ok(());
        }
        let log = &mut self.log;
        let closed = log.release(self.flushing.released()).map(drop);
        closed
            .and_then(|()| log.mark())
            .and_then(|()| log.sync())
            .map_err(from_log)
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counters, broken) = (&self.counters, &self.broken);
        let mut shown = f.debug_struct("Committer");
        shown
            .field("log", &self.log)
            .field("counters", counters)
            .field("broken", broken);
        shown.finish_non_exhaustive()
    }
}

/// A change whose value is sealed.
type SealedChange = (Key, Option<Bytes>);

/// What the log keeps of a batch. Where values are sealed, they are sealed here, once: readers get the second part.
fn body_of(
    changes: &Changes,
    sealer: Option<&Sealer>,
) -> Result<(Vec<u8>, Vec<SealedChange>), StoreError> {
    let (mut body, mut sealed) = (BodyWriter::new(), Vec::new());
    for (key, value) in changes.iter() {
        let Some(sealer) = sealer else {
            body.add(key, value.as_deref());
            continue;
        };
        let value = value.as_ref().map(|value| sealer.seal(key, value));
        let value = value.transpose()?;
        body.add(key, value.as_deref());
        sealed.push((key.clone(), value));
    }
    Ok((body.finish(), sealed))
}

/// What the log's errors mean to those who commit.
pub(super) fn from_log(error: LogError) -> StoreError {
    match error {
        LogError::Io {
            action,
            path,
            source,
        } => {
            let kind = source.kind();
            let text = format!("{action} {}: {source}", path.display());
            StoreError::io("write its log", std::io::Error::new(kind, text))
        }
        other => StoreError::failed(other.to_string()),
    }
}

/// Why a batch is not taken into the log.
fn untaken(error: LogError) -> CommitError {
    match error {
        LogError::TooLarge { bytes, max } => CommitError::TooLarge {
            what: "what the batch changes, in bytes,",
            size: bytes,
            max,
        },
        other => from_log(other).into(),
    }
}

/// Runs what may panic.
pub(super) fn caught<T>(
    what: &str,
    run: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no text");
        Err(StoreError::failed(format!("{what} panicked: {text}")))
    })
}

/// Answers everybody with an error. What no time will mend stops the engine.
fn refuse(
    answers: impl Iterator<Item = oneshot::Sender<Answer>>,
    error: &StoreError,
) -> Result<(), StoreError> {
    for answer in answers {
        // Who dropped the future does not want the answer.
        let _ = answer.send(Err(error.clone().into()));
    }
    match error {
        StoreError::Failed { .. } => Err(error.clone()),
        _ => Ok(()),
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

    fn has(&self, level: Durability) -> bool {
        self.0.iter().any(|(of, ..)| *of == level)
    }

    /// Tells the results.
    fn answer(self) {
        for (_, answer, result) in self.0 {
            // Who dropped the future does not want the answer.
            let _ = answer.send(result);
        }
    }

    /// Tells everybody that is left of an error. Who was refused by a condition hears only that nothing can be said.
    fn refuse(self, error: &StoreError) {
        for (_, answer, _) in self.0 {
            let _ = answer.send(Err(CommitError::from(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests;

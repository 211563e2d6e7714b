//! Sealing what is stored, in the background: a plain store's values, or those under an older key.
//!
//! It walks over all values and has those sealed anew that need it, a page at a time, until a walk finds none. What they were
//! before may still stand in the log and in packs: a new segment of the log is begun, leaves are moved out of every pack that
//! holds anything else, and a snapshot lets both go. Only then does the store forget the older keys. All of it can be
//! interrupted at any point, and begins again when the store opens next.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::committer::{Chore, Resealed};
use super::flushing::Flushing;
use super::protection::Protection;
use super::queue::Queue;
use super::records::Records;
use crate::model::limits::{STORE_FLUSH_BYTES, STORE_RESEAL_BYTES_MAX, STORE_REVIVE_EVERY};
use crate::store::StoreError;
use crate::store::keys::{Key, KeyRange};
use crate::store::seal::{Clean, Pass, PassEnd};

/// Values that are looked at before others have their turn.
const PAGE_ENTRIES: usize = 1024;

/// How far a store's values are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealingProgress {
    /// The store is plain.
    Plain,
    /// Values are being sealed under the newest key; the key file must keep the older ones.
    Running {
        /// Values that were looked at, in all walks over the store so far.
        seen: u64,
        /// Values that were sealed anew.
        resealed: u64,
    },
    /// Everything else is sealed under the newest key, but some values can't be opened. It is tried again when the store
    /// opens next; until it succeeds the key file must keep the older keys. The log names the values.
    Stuck {
        /// How many; 0 when what holds them can't be read.
        damaged: u64,
    },
    /// Every value is sealed under the newest key, and no file holds it in any other way.
    Whole,
}

/// Who has done for a [`Resealer`] what only others may do.
pub(super) trait Hands {
    /// [`Committer::reseal`](super::committer::Committer::reseal).
    fn reseal(&mut self, keys: Vec<Key>) -> Result<Resealed, StoreError>;
    /// [`Committer::part_log`](super::committer::Committer::part_log).
    fn part_log(&mut self) -> Result<Option<u64>, StoreError>;
    /// [`Flusher::renew_packs`](super::flusher::Flusher::renew_packs).
    fn renew_packs(&mut self) -> Result<(), StoreError>;
    /// [`Committer::drop_log`](super::committer::Committer::drop_log).
    fn drop_log(&mut self, up_to: u64) -> Result<bool, StoreError>;
}

/// What seals the values of a store anew, step by step.
#[derive(Debug)]
pub(super) struct Resealer {
    records: Arc<Records>,
    protection: Protection,
    progress: Arc<Mutex<SealingProgress>>,
    pass: Pass,
    /// Where the walk goes on.
    from: Key,
    /// What became of values in this walk.
    done: Resealed,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Walk,
    PartLog(Clean),
    RenewPacks(Clean, u64),
    DropLog(Clean, u64),
    Complete(Clean),
    Over,
}

/// A part of a walk.
struct Page {
    /// Keys whose values are to be sealed anew.
    keys: Vec<Key>,
    /// Where the walk goes on; `None` when it is over.
    rest: Option<Key>,
}

impl Resealer {
    pub(super) fn new(
        records: Arc<Records>,
        protection: Protection,
        progress: Arc<Mutex<SealingProgress>>,
    ) -> Self {
        let is_sealing = protection.is_sealing();
        let newest = protection.sealer.newest().get();
        tracing::info!(
            key = newest,
            is_sealing,
            "the store begins to seal its values under its newest key"
        );
        let pass = Pass::new(Arc::clone(&protection.sealer));
        Self {
            records,
            protection,
            progress,
            pass,
            from: Key::new(),
            done: Resealed::default(),
            stage: Stage::Walk,
        }
    }

    /// Goes one step further, and gives whether it was the last.
    ///
    /// # Errors
    /// As those who do the work say: the step is to be tried again. [`StoreError::Corrupt`] when something can't be read.
    pub(super) fn step(&mut self, hands: &mut impl Hands) -> Result<bool, StoreError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Walk => {
                self.stage = Stage::Walk;
                self.walk(hands)?;
            }
            Stage::PartLog(clean) => {
                let parted = hands.part_log();
                self.stage = match parted {
                    Ok(Some(position)) => Stage::RenewPacks(clean, position),
                    _ => Stage::PartLog(clean),
                };
                parted?;
            }
            Stage::RenewPacks(clean, position) => {
                let renewed = hands.renew_packs();
                self.stage = match renewed {
                    Ok(()) => Stage::DropLog(clean, position),
                    Err(_) => Stage::RenewPacks(clean, position),
                };
                renewed?;
            }
            Stage::DropLog(clean, position) => {
                let dropped = hands.drop_log(position);
                self.stage = match dropped {
                    Ok(true) => Stage::Complete(clean),
                    // The snapshot was one of an earlier commit.
                    Ok(false) => Stage::PartLog(clean),
                    Err(_) => Stage::DropLog(clean, position),
                };
                dropped?;
            }
            Stage::Complete(clean) => {
                if let Err(error) = self.protection.complete(&clean) {
                    self.stage = Stage::Complete(clean);
                    return Err(StoreError::io("write the check of its keys", error));
                }
                self.tell(SealingProgress::Whole);
                let newest = self.protection.sealer.newest().get();
                tracing::info!(
                    key = newest,
                    "every value of the store is sealed under its newest key"
                );
            }
            Stage::Over => {}
        }
        Ok(matches!(self.stage, Stage::Over))
    }

    /// Has one page sealed anew.
    fn walk(&mut self, hands: &mut impl Hands) -> Result<(), StoreError> {
        let seen_before = self.pass.seen();
        let page = self.page()?;
        let mut done = Resealed::default();
        if !page.keys.is_empty() {
            done = hands.reseal(page.keys)?;
        }
        self.done.count += done.count;
        self.done.damaged += done.damaged;
        self.count(self.pass.seen() - seen_before, done.count);
        if let Some(rest) = page.rest {
            self.from = rest;
            return Ok(());
        }
        self.from.clear();
        let next = Pass::new(Arc::clone(&self.protection.sealer));
        let walked = std::mem::take(&mut self.done);
        match std::mem::replace(&mut self.pass, next).finish() {
            PassEnd::Clean(clean) => self.stage = Stage::PartLog(clean),
            PassEnd::Again { old } if walked.damaged == old => self.give_up(old),
            PassEnd::Again { .. } => {}
        }
        Ok(())
    }

    /// Looks for values that need it, until they are enough for one commit.
    fn page(&mut self) -> Result<Page, StoreError> {
        let range = KeyRange {
            from: self.from.clone(),
            to: vec![u8::MAX],
        };
        let mut page = Page {
            keys: Vec::new(),
            rest: None,
        };
        let (mut bytes, mut looked_at) = (0, 0);
        let pass = &mut self.pass;
        self.records.scan_stored(&range, &mut |key, value| {
            let is_full = bytes + value.len() > STORE_RESEAL_BYTES_MAX && bytes > 0;
            if is_full || looked_at >= PAGE_ENTRIES {
                page.rest = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            if pass.visit(&value) {
                bytes += value.len();
                page.keys.push(key.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
    }

    /// Leaves it until the store opens next.
    pub(super) fn give_up(&mut self, damaged: u64) {
        tracing::error!(
            damaged,
            "the store can't seal all of its values under its newest key"
        );
        self.tell(SealingProgress::Stuck { damaged });
        self.stage = Stage::Over;
    }

    fn count(&self, more_seen: u64, more_resealed: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let SealingProgress::Running { seen, resealed } = &mut *progress {
            *seen += more_seen;
            *resealed += more_resealed;
        }
    }

    fn tell(&self, now: SealingProgress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Works until all is sealed, or until the engine ends.
    pub(super) fn run(&mut self, mut hands: ThreadHands) {
        loop {
            match self.step(&mut hands) {
                Ok(true) | Err(StoreError::Closed | StoreError::Failed { .. }) => return,
                Ok(false) => {}
                Err(StoreError::Corrupt(corrupt)) => {
                    tracing::error!(%corrupt, "the store can't read what it is to seal anew");
                    return self.give_up(0);
                }
                Err(error) => {
                    tracing::warn!(%error, cause = ?error, "the store can't seal its values now");
                    if hands.flushing.wait_end(STORE_REVIVE_EVERY) {
                        return;
                    }
                }
            }
        }
    }
}

/// The hands of a running engine: its other threads.
#[derive(Debug)]
pub(super) struct ThreadHands {
    pub(super) queue: Arc<Queue>,
    pub(super) flushing: Arc<Flushing>,
    pub(super) records: Arc<Records>,
}

impl ThreadHands {
    /// Leaves a chore to the committer, and waits until it is done.
    fn have_done<T>(
        &self,
        chore: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Chore,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.push_chore(chore(answer));
        answered.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Hands for ThreadHands {
    fn reseal(&mut self, keys: Vec<Key>) -> Result<Resealed, StoreError> {
        // Commits must not wait for room that this took.
        self.flushing.wait_room(|| {
            self.records.active_bytes() >= STORE_FLUSH_BYTES && self.records.frozen().is_some()
        })?;
        self.have_done(|answer| Chore::Reseal(keys, answer))
    }

    fn part_log(&mut self) -> Result<Option<u64>, StoreError> {
        self.flushing
            .wait_room(|| self.records.frozen().is_some())?;
        self.have_done(Chore::PartLog)
    }

    fn renew_packs(&mut self) -> Result<(), StoreError> {
        self.flushing.renew()
    }

    fn drop_log(&mut self, up_to: u64) -> Result<bool, StoreError> {
        self.have_done(|answer| Chore::DropLog(up_to, answer))
    }
}

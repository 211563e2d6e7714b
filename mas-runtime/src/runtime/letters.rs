//! Dead letters: what was given up on, with its reason and history.
//!
//! Those of durable agents are where these are kept, in the engine or in its memory beside it; the others are kept in memory,
//! the newest [`DEAD_LETTERS_MAX`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Inner;
use super::durability::{Home, home_of_letter};
use crate::actor::{Draft, EventKind, Handle, Host, RequestError, SendError, Sending, ToItsEnd};
use crate::model::limits::{DEAD_LETTERS_MAX, INBOX_ENTRIES_MAX};
use crate::model::{
    AgentId, Envelope, Error, MessageId, MessageType, Result, decode_envelope, encode_envelope,
};
use crate::store::{Batch, DeadEntry, Op};

/// Volatile letters are numbered from here on, so that their numbers never meet those of the engine.
const VOLATILE_FROM: u64 = 1 << 62;

/// What was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterRecord {
    /// Its number, for [`DeadLetters::show`], [`DeadLetters::retry`] and [`DeadLetters::drop`].
    pub number: u64,
    /// The envelope's id.
    pub message: MessageId,
    /// Who sent it.
    pub sender: AgentId,
    /// Who it was for.
    pub target: AgentId,
    /// What it was.
    pub message_type: MessageType,
    /// Why it was given up on.
    pub reason: String,
    /// When, as time since 1970-01-01 UTC.
    pub at: Duration,
    /// Attempts that it had.
    pub attempts: u32,
    /// What the attempts said, the first first.
    pub history: Vec<String>,
    /// Whether it survives a restart of the process.
    pub durable: bool,
}

#[derive(Default)]
pub(super) struct Letters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    letters: VecDeque<Volatile>,
}

struct Volatile {
    number: u64,
    envelope: Envelope,
    reason: String,
    at: Duration,
}

impl Letters {
    /// Keeps a letter; the oldest goes when there are too many.
    pub(super) fn add(&self, inner: &Inner, mut envelope: Envelope, reason: String) {
        if envelope.id == crate::actor::NO_ID {
            envelope.id = inner.core.new_id();
        }
        inner.core.event(EventKind::DeadLetter {
            target: envelope.target.clone(),
            message_type: envelope.message_type.clone(),
            reason: reason.clone(),
        });
        let at = inner.core.clock.unix();
        let mut state = self.state();
        let number = VOLATILE_FROM + state.next;
        state.next += 1;
        if state.letters.len() >= DEAD_LETTERS_MAX {
            state.letters.pop_front();
        }
        state.letters.push_back(Volatile {
            number,
            envelope,
            reason,
            at,
        });
    }

    fn take(&self, number: u64) -> Option<Volatile> {
        let mut state = self.state();
        let place = state.letters.iter().position(|own| own.number == number)?;
        state.letters.remove(place)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volatile {
    /// The envelope once more.
    fn again(&mut self) -> Result<Envelope> {
        let own = &mut self.envelope;
        let payload = own.payload.share()?;
        let mut again = Envelope::new(
            own.id,
            own.sender.clone(),
            own.target.clone(),
            own.message_type.clone(),
            payload,
        );
        again.meta = own.meta.clone();
        Ok(again)
    }
}

/// A letter that is on its way again.
struct Retried<'a> {
    letters: &'a Letters,
    letter: Option<Volatile>,
}

impl Drop for Retried<'_> {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            let mut state = self.letters.state();
            let place = state
                .letters
                .partition_point(|own| own.number < letter.number);
            state.letters.insert(place, letter);
        }
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters")
            .field("kept", &self.state().letters.len())
            .finish_non_exhaustive()
    }
}

/// The dead letters of a runtime: [`Runtime::dead_letters`](super::Runtime::dead_letters).
#[derive(Debug)]
pub struct DeadLetters {
    pub(super) inner: Arc<Inner>,
}

impl DeadLetters {
    /// All of them: first those in the engine, then those in memory, each the oldest first; at most `limit`.
    ///
    /// # Errors
    /// When the engine can't be read.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetterRecord>> {
        let mut records = Vec::new();
        let mut after = 0;
        while records.len() < limit {
            let engine = &self.inner.core.engine;
            let page = engine.dead_letters(after, limit - records.len()).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            records.extend(page.iter().map(|entry| self.durable(entry)));
        }
        let state = self.inner.letters.state();
        let left = limit.saturating_sub(records.len());
        records.extend(state.letters.iter().take(left).map(volatile));
        Ok(records)
    }

    /// The letter of this number.
    ///
    /// # Errors
    /// When the engine can't be read.
    pub async fn show(&self, number: u64) -> Result<Option<DeadLetterRecord>> {
        if number >= VOLATILE_FROM {
            let state = self.inner.letters.state();
            let own = state.letters.iter().find(|own| own.number == number);
            return Ok(own.map(volatile));
        }
        let entry = self.inner.core.engine.dead_letter(number).await?;
        Ok(entry.map(|entry| self.durable(&entry)))
    }

    /// Sends a letter on its way again, as one that was never tried.
    ///
    /// # Errors
    /// When there is no such letter, or its agent does not take it.
    pub async fn retry(&self, number: u64) -> Result<()> {
        if number >= VOLATILE_FROM {
            return self.retry_volatile(number).await;
        }
        let engine = &self.inner.core.engine;
        let entry = engine.dead_letter(number).await?;
        let entry = entry.ok_or_else(|| no_letter(number))?;
        let envelope = decode_envelope(&entry.envelope, &*self.inner.core.clock)?;
        let home = self.inner.levels.home(&entry.agent);
        if !self.inner.registry.is_kept(&entry.agent) || home != home_of_letter(number) {
            self.send_again(envelope).await?;
            return self.remove(number).await;
        }
        self.append_again(&entry, envelope).await
    }

    /// Sends a letter that is in memory only. One that is not taken stays what it is.
    async fn retry_volatile(&self, number: u64) -> Result<()> {
        let letter = self.inner.letters.take(number);
        let letter = letter.ok_or_else(|| no_letter(number))?;
        // Taken out meanwhile, so that two who retry it do not send it twice. Dropped, this puts it back.
        let mut retried = Retried {
            letters: &self.inner.letters,
            letter: Some(letter),
        };
        let Some(letter) = &mut retried.letter else {
            return Err(no_letter(number));
        };
        let mut envelope = letter.again()?;
        envelope.meta.deadline = None;
        self.send_again(envelope).await?;
        retried.letter = None;
        Ok(())
    }

    /// Moves a letter back into its inbox. Its deadline has passed long since, and it is remembered as handled, since it was
    /// given up on: both are forgotten.
    async fn append_again(&self, entry: &DeadEntry, mut envelope: Envelope) -> Result<()> {
        let core = &self.inner.core;
        let port = self.inner.port(&entry.agent);
        let window = port.and_then(|port| port.window.clone());
        if window
            .as_ref()
            .is_some_and(|window| !window.try_make_room())
        {
            let full = SendError::InboxFull {
                target: entry.agent.clone(),
                entries: INBOX_ENTRIES_MAX,
            };
            return Err(full.into());
        }
        if let Some(window) = &window {
            window.unsee(entry.id);
        }
        envelope.meta.deadline = None;
        envelope.meta.expects_reply = false;
        let stored = encode_envelope(&mut envelope, &*core.clock, usize::MAX);
        let stored = stored.inspect_err(|_| {
            if let Some(window) = &window {
                window.give_room_back();
            }
        })?;
        let batch = Batch::new()
            .with(Op::DeadRemove { seq: entry.seq })
            .with(Op::DedupRemove {
                agent: entry.agent.clone(),
                id: entry.id,
            })
            .with(Op::InboxAppend {
                agent: entry.agent.clone(),
                lane: envelope.meta.priority,
                id: entry.id,
                envelope: stored,
            });
        if let Some(window) = &window {
            window.set_out(entry.id);
        }
        let commit = core.engine.commit(batch);
        let (inner, agent, id) = (Arc::clone(&self.inner), entry.agent.clone(), entry.id);
        // Given up on by its caller, it still gets there.
        let lands = async move {
            let committed = commit.await;
            match (window, &committed) {
                (Some(window), Ok(_)) => window.stored(id),
                (Some(window), Err(error)) => {
                    if error.may_be_stored() {
                        window.may_be_stored(id);
                    } else {
                        window.not_stored(id);
                        window.remembered(id);
                    }
                }
                // It may have been spawned meanwhile.
                (None, _) => inner.missed(&agent),
            }
            committed.map(drop)
        };
        ToItsEnd::new(&core.tasks, lands).await?;
        Ok(())
    }

    /// Throws a letter away. False when there is none of this number.
    ///
    /// # Errors
    /// When the engine does not take it.
    pub async fn drop(&self, number: u64) -> Result<bool> {
        if number >= VOLATILE_FROM {
            return Ok(self.inner.letters.take(number).is_some());
        }
        let found = self.inner.core.engine.dead_letter(number).await?.is_some();
        if found {
            self.remove(number).await?;
        }
        Ok(found)
    }

    async fn remove(&self, number: u64) -> Result<()> {
        let batch = Batch::new().with(Op::DeadRemove { seq: number });
        self.inner.core.engine.commit(batch).await?;
        Ok(())
    }

    /// Sends a letter as a message of its own: its deadline has passed and nobody waits for its answer.
    async fn send_again(&self, envelope: Envelope) -> Result<(), Error> {
        let host: Arc<dyn Host> = Arc::clone(&self.inner) as _;
        let port = self.inner.port(&envelope.target);
        if port.is_none() && !self.inner.registry.is_kept(&envelope.target) {
            let target = envelope.target;
            return Err(SendError::UnknownAgent { target }.into());
        }
        let to = Arc::new(Handle {
            host,
            port,
            id: envelope.target,
        });
        let mut draft = Draft::new(to, None, envelope.message_type, envelope.payload);
        draft.letter.delivery.cover_mut().sender = envelope.sender;
        draft.letter.delivery.priority = envelope.meta.priority;
        match self.inner.send(&draft.to, draft.letter) {
            Sending::Done(done) => done?,
            Sending::Wait(wait) => wait.await?,
        }
        Ok(())
    }

    fn durable(&self, entry: &DeadEntry) -> DeadLetterRecord {
        let clock = &*self.inner.core.clock;
        let envelope = decode_envelope(&entry.envelope, clock).ok();
        let (sender, message_type) = envelope.map_or_else(
            || (AgentId::RUNTIME, MessageType::declared("unreadable")),
            |envelope| (envelope.sender, envelope.message_type),
        );
        DeadLetterRecord {
            number: entry.seq,
            message: entry.id,
            sender,
            target: entry.agent.clone(),
            message_type,
            reason: entry.reason.clone(),
            at: Duration::from_millis(entry.at_unix_ms),
            attempts: entry.attempts,
            history: entry.history.clone(),
            durable: home_of_letter(entry.seq) == Home::Engine,
        }
    }
}

fn volatile(letter: &Volatile) -> DeadLetterRecord {
    DeadLetterRecord {
        number: letter.number,
        message: letter.envelope.id,
        sender: letter.envelope.sender.clone(),
        target: letter.envelope.target.clone(),
        message_type: letter.envelope.message_type.clone(),
        reason: letter.reason.clone(),
        at: letter.at,
        attempts: 0,
        history: Vec::new(),
        durable: false,
    }
}

fn no_letter(number: u64) -> Error {
    RequestError::NoDeadLetter { number }.into()
}

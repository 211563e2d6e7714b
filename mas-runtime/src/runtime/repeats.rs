//! Asks that a durable handler repeats when it runs again, of agents that have no inbox.
//!
//! Such an ask has an id of its own, derived from that of the message that its handler runs for. The first of an id goes to
//! its target; one that comes while that is worked on waits for the same reply, and one that comes later gets the reply that
//! was kept. A durable target keeps its replies in its inbox. What is kept here ends with the process, as its target does.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inner;
use crate::actor::{Asker, Delivery, NO_ID, reply_cell};
use crate::model::limits::{DEDUP_AGE_MAX, REPEATS_BYTES_MAX, REPEATS_ENTRIES_MAX};
use crate::model::{AgentId, Failure, FailureCode, MessageId, Moment, Payload};

/// The asks of one runtime that may be repeated.
#[derive(Default)]
pub(super) struct Repeats {
    state: Mutex<State>,
}

/// Who was asked, and under which id.
type Key = (AgentId, MessageId);
type Answered = Result<Payload, Failure>;

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    /// What was answered: when, and the bytes of the reply; the oldest first.
    answered: VecDeque<(Moment, Key, usize)>,
    bytes: usize,
}

enum Entry {
    /// It is on its way, or in hand: who waits for the reply. There are as many as mailboxes have room for.
    Asked(Vec<Asker>),
    /// Its reply, or a failure for good.
    Answered(Answered),
}

impl Repeats {
    /// Whether this is an ask that may be repeated.
    pub(super) fn may_come(delivery: &Delivery) -> bool {
        delivery.id() != NO_ID && delivery.asker.wants_reply()
    }

    /// Begins such an ask. False when it was made before: its asker has the reply, or waits for it with the first.
    pub(super) fn begin(
        &self,
        inner: &Arc<Inner>,
        target: &AgentId,
        delivery: &mut Delivery,
    ) -> bool {
        let key = (target.clone(), delivery.id());
        let asker = std::mem::take(&mut delivery.asker);
        if !self.state().enter(&key, asker, inner.core.clock.now()) {
            return false;
        }
        let (sender, mut answer) = reply_cell();
        delivery.asker = Asker::one_reply(sender);
        let own = Arc::clone(inner);
        inner.core.tasks.spawn(async move {
            let answer = poll_fn(|cx| answer.poll(cx)).await.map(settled);
            own.repeats.answer(&own, &key, answer);
        });
        true
    }

    /// Tells all who asked; `None` when the first was not even sent, which it hears where it was sent from.
    fn answer(&self, inner: &Inner, key: &Key, answer: Option<Answered>) {
        let Some(mut answer) = answer else {
            drop(self.state().entries.remove(key));
            return;
        };
        let askers = self
            .state()
            .settle(key, &mut answer, inner.core.clock.now());
        let mut heard = false;
        for asker in askers {
            heard |= asker.answer(copy(&mut answer));
        }
        if !heard {
            inner.core.late_reply(&key.0);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this ask is the first of its id.
    fn enter(&mut self, key: &Key, asker: Asker, now: Moment) -> bool {
        self.forget_old(now);
        match self.entries.get_mut(key) {
            None => {
                let askers = Entry::Asked(vec![asker]);
                self.entries.insert(key.clone(), askers);
                return true;
            }
            Some(Entry::Asked(askers)) => {
                askers.retain(|asker| !asker.is_gone());
                askers.push(asker);
            }
            Some(Entry::Answered(answer)) => {
                asker.answer(copy(answer));
            }
        }
        false
    }

    /// Keeps an answer, and gives all who wait for it. A failure that may pass is not kept: the next ask is a new one.
    fn settle(&mut self, key: &Key, answer: &mut Answered, now: Moment) -> Vec<Asker> {
        let Some(Entry::Asked(askers)) = self.entries.remove(key) else {
            return Vec::new();
        };
        let bytes = match answer {
            Ok(reply) => reply.encoded_len().unwrap_or(0),
            Err(failure) if failure.retryable => return askers,
            Err(failure) => failure.message.len(),
        };
        let kept = Entry::Answered(copy(answer));
        self.entries.insert(key.clone(), kept);
        self.answered.push_back((now, key.clone(), bytes));
        self.bytes += bytes;
        self.forget_old(now);
        askers
    }

    /// Forgets what is too old, or too much.
    fn forget_old(&mut self, now: Moment) {
        while let Some((at, ..)) = self.answered.front() {
            let too_much =
                self.answered.len() > REPEATS_ENTRIES_MAX || self.bytes > REPEATS_BYTES_MAX;
            if !too_much && now.since(*at) <= DEDUP_AGE_MAX {
                return;
            }
            if let Some((_, key, bytes)) = self.answered.pop_front() {
                self.entries.remove(&key);
                self.bytes -= bytes;
            }
        }
    }
}

/// An answer as bytes, so that it can be given more than once.
fn settled(answer: Answered) -> Answered {
    let mut reply = answer?;
    match reply.settle(usize::MAX) {
        Ok(()) => Ok(reply),
        Err(error) => Err(Failure::new(FailureCode::BAD_REPLY, error.to_string()).lasting()),
    }
}

fn copy(answer: &mut Answered) -> Answered {
    match answer {
        Ok(reply) => Ok(reply.share().unwrap_or_default()),
        Err(failure) => Err(failure.clone()),
    }
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats")
            .field("kept", &self.state().answered.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Codec, Entropy, SystemClock};
    use bytes::Bytes;

    /// Asks and answers under `count` ids, with replies of so many bytes. Gives the state and the ids.
    fn answered(count: usize, bytes: usize) -> (State, Vec<Key>) {
        let clock = SystemClock::new();
        let entropy = Entropy::seeded(1);
        let target = AgentId::new("target").unwrap();
        let reply = Bytes::from(vec![0; bytes]);
        let mut state = State::default();
        let mut keys = Vec::new();
        for _ in 0..count {
            let key = (target.clone(), MessageId::new(clock.unix(), &entropy));
            assert!(state.enter(&key, Asker::nobody(), Moment::from_origin(secs(1))));
            let mut answer = Ok(Payload::encoded(Codec::MessagePack, reply.clone()));
            state.settle(&key, &mut answer, Moment::from_origin(secs(1)));
            keys.push(key);
        }
        (state, keys)
    }

    fn secs(seconds: u64) -> std::time::Duration {
        std::time::Duration::from_secs(seconds)
    }

    #[test]
    fn one_reply_more_than_the_limit_puts_the_oldest_out() {
        let (state, keys) = answered(REPEATS_ENTRIES_MAX + 1, 1);
        assert_eq!(state.entries.len(), REPEATS_ENTRIES_MAX);
        assert!(!state.entries.contains_key(&keys[0]));
        assert!(state.entries.contains_key(&keys[1]));
    }

    #[test]
    fn one_byte_more_than_the_limit_puts_the_oldest_out() {
        let (state, keys) = answered(3, REPEATS_BYTES_MAX / 2);
        assert_eq!(state.entries.len(), 2);
        assert!(!state.entries.contains_key(&keys[0]));
        assert_eq!(state.bytes, REPEATS_BYTES_MAX);
    }

    #[test]
    fn a_reply_that_is_too_old_is_forgotten() {
        let (mut state, keys) = answered(1, 10);
        let at = Moment::from_origin(secs(1) + DEDUP_AGE_MAX);
        assert!(!state.enter(&keys[0], Asker::nobody(), at));
        assert!(state.enter(&keys[0], Asker::nobody(), at + secs(1)));
        assert_eq!((state.answered.len(), state.bytes), (0, 0));
    }
}

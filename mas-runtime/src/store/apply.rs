//! Batches into changes: checks the conditions, gives out the numbers, writes the records.
//!
//! This is the one place that knows what an operation means. It decides over an [`Index`] and writes nothing: whoever
//! runs a [`Group`] applies its changes, or drops it and nothing has happened.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::{Batch, Committed, Op};
use super::entry::DeadEntry;
use super::error::{CommitError, EntryKind, StoreError};
use super::index::{Changes, Index};
use super::keys::{self, Key, KeyRange, Space};
use super::record::{self, Counters, Delivery};
use crate::model::limits::{DEAD_LETTERS_MAX, HISTORY_ENTRIES_MAX, REASON_BYTES_MAX};
use crate::model::{AgentId, MessageId, Priority};

/// What an index says of the store's counts.
pub(crate) fn counters(index: &(impl Index + ?Sized)) -> Result<Counters, StoreError> {
    let key = keys::counters();
    let mut counters = match index.get(&key)? {
        None => Counters::default(),
        Some(value) => record::decode_counters(&key, value)?,
    };
    index.scan_keys(&keys::whole(Space::Dead), &mut |_| {
        counters.dead += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counters)
}

/// Batches that are decided one after the other and applied together.
pub(crate) struct Group<'i, I: ?Sized> {
    index: &'i I,
    changes: Changes,
    counters: Counters,
}

impl<'i, I: Index + ?Sized> Group<'i, I> {
    /// An empty group over what is stored and counted so far.
    pub(crate) fn new(index: &'i I, counters: Counters) -> Self {
        Self {
            index,
            changes: Changes::default(),
            counters,
        }
    }

    /// Decides a batch. One that fails leaves no trace in the group.
    pub(crate) fn add(&mut self, batch: &Batch) -> Result<Committed, CommitError> {
        self.add_with(batch, |_, _| Ok(()))
    }

    /// Decides a batch, and shows its position and its changes to `keep`. If that fails, so does the batch.
    pub(crate) fn add_with(
        &mut self,
        batch: &Batch,
        keep: impl FnOnce(u64, &Changes) -> Result<(), CommitError>,
    ) -> Result<Committed, CommitError> {
        batch.check()?;
        let mut draft = Draft {
            changes: Changes::default(),
            counters: self.counters,
            group: self,
            seqs: Vec::new(),
        };
        for op in batch.ops() {
            draft.add(op)?;
        }
        let Draft {
            mut changes,
            mut counters,
            seqs,
            ..
        } = draft;
        counters.position += 1;
        changes.put(keys::counters(), record::encode_counters(counters));
        keep(counters.position, &changes)?;
        self.changes.extend(changes);
        self.counters = counters;
        Ok(Committed::new(counters.position, seqs))
    }

    /// The changes of all its batches, and the counts after them.
    pub(crate) fn finish(self) -> (Changes, Counters) {
        (self.changes, self.counters)
    }
}

/// A batch that is being decided, over its group.
struct Draft<'g, 'i, I: ?Sized> {
    group: &'g Group<'i, I>,
    changes: Changes,
    /// The group's, moved on by what this batch has given out so far.
    counters: Counters,
    seqs: Vec<u64>,
}

impl<I: Index + ?Sized> Draft<'_, '_, I> {
    #[rustfmt::skip]
    fn add(&mut self, op: &Op) -> Result<(), CommitError> {
        match op {
            Op::StatePut { agent, expected, next, schema, bytes } => {
                self.expect_version(agent, *expected)?;
                self.changes.put(keys::state(agent), record::encode_state(*next, *schema, bytes));
            }
            Op::StateRemove { agent, expected } => {
                self.expect_version(agent, *expected)?;
                self.changes.remove(keys::state(agent));
            }
            Op::InboxAppend { agent, lane, id, envelope } => {
                let key = keys::inbox(agent, *lane, self.next_seq());
                self.changes.put(key, record::encode_inbox(*id, envelope));
            }
            Op::InboxClaim { agent, lane, seq, attempts } => {
                let mut delivery = self.delivery(agent, *lane, *seq)?;
                delivery.attempts = *attempts;
                self.put_delivery(agent, *lane, *seq, &delivery);
            }
            Op::InboxAck { agent, lane, seq } => drop(self.take_inbox(agent, *lane, *seq)?),
            Op::InboxNack { agent, lane, seq, attempts, not_before_unix_ms, reason } => {
                let history = latest(&self.delivery(agent, *lane, *seq)?.history, Some(reason));
                let delivery = Delivery { attempts: *attempts, not_before_unix_ms: *not_before_unix_ms, history };
                self.put_delivery(agent, *lane, *seq, &delivery);
            }
            Op::InboxBury { agent, lane, seq, reason, at_unix_ms } => self.bury(agent, (*lane, *seq), reason, *at_unix_ms)?,
            Op::DeadPut { agent, id, envelope, reason, at_unix_ms, attempts, history } => {
                let delivery = Delivery { attempts: *attempts, not_before_unix_ms: 0, history: latest(history, None) };
                self.put_dead(agent, (*id, envelope), delivery, reason, *at_unix_ms)?;
            }
            Op::DeadRemove { seq } => drop(self.take_dead(*seq)?),
            Op::DeadRetry { seq, agent, lane } => self.retry(*seq, agent, *lane)?,
            Op::OutboxPut { agent, envelope } => {
                let key = keys::outbox(agent, self.next_seq());
                self.changes.put(key, record::encode_payload(envelope));
            }
            Op::OutboxRemove { agent, seq } => {
                let key = keys::outbox(agent, *seq);
                self.get(&key)?.ok_or_else(|| gone(EntryKind::Outbox, agent, *seq))?;
                self.changes.remove(key);
            }
            Op::DedupPut { agent, id, reply, expires_unix_ms } => {
                let value = record::encode_dedup(reply.as_deref(), *expires_unix_ms);
                self.changes.put(keys::dedup(agent, *id), value);
            }
            Op::DedupRemove { agent, id } => self.changes.remove(keys::dedup(agent, *id)),
            Op::TimerPut { agent, timer, due_unix_ms, record } => {
                let value = record::encode_timer(*due_unix_ms, record);
                self.changes.put(keys::timer(agent, *timer), value);
            }
            Op::TimerRemove { agent, timer } => self.changes.remove(keys::timer(agent, *timer)),
            Op::AgentPut { agent, record, lease_until_unix_ms } => {
                let value = record::encode_directory(*lease_until_unix_ms, record);
                self.changes.put(keys::directory(agent), value);
            }
            Op::AgentRemove { agent } => self.changes.remove(keys::directory(agent)),
            Op::AgentErase { agent } => self.erase(agent)?,
            Op::JournalAppend { journal, bytes, expected_end } => self.journal(journal, bytes, *expected_end)?,
            Op::JournalTrim { journal, before } => {
                self.remove_all(&keys::owned(Space::Journal, journal).before(keys::journal(journal, *before)))?;
            }
            Op::SecretPut { name, bytes } => {
                self.changes.put(keys::secret(name), record::encode_payload(bytes));
            }
            Op::SecretRemove { name } => self.changes.remove(keys::secret(name)),
        }
        Ok(())
    }

    /// What a key holds after everything that was decided before.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let decided = self
            .changes
            .get(key)
            .or_else(|| self.group.changes.get(key));
        match decided {
            Some(value) => Ok(value.clone()),
            None => self.group.index.get(key),
        }
    }

    /// The next number of an inbox or outbox entry or a dead letter.
    fn next_seq(&mut self) -> u64 {
        self.counters.seqs += 1;
        self.seqs.push(self.counters.seqs);
        self.counters.seqs
    }

    fn expect_version(&self, agent: &AgentId, expected: u64) -> Result<(), CommitError> {
        let key = keys::state(agent);
        let stored = match self.get(&key)? {
            None => 0,
            Some(value) => record::decode_state(&key, value)?.version,
        };
        if stored != expected {
            return Err(CommitError::Conflict {
                agent: agent.clone(),
                expected,
                stored,
            });
        }
        Ok(())
    }

    /// What is kept of the deliveries of an entry that must exist.
    fn delivery(&self, agent: &AgentId, lane: Priority, seq: u64) -> Result<Delivery, CommitError> {
        if self.get(&keys::inbox(agent, lane, seq))?.is_none() {
            return Err(gone(EntryKind::Inbox, agent, seq));
        }
        let key = keys::delivery(agent, lane, seq);
        match self.get(&key)? {
            None => Ok(Delivery::default()),
            Some(value) => Ok(record::decode_delivery(&key, value)?),
        }
    }

    fn put_delivery(&mut self, agent: &AgentId, lane: Priority, seq: u64, delivery: &Delivery) {
        let key = keys::delivery(agent, lane, seq);
        self.changes.put(key, record::encode_delivery(delivery));
    }

    /// Removes an entry that must exist, and gives its record.
    fn take_inbox(
        &mut self,
        agent: &AgentId,
        lane: Priority,
        seq: u64,
    ) -> Result<Bytes, CommitError> {
        let key = keys::inbox(agent, lane, seq);
        let value = self
            .get(&key)?
            .ok_or_else(|| gone(EntryKind::Inbox, agent, seq))?;
        self.changes.remove(key);
        let delivery = keys::delivery(agent, lane, seq);
        if self.get(&delivery)?.is_some() {
            self.changes.remove(delivery);
        }
        Ok(value)
    }

    fn bury(
        &mut self,
        agent: &AgentId,
        (lane, seq): (Priority, u64),
        reason: &str,
        at_unix_ms: u64,
    ) -> Result<(), CommitError> {
        let delivery = self.delivery(agent, lane, seq)?;
        let value = self.take_inbox(agent, lane, seq)?;
        let (id, envelope) = record::decode_inbox(&keys::inbox(agent, lane, seq), value)?;
        self.put_dead(agent, (id, &envelope), delivery, reason, at_unix_ms)?;
        Ok(())
    }

    fn put_dead(
        &mut self,
        agent: &AgentId,
        (id, envelope): (MessageId, &Bytes),
        delivery: Delivery,
        reason: &str,
        at_unix_ms: u64,
    ) -> Result<(), StoreError> {
        let (seq, envelope) = (self.next_seq(), envelope.clone());
        let mut dead = DeadEntry::new(seq, agent.clone(), id, cut(reason), at_unix_ms, envelope);
        dead.attempts = delivery.attempts;
        dead.history = delivery.history;
        self.changes
            .put(keys::dead(seq), record::encode_dead(&dead));
        self.counters.dead += 1;
        while self.counters.dead > DEAD_LETTERS_MAX as u64 {
            self.counters.dead_above = self.oldest_dead()?;
            self.take_dead(self.counters.dead_above)?;
        }
        Ok(())
    }

    /// The number of the oldest dead letter: there is one.
    fn oldest_dead(&self) -> Result<u64, StoreError> {
        let range = keys::whole(Space::Dead).after(&keys::dead(self.counters.dead_above));
        let is_there = |key: &[u8]| {
            let decided = self
                .changes
                .get(key)
                .or_else(|| self.group.changes.get(key));
            decided.is_none_or(Option::is_some)
        };
        let mut oldest = None;
        self.group.index.scan_keys(&range, &mut |key| {
            if is_there(key) {
                oldest = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for decided in [&self.group.changes, &self.changes] {
            let first = decided.keys_in(&range).find(|key| is_there(key));
            oldest = oldest.into_iter().chain(first.cloned()).min();
        }
        let oldest = oldest.ok_or_else(|| StoreError::failed("the dead letters are miscounted"))?;
        Ok(keys::decode_seq(&oldest)?)
    }

    /// Removes a dead letter, and gives its record if it was there.
    fn take_dead(&mut self, seq: u64) -> Result<Option<Bytes>, StoreError> {
        let key = keys::dead(seq);
        let value = self.get(&key)?;
        if value.is_some() {
            self.changes.remove(key);
            self.counters.dead -= 1;
        }
        Ok(value)
    }

    fn retry(&mut self, seq: u64, agent: &AgentId, lane: Priority) -> Result<(), CommitError> {
        let value = self
            .take_dead(seq)?
            .ok_or_else(|| gone(EntryKind::DeadLetter, agent, seq))?;
        let dead = record::decode_dead(&keys::dead(seq), value)?;
        let key = keys::inbox(agent, lane, self.next_seq());
        self.changes
            .put(key, record::encode_inbox(dead.id, &dead.envelope));
        Ok(())
    }

    fn journal(
        &mut self,
        journal: &str,
        bytes: &[u8],
        expected_end: Option<u64>,
    ) -> Result<(), CommitError> {
        let key = keys::journal_end(journal);
        let end = match self.get(&key)? {
            None => 0,
            Some(value) => record::decode_number(&key, value)?,
        };
        if let Some(expected) = expected_end
            && expected != end
        {
            let journal = journal.to_owned();
            return Err(CommitError::JournalMoved {
                journal,
                expected,
                end,
            });
        }
        self.changes
            .put(keys::journal(journal, end), record::encode_payload(bytes));
        self.changes.put(key, record::encode_number(end + 1));
        self.seqs.push(end);
        Ok(())
    }

    /// Removes all that an agent owns: what is stored and what was decided before.
    fn erase(&mut self, agent: &AgentId) -> Result<(), StoreError> {
        for space in Space::OF_AGENT {
            self.remove_all(&keys::owned(space, agent.as_str()))?;
        }
        Ok(())
    }

    /// Removes all that a range holds.
    fn remove_all(&mut self, range: &KeyRange) -> Result<(), StoreError> {
        let mut found: Vec<Key> = Vec::new();
        for decided in [&self.group.changes, &self.changes] {
            found.extend(decided.keys_in(range).cloned());
        }
        self.group.index.scan_keys(range, &mut |key| {
            found.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        found.into_iter().for_each(|key| self.changes.remove(key));
        Ok(())
    }
}

fn gone(entry: EntryKind, agent: &AgentId, seq: u64) -> CommitError {
    CommitError::Gone {
        entry,
        agent: agent.clone(),
        seq,
    }
}

/// A reason within its limit.
fn cut(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

/// The last reasons of a history with one more, each within its limit.
fn latest(history: &[String], more: Option<&String>) -> Vec<String> {
    let all = history.iter().chain(more);
    let over = (history.len() + usize::from(more.is_some())).saturating_sub(HISTORY_ENTRIES_MAX);
    all.skip(over).map(|reason| cut(reason)).collect()
}

//! The reads of all engines of this crate, over an [`Index`].

use std::ops::ControlFlow;

use bytes::Bytes;

use super::entry::{
    DeadEntry, DedupEntry, DirectoryEntry, InboxEntry, JournalEntry, OutboxEntry, SecretBytes,
    StoredState, TimerEntry,
};
use super::error::{Corrupt, StoreError};
use super::index::Index;
use super::keys::{self, Key, KeyRange, Space};
use super::record::{self, Delivery};
use crate::model::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use crate::model::{AgentId, MessageId, Priority};

type Read<T> = Result<T, StoreError>;

pub(crate) fn load_state(index: &impl Index, agent: &AgentId) -> Read<Option<StoredState>> {
    one(index, keys::state(agent), record::decode_state)
}

pub(crate) fn inbox_page(
    index: &impl Index,
    agent: &AgentId,
    lane: Priority,
    after: u64,
    limit: usize,
) -> Read<Vec<InboxEntry>> {
    let range = keys::inbox_lane(agent, lane).after(&keys::inbox(agent, lane, after));
    page(index, &range, limit, |key, value| {
        let delivery = keys::delivery(agent, lane, keys::decode_seq(key)?);
        let delivery: Option<Delivery> = one(index, delivery, record::decode_delivery)?;
        Ok(record::join_inbox(
            lane,
            (key, value),
            delivery.unwrap_or_default(),
        )?)
    })
}

pub(crate) fn inbox_counts(index: &impl Index, agent: &AgentId) -> Read<[u64; 5]> {
    let mut counts = [0; 5];
    for lane in Priority::ALL {
        let count = &mut counts[lane.lane()];
        index.scan_keys(&keys::inbox_lane(agent, lane), &mut |_| {
            *count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(counts)
}

pub(crate) fn outbox_page(
    index: &impl Index,
    agent: &AgentId,
    after: u64,
    limit: usize,
) -> Read<Vec<OutboxEntry>> {
    let range = keys::owned(Space::Outbox, agent.as_str()).after(&keys::outbox(agent, after));
    page(index, &range, limit, |key, value| {
        let seq = keys::decode_seq(key)?;
        Ok(OutboxEntry::new(seq, record::decode_payload(key, value)?))
    })
}

pub(crate) fn outbox_agents(
    index: &impl Index,
    after: Option<&AgentId>,
    limit: usize,
) -> Read<Vec<AgentId>> {
    let of = |agent: &AgentId| keys::owned(Space::Outbox, agent.as_str());
    let mut rest = keys::whole(Space::Outbox);
    if let Some(after) = after {
        rest = rest.starting_at(of(after).to);
    }
    let mut agents = Vec::new();
    while agents.len() < limit.min(PAGE_ENTRIES_MAX) {
        // The first key tells the agent; the search goes on behind all of its keys.
        let mut found = None;
        index.scan_keys(&rest, &mut |key| {
            found = Some(keys::decode_agent(key)?);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(agent) = found else { break };
        rest = rest.starting_at(of(&agent).to);
        agents.push(agent);
    }
    Ok(agents)
}

pub(crate) fn dedup(
    index: &impl Index,
    agent: &AgentId,
    id: MessageId,
) -> Read<Option<DedupEntry>> {
    one(index, keys::dedup(agent, id), record::decode_dedup)
}

pub(crate) fn dedup_page(
    index: &impl Index,
    agent: &AgentId,
    after: Option<MessageId>,
    limit: usize,
) -> Read<Vec<DedupEntry>> {
    let mut range = keys::owned(Space::Dedup, agent.as_str());
    if let Some(after) = after {
        range = range.after(&keys::dedup(agent, after));
    }
    page(index, &range, limit, |key, value| {
        Ok(record::decode_dedup(key, value)?)
    })
}

pub(crate) fn timers(
    index: &impl Index,
    agent: &AgentId,
    after: Option<u64>,
    limit: usize,
) -> Read<Vec<TimerEntry>> {
    let mut range = keys::owned(Space::Timer, agent.as_str());
    if let Some(after) = after {
        range = range.after(&keys::timer(agent, after));
    }
    page(index, &range, limit, |key, value| {
        Ok(record::decode_timer(key, value)?)
    })
}

pub(crate) fn dead_letters(index: &impl Index, after: u64, limit: usize) -> Read<Vec<DeadEntry>> {
    let range = keys::whole(Space::Dead).after(&keys::dead(after));
    page(index, &range, limit, |key, value| {
        Ok(record::decode_dead(key, value)?)
    })
}

pub(crate) fn dead_letter(index: &impl Index, seq: u64) -> Read<Option<DeadEntry>> {
    one(index, keys::dead(seq), record::decode_dead)
}

pub(crate) fn agent(index: &impl Index, agent: &AgentId) -> Read<Option<DirectoryEntry>> {
    one(index, keys::directory(agent), record::decode_directory)
}

pub(crate) fn agents(
    index: &impl Index,
    after: Option<&AgentId>,
    limit: usize,
) -> Read<Vec<DirectoryEntry>> {
    let mut range = keys::whole(Space::Directory);
    if let Some(after) = after {
        range = range.after(&keys::directory(after));
    }
    page(index, &range, limit, |key, value| {
        Ok(record::decode_directory(key, value)?)
    })
}

pub(crate) fn journal_page(
    index: &impl Index,
    journal: &str,
    from: u64,
    limit: usize,
) -> Read<Vec<JournalEntry>> {
    let range = keys::owned(Space::Journal, journal).starting_at(keys::journal(journal, from));
    page(index, &range, limit, |key, value| {
        let seq = keys::decode_seq(key)?;
        Ok(JournalEntry::new(seq, record::decode_payload(key, value)?))
    })
}

pub(crate) fn journal_end(index: &impl Index, journal: &str) -> Read<u64> {
    let end = one(index, keys::journal_end(journal), record::decode_number)?;
    Ok(end.unwrap_or(0))
}

pub(crate) fn secret(index: &impl Index, name: &str) -> Read<Option<SecretBytes>> {
    let bytes = one(index, keys::secret(name), record::decode_payload)?;
    Ok(bytes.map(SecretBytes::new))
}

pub(crate) fn journal_names(
    index: &impl Index,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Read<Vec<String>> {
    let range = keys::named(Space::JournalEnd, prefix);
    names(index, range, after.map(keys::journal_end), limit)
}

pub(crate) fn secret_names(
    index: &impl Index,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Read<Vec<String>> {
    let range = keys::named(Space::Secret, prefix);
    names(index, range, after.map(keys::secret), limit)
}

/// The names in a range that holds one key for each.
fn names(
    index: &impl Index,
    mut range: KeyRange,
    after: Option<Key>,
    limit: usize,
) -> Read<Vec<String>> {
    if let Some(after) = after {
        range = range.after(&after);
    }
    let limit = limit.min(PAGE_ENTRIES_MAX);
    let mut names = Vec::new();
    if limit == 0 || range.is_empty() {
        return Ok(names);
    }
    index.scan_keys(&range, &mut |key| {
        names.push(keys::decode_name(key)?);
        Ok(more(names.len() < limit))
    })?;
    Ok(names)
}

/// The record of one key.
fn one<T>(
    index: &impl Index,
    key: Key,
    decode: impl FnOnce(&[u8], Bytes) -> Result<T, Corrupt>,
) -> Read<Option<T>> {
    match index.get(&key)? {
        None => Ok(None),
        Some(value) => Ok(Some(decode(&key, value)?)),
    }
}

/// The entries of a range, until the page is full: by count, or by the bytes of its values.
fn page<T>(
    index: &impl Index,
    range: &KeyRange,
    limit: usize,
    mut decode: impl FnMut(&[u8], Bytes) -> Read<T>,
) -> Read<Vec<T>> {
    let limit = limit.min(PAGE_ENTRIES_MAX);
    let mut entries = Vec::new();
    if limit == 0 || range.is_empty() {
        return Ok(entries);
    }
    let mut bytes = 0;
    index.scan(range, &mut |key, value| {
        bytes += value.len();
        entries.push(decode(key, value)?);
        Ok(more(entries.len() < limit && bytes < PAGE_BYTES_MAX))
    })?;
    Ok(entries)
}

fn more(more: bool) -> ControlFlow<()> {
    if more {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Implements the reading traits for an engine whose method `read` runs a closure over its index and boxes the result.
macro_rules! impl_reads {
    ($engine:ty) => {
        impl $crate::store::StateStore for $engine {
            fn load_state(
                &self,
                agent: &AgentId,
            ) -> ReadFuture<'_, Option<$crate::store::StoredState>> {
                let agent = agent.clone();
                self.read(move |index| read::load_state(index, &agent))
            }
        }

        impl $crate::store::Inbox for $engine {
            fn inbox_page(
                &self,
                agent: &AgentId,
                lane: $crate::model::Priority,
                after: u64,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::InboxEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::inbox_page(index, &agent, lane, after, limit))
            }

            fn inbox_counts(&self, agent: &AgentId) -> ReadFuture<'_, [u64; 5]> {
                let agent = agent.clone();
                self.read(move |index| read::inbox_counts(index, &agent))
            }

            fn outbox_page(
                &self,
                agent: &AgentId,
                after: u64,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::OutboxEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::outbox_page(index, &agent, after, limit))
            }

            fn outbox_agents(
                &self,
                after: Option<&AgentId>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<AgentId>> {
                let after = after.cloned();
                self.read(move |index| read::outbox_agents(index, after.as_ref(), limit))
            }

            fn dedup(
                &self,
                agent: &AgentId,
                id: MessageId,
            ) -> ReadFuture<'_, Option<$crate::store::DedupEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::dedup(index, &agent, id))
            }

            fn dedup_page(
                &self,
                agent: &AgentId,
                after: Option<MessageId>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::DedupEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::dedup_page(index, &agent, after, limit))
            }

            fn timers(
                &self,
                agent: &AgentId,
                after: Option<u64>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::TimerEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::timers(index, &agent, after, limit))
            }

            fn dead_letters(
                &self,
                after: u64,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::DeadEntry>> {
                self.read(move |index| read::dead_letters(index, after, limit))
            }

            fn dead_letter(&self, seq: u64) -> ReadFuture<'_, Option<$crate::store::DeadEntry>> {
                self.read(move |index| read::dead_letter(index, seq))
            }
        }

        impl $crate::store::Directory for $engine {
            fn agent(
                &self,
                agent: &AgentId,
            ) -> ReadFuture<'_, Option<$crate::store::DirectoryEntry>> {
                let agent = agent.clone();
                self.read(move |index| read::agent(index, &agent))
            }

            fn agents(
                &self,
                after: Option<&AgentId>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::DirectoryEntry>> {
                let after = after.cloned();
                self.read(move |index| read::agents(index, after.as_ref(), limit))
            }
        }

        impl $crate::store::Journal for $engine {
            fn journal_page(
                &self,
                journal: &str,
                from: u64,
                limit: usize,
            ) -> ReadFuture<'_, Vec<$crate::store::JournalEntry>> {
                let journal = journal.to_owned();
                self.read(move |index| read::journal_page(index, &journal, from, limit))
            }

            fn journal_end(&self, journal: &str) -> ReadFuture<'_, u64> {
                let journal = journal.to_owned();
                self.read(move |index| read::journal_end(index, &journal))
            }

            fn journal_names(
                &self,
                prefix: &str,
                after: Option<&str>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<String>> {
                let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
                self.read(move |index| read::journal_names(index, &prefix, after.as_deref(), limit))
            }
        }

        impl $crate::store::Secrets for $engine {
            fn secret(&self, name: &str) -> ReadFuture<'_, Option<$crate::store::SecretBytes>> {
                let name = name.to_owned();
                self.read(move |index| read::secret(index, &name))
            }

            fn secret_names(
                &self,
                prefix: &str,
                after: Option<&str>,
                limit: usize,
            ) -> ReadFuture<'_, Vec<String>> {
                let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
                self.read(move |index| read::secret_names(index, &prefix, after.as_deref(), limit))
            }
        }
    };
}

pub(crate) use impl_reads;

//! What the reads of a store answer with.
//!
//! Their `Debug` shows sizes in place of contents: payloads, replies, secrets and what handlers said stay out of logs.

use std::fmt;

use bytes::Bytes;

use crate::model::{AgentId, MessageId, Priority};

/// Writes a struct's `Debug`: the named fields as they are, bytes and texts as their size, lists as their count.
macro_rules! debug_sizes {
    ($name:ident { $($shown:ident),* } $($hidden:ident),* $(; $($counted:ident),*)?) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(concat!(stringify!($hidden), "_bytes"), &self.$hidden.len()))*
                    $($(.field(concat!(stringify!($counted), "_count"), &self.$counted.len()))*)?
                    .finish()
            }
        }
    };
}

/// The state that an agent id has stored.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredState {
    /// The number of this state; never 0, which means that none is stored.
    pub version: u64,
    /// The version of the state's type that wrote it.
    pub schema: u32,
    /// The encoded state.
    pub bytes: Bytes,
}

impl StoredState {
    /// A stored state.
    pub const fn new(version: u64, schema: u32, bytes: Bytes) -> Self {
        Self {
            version,
            schema,
            bytes,
        }
    }
}

debug_sizes!(StoredState { version, schema } bytes);

/// An envelope that waits in the durable inbox of an agent id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxEntry {
    /// Its number in the store.
    pub seq: u64,
    /// Its lane.
    pub lane: Priority,
    /// The envelope's id.
    pub id: MessageId,
    /// Deliveries that were begun.
    pub attempts: u32,
    /// The wall-clock time before which it is not delivered again, in Unix milliseconds; 0 when it may go at once.
    pub not_before_unix_ms: u64,
    /// Why earlier attempts failed, the oldest first, at most
    /// [`HISTORY_ENTRIES_MAX`](crate::model::limits::HISTORY_ENTRIES_MAX).
    pub history: Vec<String>,
    /// The encoded envelope.
    pub envelope: Bytes,
}

impl InboxEntry {
    /// An entry that was never tried.
    pub const fn new(seq: u64, lane: Priority, id: MessageId, envelope: Bytes) -> Self {
        Self {
            seq,
            lane,
            id,
            attempts: 0,
            not_before_unix_ms: 0,
            history: Vec::new(),
            envelope,
        }
    }
}

debug_sizes!(InboxEntry { seq, lane, id, attempts, not_before_unix_ms } envelope; history);

/// An envelope that waits in the outbox of an agent id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxEntry {
    /// Its number in the store.
    pub seq: u64,
    /// The encoded envelope.
    pub envelope: Bytes,
}

impl OutboxEntry {
    /// An entry.
    pub const fn new(seq: u64, envelope: Bytes) -> Self {
        Self { seq, envelope }
    }
}

debug_sizes!(OutboxEntry { seq } envelope);

/// An id that an agent has handled, and what it replied.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DedupEntry {
    /// The handled message's id.
    pub id: MessageId,
    /// The kept reply, when there was one.
    pub reply: Option<Bytes>,
    /// When it may be forgotten, in Unix milliseconds.
    pub expires_unix_ms: u64,
}

impl DedupEntry {
    /// An entry.
    pub const fn new(id: MessageId, reply: Option<Bytes>, expires_unix_ms: u64) -> Self {
        Self {
            id,
            reply,
            expires_unix_ms,
        }
    }
}

impl fmt::Debug for DedupEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupEntry")
            .field("id", &self.id)
            .field("reply_bytes", &self.reply.as_ref().map(Bytes::len))
            .field("expires_unix_ms", &self.expires_unix_ms)
            .finish()
    }
}

/// A durable timer of an agent id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerEntry {
    /// Its number, chosen by its owner.
    pub timer: u64,
    /// When it is due, in Unix milliseconds.
    pub due_unix_ms: u64,
    /// What its owner keeps with it.
    pub record: Bytes,
}

impl TimerEntry {
    /// An entry.
    pub const fn new(timer: u64, due_unix_ms: u64, record: Bytes) -> Self {
        Self {
            timer,
            due_unix_ms,
            record,
        }
    }
}

debug_sizes!(TimerEntry { timer, due_unix_ms } record);

/// An envelope that was given up on.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadEntry {
    /// Its number in the store.
    pub seq: u64,
    /// Whom it was for.
    pub agent: AgentId,
    /// The envelope's id.
    pub id: MessageId,
    /// Why it was given up on.
    pub reason: String,
    /// When, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// Deliveries that were begun.
    pub attempts: u32,
    /// Why attempts failed, the oldest first.
    pub history: Vec<String>,
    /// The encoded envelope.
    pub envelope: Bytes,
}

impl DeadEntry {
    /// An entry without history.
    pub const fn new(
        seq: u64,
        agent: AgentId,
        id: MessageId,
        reason: String,
        at_unix_ms: u64,
        envelope: Bytes,
    ) -> Self {
        Self {
            seq,
            agent,
            id,
            reason,
            at_unix_ms,
            attempts: 0,
            history: Vec::new(),
            envelope,
        }
    }
}

debug_sizes!(DeadEntry { seq, agent, id, at_unix_ms, attempts } reason, envelope; history);

/// What the directory knows of an agent id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryEntry {
    /// The agent.
    pub agent: AgentId,
    /// Its encoded record: capabilities, metadata.
    pub record: Bytes,
    /// When its lease ends, in Unix milliseconds.
    pub lease_until_unix_ms: u64,
}

impl DirectoryEntry {
    /// An entry.
    pub const fn new(agent: AgentId, record: Bytes, lease_until_unix_ms: u64) -> Self {
        Self {
            agent,
            record,
            lease_until_unix_ms,
        }
    }
}

debug_sizes!(DirectoryEntry { agent, lease_until_unix_ms } record);

/// One record of a journal.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry {
    /// Its number in its journal, from 0 without gaps.
    pub seq: u64,
    /// The record.
    pub bytes: Bytes,
}

impl JournalEntry {
    /// An entry.
    pub const fn new(seq: u64, bytes: Bytes) -> Self {
        Self { seq, bytes }
    }
}

debug_sizes!(JournalEntry { seq } bytes);

/// The bytes of a secret. Nothing shows them but [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Bytes);

impl SecretBytes {
    /// A secret with these bytes.
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    pub const fn expose(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_sizes_and_no_contents() {
        let hidden = Bytes::from_static(b"hunter2");
        let agent = AgentId::new("a").unwrap();
        let id = MessageId::from_bytes([1; 16]);
        let said = "hunter2".to_owned();
        let mut tried = InboxEntry::new(1, Priority::High, id, hidden.clone());
        tried.history = vec![said.clone()];
        let mut dead = DeadEntry::new(1, agent.clone(), id, said.clone(), 3, hidden.clone());
        dead.history = vec![said];
        let texts = [
            format!("{:?}", StoredState::new(1, 2, hidden.clone())),
            format!("{tried:?}"),
            format!("{:?}", OutboxEntry::new(1, hidden.clone())),
            format!("{:?}", DedupEntry::new(id, Some(hidden.clone()), 3)),
            format!("{:?}", TimerEntry::new(1, 2, hidden.clone())),
            format!("{dead:?}"),
            format!("{:?}", DirectoryEntry::new(agent, hidden.clone(), 3)),
            format!("{:?}", JournalEntry::new(1, hidden.clone())),
            format!("{:?}", SecretBytes::new(hidden)),
        ];
        for text in texts {
            assert!(
                !text.contains("hunter2") && !text.contains("104, 117"),
                "{text}"
            );
        }
    }
}

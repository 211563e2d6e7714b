//! The atomic batch: what one commit changes, and on which conditions.

use std::fmt;

use bytes::Bytes;

use super::error::CommitError;
use crate::model::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX, STORE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::model::{AgentId, MessageId, Priority};

/// When a commit is answered, and so what it may lose.
///
/// | level | answered when its batch is | a killed process loses | a power cut loses |
/// |---|---|---|---|
/// | `Durable` | on disk | nothing | nothing |
/// | `Buffered` | readable | the last 5 ms | the last 5 ms |
/// | `Relaxed` | with the operating system | nothing | what no later durable or buffered commit took along |
///
/// Whatever is lost is lost from the end: a batch is never kept without all that were committed before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// On disk before the commit is answered.
    #[default]
    Durable,
    /// At most [`BUFFERED_BEHIND_MAX`](crate::model::limits::BUFFERED_BEHIND_MAX) behind the answer.
    Buffered,
    /// Out of the process before the commit is answered; on disk with the next commit of another level.
    Relaxed,
}

/// One change. A batch with an operation whose condition fails changes nothing.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Stores a state. Condition: the stored version is `expected`, else [`CommitError::Conflict`].
    StatePut {
        /// Whose state.
        agent: AgentId,
        /// The version that must be stored; 0 when none may be.
        expected: u64,
        /// The version of the new state; not 0.
        next: u64,
        /// The version of the state's type.
        schema: u32,
        /// The encoded state.
        bytes: Bytes,
    },
    /// Removes a state. Condition: the stored version is `expected`, else [`CommitError::Conflict`].
    StateRemove {
        /// Whose state.
        agent: AgentId,
        /// The version that must be stored; 0 when none may be.
        expected: u64,
    },
    /// Adds an envelope to an inbox. Gives a seq.
    InboxAppend {
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
        /// The envelope's id.
        id: MessageId,
        /// The encoded envelope.
        envelope: Bytes,
    },
    /// Marks that a delivery was begun. Condition: the entry exists, else [`CommitError::Gone`].
    InboxClaim {
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
        /// Which entry.
        seq: u64,
        /// Deliveries begun, this one too.
        attempts: u32,
    },
    /// Removes an entry that was handled. Condition: the entry exists, else [`CommitError::Gone`].
    InboxAck {
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
        /// Which entry.
        seq: u64,
    },
    /// Notes a failed delivery; the entry stays. Condition: the entry exists, else [`CommitError::Gone`].
    InboxNack {
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
        /// Which entry.
        seq: u64,
        /// Deliveries begun so far.
        attempts: u32,
        /// When the next delivery may begin, in Unix milliseconds.
        not_before_unix_ms: u64,
        /// Why this one failed; joins the entry's history, cut to
        /// [`REASON_BYTES_MAX`](crate::model::limits::REASON_BYTES_MAX).
        reason: String,
    },
    /// Moves an entry to the dead letters, with its attempts and history. Condition: the entry exists, else
    /// [`CommitError::Gone`]. Gives the dead letter's seq. Beyond
    /// [`DEAD_LETTERS_MAX`](crate::model::limits::DEAD_LETTERS_MAX) the oldest dead letter goes.
    InboxBury {
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
        /// Which entry.
        seq: u64,
        /// Why it is given up on, cut to [`REASON_BYTES_MAX`](crate::model::limits::REASON_BYTES_MAX).
        reason: String,
        /// When, in Unix milliseconds.
        at_unix_ms: u64,
    },
    /// Adds a dead letter that was in no inbox. Gives a seq. Beyond
    /// [`DEAD_LETTERS_MAX`](crate::model::limits::DEAD_LETTERS_MAX) the oldest dead letter goes.
    DeadPut {
        /// Whom it was for.
        agent: AgentId,
        /// The envelope's id.
        id: MessageId,
        /// The encoded envelope.
        envelope: Bytes,
        /// Why it is given up on, cut to [`REASON_BYTES_MAX`](crate::model::limits::REASON_BYTES_MAX).
        reason: String,
        /// When, in Unix milliseconds.
        at_unix_ms: u64,
        /// Deliveries begun.
        attempts: u32,
        /// Why attempts failed, the oldest first; the last
        /// [`HISTORY_ENTRIES_MAX`](crate::model::limits::HISTORY_ENTRIES_MAX) are kept.
        history: Vec<String>,
    },
    /// Removes a dead letter, if it is there.
    DeadRemove {
        /// Which one.
        seq: u64,
    },
    /// Moves a dead letter to an inbox, as one that was never tried. Condition: it exists, else [`CommitError::Gone`].
    /// Gives the inbox entry's seq.
    DeadRetry {
        /// Which one.
        seq: u64,
        /// Whose inbox.
        agent: AgentId,
        /// Which lane.
        lane: Priority,
    },
    /// Adds an envelope to an outbox. Gives a seq.
    OutboxPut {
        /// Whose outbox.
        agent: AgentId,
        /// The encoded envelope.
        envelope: Bytes,
    },
    /// Removes an envelope that has left. Condition: it exists, else [`CommitError::Gone`].
    OutboxRemove {
        /// Whose outbox.
        agent: AgentId,
        /// Which entry.
        seq: u64,
    },
    /// Remembers that a message was handled.
    DedupPut {
        /// Who handled it.
        agent: AgentId,
        /// The message's id.
        id: MessageId,
        /// The reply to give again.
        reply: Option<Bytes>,
        /// When it may be forgotten, in Unix milliseconds.
        expires_unix_ms: u64,
    },
    /// Forgets that a message was handled.
    DedupRemove {
        /// Who handled it.
        agent: AgentId,
        /// The message's id.
        id: MessageId,
    },
    /// Stores a timer, in place of one with the same number.
    TimerPut {
        /// Whose timer.
        agent: AgentId,
        /// Its number.
        timer: u64,
        /// When it is due, in Unix milliseconds.
        due_unix_ms: u64,
        /// What its owner keeps with it.
        record: Bytes,
    },
    /// Removes a timer, if it is there.
    TimerRemove {
        /// Whose timer.
        agent: AgentId,
        /// Its number.
        timer: u64,
    },
    /// Registers an agent, or renews what is registered.
    AgentPut {
        /// Which agent.
        agent: AgentId,
        /// Its encoded record.
        record: Bytes,
        /// When its lease ends, in Unix milliseconds.
        lease_until_unix_ms: u64,
    },
    /// Removes an agent from the directory, if it is there. What it has stored stays.
    AgentRemove {
        /// Which agent.
        agent: AgentId,
    },
    /// Removes all that is stored of an agent: state, inbox, outbox, dedup, timers, directory. Dead letters stay.
    AgentErase {
        /// Which agent.
        agent: AgentId,
    },
    /// Appends a record to a journal. Condition, when `expected_end` is given: the journal ends there, else
    /// [`CommitError::JournalMoved`]. Gives the record's number.
    JournalAppend {
        /// Which journal: any text of at most
        /// [`STORE_NAME_BYTES_MAX`] bytes.
        journal: String,
        /// The record.
        bytes: Bytes,
        /// The number that this record must get.
        expected_end: Option<u64>,
    },
    /// Removes the records of a journal with numbers below `before`. Its end stays where it is, and so do the numbers of the
    /// records that are kept and of those that come.
    JournalTrim {
        /// Which journal.
        journal: String,
        /// The first number that is kept.
        before: u64,
    },
    /// Stores a secret, in place of one with the same name.
    SecretPut {
        /// Its name: any text of at most
        /// [`STORE_NAME_BYTES_MAX`] bytes.
        name: String,
        /// The secret.
        bytes: Bytes,
    },
    /// Removes a secret, if it is there.
    SecretRemove {
        /// Its name.
        name: String,
    },
}

impl Op {
    /// The operation's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StatePut { .. } => "StatePut",
            Self::StateRemove { .. } => "StateRemove",
            Self::InboxAppend { .. } => "InboxAppend",
            Self::InboxClaim { .. } => "InboxClaim",
            Self::InboxAck { .. } => "InboxAck",
            Self::InboxNack { .. } => "InboxNack",
            Self::InboxBury { .. } => "InboxBury",
            Self::DeadPut { .. } => "DeadPut",
            Self::DeadRemove { .. } => "DeadRemove",
            Self::DeadRetry { .. } => "DeadRetry",
            Self::OutboxPut { .. } => "OutboxPut",
            Self::OutboxRemove { .. } => "OutboxRemove",
            Self::DedupPut { .. } => "DedupPut",
            Self::DedupRemove { .. } => "DedupRemove",
            Self::TimerPut { .. } => "TimerPut",
            Self::TimerRemove { .. } => "TimerRemove",
            Self::AgentPut { .. } => "AgentPut",
            Self::AgentRemove { .. } => "AgentRemove",
            Self::AgentErase { .. } => "AgentErase",
            Self::JournalAppend { .. } => "JournalAppend",
            Self::JournalTrim { .. } => "JournalTrim",
            Self::SecretPut { .. } => "SecretPut",
            Self::SecretRemove { .. } => "SecretRemove",
        }
    }

    /// The bytes that it carries, without ids and numbers.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::StatePut { bytes, .. } => bytes.len(),
            Self::InboxAppend { envelope, .. } | Self::OutboxPut { envelope, .. } => envelope.len(),
            Self::InboxNack { reason, .. } | Self::InboxBury { reason, .. } => reason.len(),
            Self::DeadPut {
                envelope,
                reason,
                history,
                ..
            } => envelope.len() + reason.len() + history.iter().map(String::len).sum::<usize>(),
            Self::DedupPut { reply, .. } => reply.as_ref().map_or(0, Bytes::len),
            Self::TimerPut { record, .. } | Self::AgentPut { record, .. } => record.len(),
            Self::JournalAppend { journal, bytes, .. } => journal.len() + bytes.len(),
            Self::SecretPut { name, bytes } => name.len() + bytes.len(),
            Self::JournalTrim { journal: name, .. } | Self::SecretRemove { name } => name.len(),
            Self::StateRemove { .. }
            | Self::InboxClaim { .. }
            | Self::InboxAck { .. }
            | Self::DeadRemove { .. }
            | Self::DeadRetry { .. }
            | Self::OutboxRemove { .. }
            | Self::DedupRemove { .. }
            | Self::TimerRemove { .. }
            | Self::AgentRemove { .. }
            | Self::AgentErase { .. } => 0,
        }
    }

    /// Checks what can be checked without the store.
    fn check(&self) -> Result<(), CommitError> {
        let bytes = self.payload_bytes();
        within("a value of the batch, in bytes,", bytes, VALUE_BYTES_MAX)?;
        match self {
            Self::StatePut { next: 0, .. } => Err(CommitError::Misuse {
                what: "a state with version 0, which stands for none",
            }),
            Self::JournalAppend { journal: name, .. }
            | Self::JournalTrim { journal: name, .. }
            | Self::SecretPut { name, .. }
            | Self::SecretRemove { name } => within(
                "the name of a journal or secret, in bytes,",
                name.len(),
                STORE_NAME_BYTES_MAX,
            ),
            _ => Ok(()),
        }
    }
}

fn within(what: &'static str, size: usize, max: usize) -> Result<(), CommitError> {
    if size > max {
        return Err(CommitError::TooLarge { what, size, max });
    }
    Ok(())
}

/// Shows the operation and its size: payloads, reasons and secrets stay out of logs.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.name(), self.payload_bytes())
    }
}

/// Changes that land all or none.
///
/// ```
/// # use bytes::Bytes;
/// # use mas_runtime::model::{AgentId, Priority};
/// # use mas_runtime::store::{Batch, Durability};
/// # let worker = AgentId::new("worker")?;
/// let batch = Batch::new()
///     .durability(Durability::Buffered)
///     .state_put(worker.clone(), 3, 4, 1, Bytes::from_static(b"state"))
///     .inbox_ack(worker, Priority::Normal, 17);
/// assert_eq!(batch.ops().len(), 2);
/// # Ok::<(), mas_runtime::model::IdError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    durability: Durability,
    ops: Vec<Op>,
}

impl Batch {
    /// A durable batch without operations. Committing it as it is brings all earlier commits to disk.
    pub const fn new() -> Self {
        Self {
            durability: Durability::Durable,
            ops: Vec::new(),
        }
    }

    /// The same batch, answered at another time.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Adds an operation.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// The same batch with one more operation.
    pub fn with(mut self, op: Op) -> Self {
        self.push(op);
        self
    }

    /// Its operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Its operations, in order.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// When its commit is answered.
    pub const fn level(&self) -> Durability {
        self.durability
    }

    /// Whether it has no operations.
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The bytes that it carries, without ids and numbers.
    pub fn payload_bytes(&self) -> usize {
        self.ops.iter().map(Op::payload_bytes).sum()
    }

    /// Checks it against the limits of all engines.
    ///
    /// # Errors
    /// [`CommitError::TooLarge`] beyond [`BATCH_OPS_MAX`], [`BATCH_BYTES_MAX`], [`VALUE_BYTES_MAX`] or
    /// [`STORE_NAME_BYTES_MAX`]; [`CommitError::Misuse`] for a state with version 0.
    pub fn check(&self) -> Result<(), CommitError> {
        within("the batch, in operations,", self.ops.len(), BATCH_OPS_MAX)?;
        within(
            "the batch, in bytes,",
            self.payload_bytes(),
            BATCH_BYTES_MAX,
        )?;
        self.ops.iter().try_for_each(Op::check)
    }
}

impl From<Op> for Batch {
    fn from(op: Op) -> Self {
        Self::new().with(op)
    }
}

/// One builder an operation.
macro_rules! builders {
    ($($(#[$doc:meta])* $method:ident $op:ident { $($field:ident: $type:ty),* })*) => {
        impl Batch {
            $($(#[$doc])*
            pub fn $method(self, $($field: $type),*) -> Self {
                self.with(Op::$op { $($field),* })
            })*
        }
    };
}

builders! {
    /// Adds [`Op::StatePut`].
    state_put StatePut { agent: AgentId, expected: u64, next: u64, schema: u32, bytes: Bytes }
    /// Adds [`Op::StateRemove`].
    state_remove StateRemove { agent: AgentId, expected: u64 }
    /// Adds [`Op::InboxAppend`].
    inbox_append InboxAppend { agent: AgentId, lane: Priority, id: MessageId, envelope: Bytes }
    /// Adds [`Op::InboxClaim`].
    inbox_claim InboxClaim { agent: AgentId, lane: Priority, seq: u64, attempts: u32 }
    /// Adds [`Op::InboxAck`].
    inbox_ack InboxAck { agent: AgentId, lane: Priority, seq: u64 }
    /// Adds [`Op::InboxNack`].
    inbox_nack InboxNack {
        agent: AgentId,
        lane: Priority,
        seq: u64,
        attempts: u32,
        not_before_unix_ms: u64,
        reason: String
    }
    /// Adds [`Op::InboxBury`].
    inbox_bury InboxBury { agent: AgentId, lane: Priority, seq: u64, reason: String, at_unix_ms: u64 }
    /// Adds [`Op::DeadRemove`].
    dead_remove DeadRemove { seq: u64 }
    /// Adds [`Op::DeadRetry`].
    dead_retry DeadRetry { seq: u64, agent: AgentId, lane: Priority }
    /// Adds [`Op::OutboxPut`].
    outbox_put OutboxPut { agent: AgentId, envelope: Bytes }
    /// Adds [`Op::OutboxRemove`].
    outbox_remove OutboxRemove { agent: AgentId, seq: u64 }
    /// Adds [`Op::DedupPut`].
    dedup_put DedupPut { agent: AgentId, id: MessageId, reply: Option<Bytes>, expires_unix_ms: u64 }
    /// Adds [`Op::DedupRemove`].
    dedup_remove DedupRemove { agent: AgentId, id: MessageId }
    /// Adds [`Op::TimerPut`].
    timer_put TimerPut { agent: AgentId, timer: u64, due_unix_ms: u64, record: Bytes }
    /// Adds [`Op::TimerRemove`].
    timer_remove TimerRemove { agent: AgentId, timer: u64 }
    /// Adds [`Op::AgentPut`].
    agent_put AgentPut { agent: AgentId, record: Bytes, lease_until_unix_ms: u64 }
    /// Adds [`Op::AgentRemove`].
    agent_remove AgentRemove { agent: AgentId }
    /// Adds [`Op::AgentErase`].
    agent_erase AgentErase { agent: AgentId }
    /// Adds [`Op::JournalAppend`].
    journal_append JournalAppend { journal: String, bytes: Bytes, expected_end: Option<u64> }
    /// Adds [`Op::JournalTrim`].
    journal_trim JournalTrim { journal: String, before: u64 }
    /// Adds [`Op::SecretPut`].
    secret_put SecretPut { name: String, bytes: Bytes }
    /// Adds [`Op::SecretRemove`].
    secret_remove SecretRemove { name: String }
}

/// What a commit answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The batch's place: above that of every earlier batch that changed the same agent or journal. Other batches may lie
    /// between, and an engine may leave numbers out.
    pub position: u64,
    /// The numbers that its operations were given, in their order. Those of inbox and outbox entries and dead letters are
    /// never given twice and grow with every batch of the same agent, with gaps; journal records count within their
    /// journal, without gaps.
    pub seqs: Vec<u64>,
}

impl Committed {
    /// An answer.
    pub const fn new(position: u64, seqs: Vec<u64>) -> Self {
        Self { position, seqs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(bytes: usize) -> Op {
        Op::InboxAppend {
            agent: AgentId::new("a").unwrap(),
            lane: Priority::Normal,
            id: MessageId::from_bytes([1; 16]),
            envelope: vec![b'x'; bytes].into(),
        }
    }

    fn refused(batch: &Batch, limit: usize) -> bool {
        matches!(batch.check(), Err(CommitError::TooLarge { size, max, .. }) if max == limit && size == max + 1)
    }

    #[test]
    fn one_more_operation_than_allowed_is_refused() {
        let mut batch = Batch::new();
        (0..BATCH_OPS_MAX).for_each(|seq| batch.push(Op::DeadRemove { seq: seq as u64 }));
        assert!(batch.check().is_ok());
        batch.push(Op::DeadRemove { seq: 0 });
        assert!(refused(&batch, BATCH_OPS_MAX));
    }

    #[test]
    fn one_more_byte_than_allowed_is_refused() {
        assert!(Batch::from(append(VALUE_BYTES_MAX)).check().is_ok());
        assert!(refused(
            &append(VALUE_BYTES_MAX + 1).into(),
            VALUE_BYTES_MAX
        ));
        let Op::InboxAppend { envelope, .. } = append(VALUE_BYTES_MAX) else {
            unreachable!()
        };
        let agent = AgentId::new("a").unwrap();
        let mut batch = Batch::new();
        for _ in 0..BATCH_BYTES_MAX / VALUE_BYTES_MAX {
            batch = batch.outbox_put(agent.clone(), envelope.clone());
        }
        assert!(batch.check().is_ok());
        assert!(refused(&batch.with(append(1)), BATCH_BYTES_MAX));
    }

    #[test]
    fn longer_names_than_allowed_are_refused() {
        let name = "n".repeat(STORE_NAME_BYTES_MAX);
        assert!(Batch::new().secret_remove(name.clone()).check().is_ok());
        let batch = Batch::new().journal_append(name.clone() + "n", Bytes::new(), None);
        assert!(refused(&batch, STORE_NAME_BYTES_MAX));
        assert!(refused(
            &Batch::new().secret_put(name + "n", Bytes::new()),
            STORE_NAME_BYTES_MAX
        ));
    }

    #[test]
    fn a_state_without_a_version_is_refused() {
        let batch = Batch::new().state_put(AgentId::new("a").unwrap(), 0, 0, 1, Bytes::new());
        assert!(matches!(batch.check(), Err(CommitError::Misuse { .. })));
    }

    #[test]
    fn debug_shows_sizes_and_no_contents() {
        let text = format!(
            "{:?}",
            Batch::new().secret_put("n".into(), "hunter2".into())
        );
        assert!(
            text.contains("SecretPut(8 bytes)") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

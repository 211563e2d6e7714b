//! What the runtime needs of a store: one trait a meaning, and [`Engine`] for all of them together.
//!
//! All methods give boxed futures, so that the runtime can hold an `Arc<dyn Engine>`. Every read sees every commit that
//! was answered before it began. Dropping a read's future is safe at any time.
//!
//! # Pages
//! Methods with a `limit` give the entries that follow a position in order of their key. A page may hold fewer than
//! `limit` entries: it ends after [`PAGE_ENTRIES_MAX`](crate::model::limits::PAGE_ENTRIES_MAX) entries or
//! [`PAGE_BYTES_MAX`](crate::model::limits::PAGE_BYTES_MAX) bytes of values, but holds at least one entry where there is
//! one and `limit` is not 0. **Only an empty page is the end.**
//!
//! An engine may read a large page, or a count, in parts of a few hundred entries while commits go on: what such a commit
//! changed may then show in one part and not in another. A page that holds fewer is one moment.

use std::future::Future;
use std::pin::Pin;

use super::batch::{Batch, Committed};
use super::entry::{
    DeadEntry, DedupEntry, DirectoryEntry, InboxEntry, JournalEntry, OutboxEntry, SecretBytes,
    StoredState, TimerEntry,
};
use super::error::{CommitError, StoreError};
use crate::model::{AgentId, MessageId, Priority};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a read gives.
pub type ReadFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A store that a runtime can run on: every one of its parts. Implemented for whatever has them.
///
/// A runtime puts a deadline and a circuit around its engine: a call that takes too long is dropped, and while the circuit is
/// open nothing but an empty batch is committed from time to time. That one is answered well when the engine can commit
/// again, and, as any batch, after all that were given to the engine before it are decided.
///
/// Whoever writes an engine runs the conformance suite against it: the module `conformance`, with feature `testkit`.
pub trait Engine: StateStore + Inbox + Directory + Journal + Secrets + Commit {}

impl<T: StateStore + Inbox + Directory + Journal + Secrets + Commit + ?Sized> Engine for T {}

/// The states of agents.
pub trait StateStore: Send + Sync {
    /// The state that `agent` has stored, if any.
    fn load_state(&self, agent: &AgentId) -> ReadFuture<'_, Option<StoredState>>;
}

/// Durable queues: what waits for an agent, what waits to leave it, what it remembers, and what was given up on.
pub trait Inbox: Send + Sync {
    /// Entries of one lane of the inbox of `agent` with numbers above `after`.
    fn inbox_page(
        &self,
        agent: &AgentId,
        lane: Priority,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<InboxEntry>>;

    /// How many entries each lane of the inbox of `agent` holds, the most urgent lane first. It may walk all of them.
    fn inbox_counts(&self, agent: &AgentId) -> ReadFuture<'_, [u64; 5]>;

    /// Entries of the outbox of `agent` with numbers above `after`.
    fn outbox_page(
        &self,
        agent: &AgentId,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<OutboxEntry>>;

    /// Agents after `after` that have something in their outbox, in order of their ids.
    fn outbox_agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<AgentId>>;

    /// What `agent` remembers of the message `id`.
    fn dedup(&self, agent: &AgentId, id: MessageId) -> ReadFuture<'_, Option<DedupEntry>>;

    /// The ids after `after` that `agent` remembers, in order of their bytes: by age, for ids of version 7.
    fn dedup_page(
        &self,
        agent: &AgentId,
        after: Option<MessageId>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<DedupEntry>>;

    /// The timers of `agent` with numbers above `after`, in order of their numbers; `None` starts before all.
    fn timers(
        &self,
        agent: &AgentId,
        after: Option<u64>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<TimerEntry>>;

    /// Dead letters with numbers above `after`, the oldest first.
    fn dead_letters(&self, after: u64, limit: usize) -> ReadFuture<'_, Vec<DeadEntry>>;

    /// The dead letter with this number.
    fn dead_letter(&self, seq: u64) -> ReadFuture<'_, Option<DeadEntry>>;
}

/// The agents that were registered, with their leases.
pub trait Directory: Send + Sync {
    /// What is known of `agent`.
    fn agent(&self, agent: &AgentId) -> ReadFuture<'_, Option<DirectoryEntry>>;

    /// The agents after `after`, in order of their ids.
    fn agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<DirectoryEntry>>;
}

/// Append-only lists of records, numbered from 0 without gaps. Only their oldest records can be removed.
pub trait Journal: Send + Sync {
    /// The records of `journal` from number `from` on, or from the first that is kept.
    fn journal_page(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<JournalEntry>>;

    /// The number that the next record of `journal` will have: 0 for one that does not exist.
    fn journal_end(&self, journal: &str) -> ReadFuture<'_, u64>;

    /// The names of journals after `after` that begin with `prefix`, in order of their bytes; also of those whose records
    /// were all removed.
    fn journal_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>>;
}

/// Named secrets: channel and key state.
pub trait Secrets: Send + Sync {
    /// The secret of this name.
    fn secret(&self, name: &str) -> ReadFuture<'_, Option<SecretBytes>>;

    /// The names after `after` that begin with `prefix`, in order of their bytes.
    fn secret_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>>;
}

/// The one way to change anything.
pub trait Commit: Send + Sync {
    /// Commits a batch: all of it, or nothing.
    ///
    /// Batches are applied in the order in which this method was called; polling the futures plays no part in it. The
    /// conditions of a batch see the effects of its earlier operations and of all earlier batches.
    ///
    /// # Errors
    /// [`CommitError::Conflict`], [`Gone`](CommitError::Gone) and [`JournalMoved`](CommitError::JournalMoved) when a
    /// condition fails; the rest as they say.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the batch back. Only while the engine's queue is full, a batch that still waits
    /// for room is withdrawn with its future.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>>;

    /// Ends the engine: what was taken is committed and on disk when this returns. Later calls of any method give
    /// `Closed`; closing again does nothing.
    ///
    /// # Errors
    /// [`StoreError`] when what was taken could not be brought to disk.
    ///
    /// # Cancel safety
    /// The engine ends even if the future is dropped.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What the engine is and where it keeps things, for people: one line.
    fn describe(&self) -> String;
}

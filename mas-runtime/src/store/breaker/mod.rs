//! A deadline and a circuit around any engine: a disk that is stuck fails its callers fast, and serves them again by itself.
//!
//! | circuit | calls | becomes |
//! |---|---|---|
//! | closed | reach the engine, each under the deadline | open, when one takes too long or commits fail again and again |
//! | open | fail at once | half-open, after a pause |
//! | half-open | fail at once; one empty batch, the probe, is with the engine | closed when it is committed, open again when it fails |
//!
//! A probe that is not answered stays the only one: it is awaited for as long as it takes. A commit that timed out was
//! given to the engine before the probe, and an engine commits in the order of the calls. So once the circuit is closed
//! again, reads tell what became of every such commit.
//!
//! It keeps nothing and repeats nothing: whether a call that failed is tried again is decided above.
//!
//! | file | holds |
//! |---|---|
//! | `circuit` | the circuit, and the task that probes the engine |
//! | `call` | one call under the deadline |

mod call;
mod circuit;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use call::Watched;
use circuit::Circuit;

use super::traits::{
    BoxFuture, Commit, Directory, Engine, Inbox, Journal, ReadFuture, Secrets, StateStore,
};
use super::{
    Batch, CommitError, Committed, DeadEntry, DedupEntry, DirectoryEntry, InboxEntry, JournalEntry,
    OutboxEntry, SecretBytes, StoreError, StoredState, TimerEntry,
};
use crate::model::{AgentId, Clock, MessageId, Priority};

pub(crate) use circuit::CircuitChange;

/// Any engine, behind a deadline and a circuit.
///
/// Where there is no tokio there is no deadline, and the circuit stays closed.
pub(crate) struct Breaker {
    engine: Arc<dyn Engine>,
    circuit: Arc<Circuit>,
}

impl Breaker {
    /// Guards `engine`. `told` hears once of each change of the circuit, from whichever task brought it about: it must not
    /// block.
    ///
    /// Timers and the probe run on the tokio runtime that this is called on.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        told: impl Fn(CircuitChange) + Send + Sync + 'static,
    ) -> Self {
        let circuit = Circuit::new(&engine, clock, deadline, Box::new(told));
        Self {
            engine,
            circuit: Arc::new(circuit),
        }
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        action: &'static str,
        read: impl FnOnce(&'a dyn Engine) -> ReadFuture<'a, T>,
    ) -> ReadFuture<'a, T> {
        match self.circuit.refusal() {
            Some(error) => Box::pin(ready(Err(error))),
            None => Box::pin(Watched::new(&self.circuit, action, read(&*self.engine))),
        }
    }
}

impl Commit for Breaker {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        if let Some(error) = self.circuit.refusal() {
            return Box::pin(ready(Err(error.into())));
        }
        // Given to the engine here, not at the first poll: batches are applied in the order of the calls.
        let commit = self.engine.commit(batch);
        Box::pin(Watched::new(&self.circuit, "commit a batch", commit))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.circuit.end();
        let close = self.engine.close();
        Box::pin(Watched::new(&self.circuit, "close", close))
    }

    fn describe(&self) -> String {
        self.engine.describe()
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.circuit.end();
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("engine", &self.engine.describe())
            .field("circuit", &self.circuit)
            .finish()
    }
}

impl StateStore for Breaker {
    fn load_state(&self, agent: &AgentId) -> ReadFuture<'_, Option<StoredState>> {
        self.read("load a state", |engine| engine.load_state(agent))
    }
}

impl Inbox for Breaker {
    fn inbox_page(
        &self,
        agent: &AgentId,
        lane: Priority,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<InboxEntry>> {
        self.read("read an inbox", |engine| {
            engine.inbox_page(agent, lane, after, limit)
        })
    }

    fn inbox_counts(&self, agent: &AgentId) -> ReadFuture<'_, [u64; 5]> {
        self.read("count an inbox", |engine| engine.inbox_counts(agent))
    }

    fn outbox_page(
        &self,
        agent: &AgentId,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<OutboxEntry>> {
        self.read("read an outbox", |engine| {
            engine.outbox_page(agent, after, limit)
        })
    }

    fn outbox_agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<AgentId>> {
        self.read("list the outboxes", |engine| {
            engine.outbox_agents(after, limit)
        })
    }

    fn dedup(&self, agent: &AgentId, id: MessageId) -> ReadFuture<'_, Option<DedupEntry>> {
        self.read("look up a message id", |engine| engine.dedup(agent, id))
    }

    fn dedup_page(
        &self,
        agent: &AgentId,
        after: Option<MessageId>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<DedupEntry>> {
        self.read("list message ids", |engine| {
            engine.dedup_page(agent, after, limit)
        })
    }

    fn timers(
        &self,
        agent: &AgentId,
        after: Option<u64>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<TimerEntry>> {
        self.read("list timers", |engine| engine.timers(agent, after, limit))
    }

    fn dead_letters(&self, after: u64, limit: usize) -> ReadFuture<'_, Vec<DeadEntry>> {
        self.read("list dead letters", |engine| {
            engine.dead_letters(after, limit)
        })
    }

    fn dead_letter(&self, seq: u64) -> ReadFuture<'_, Option<DeadEntry>> {
        self.read("read a dead letter", |engine| engine.dead_letter(seq))
    }
}

impl Directory for Breaker {
    fn agent(&self, agent: &AgentId) -> ReadFuture<'_, Option<DirectoryEntry>> {
        self.read("look up an agent", |engine| engine.agent(agent))
    }

    fn agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<DirectoryEntry>> {
        self.read("list agents", |engine| engine.agents(after, limit))
    }
}

impl Journal for Breaker {
    fn journal_page(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<JournalEntry>> {
        self.read("read a journal", |engine| {
            engine.journal_page(journal, from, limit)
        })
    }

    fn journal_end(&self, journal: &str) -> ReadFuture<'_, u64> {
        self.read("find the end of a journal", |engine| {
            engine.journal_end(journal)
        })
    }

    fn journal_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>> {
        self.read("list journals", |engine| {
            engine.journal_names(prefix, after, limit)
        })
    }
}

impl Secrets for Breaker {
    fn secret(&self, name: &str) -> ReadFuture<'_, Option<SecretBytes>> {
        self.read("read a secret", |engine| engine.secret(name))
    }

    fn secret_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>> {
        self.read("list secrets", |engine| {
            engine.secret_names(prefix, after, limit)
        })
    }
}

//! Any engine, failing when told to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::model::{AgentId, MessageId, Priority};
use crate::store::{
    Batch, BoxFuture, Commit, CommitError, Committed, DeadEntry, DedupEntry, Directory,
    DirectoryEntry, Engine, Inbox, InboxEntry, Journal, JournalEntry, OutboxEntry, ReadFuture,
    SecretBytes, Secrets, StateStore, StoreError, StoredState, TimerEntry,
};

/// What an engine suffers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Every commit fails: the disk gives errors.
    Errors,
    /// Every commit fails: no room is left.
    DiskFull,
    /// Every read fails: the disk takes, and does not give.
    Reads,
    /// Every commit takes this long.
    Slow(Duration),
    /// Every commit is stored and answered by an error: the engine can't tell.
    StoredThenError,
}

/// Any engine, failing when told to. Clones are handles to the same one.
#[derive(Clone)]
pub struct FaultyEngine {
    engine: Arc<dyn Engine>,
    fault: Arc<Mutex<Option<Fault>>>,
    look: Arc<OnceLock<Look>>,
}

/// Sees a batch before it is committed.
type Look = Box<dyn Fn(&Batch) + Send + Sync>;

impl FaultyEngine {
    /// An engine that works until told otherwise.
    pub fn new(engine: impl Engine + 'static) -> Self {
        Self {
            engine: Arc::new(engine),
            fault: Arc::default(),
            look: Arc::default(),
        }
    }

    /// Shows each batch to `look` before it is committed, by the thread that commits it. The first to look stays.
    pub fn on_commit(&self, look: impl Fn(&Batch) + Send + Sync + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    /// Suffers from this from now on.
    pub fn suffer(&self, fault: Fault) {
        *self.fault() = Some(fault);
    }

    /// Works again.
    pub fn heal(&self) {
        *self.fault() = None;
    }

    fn fault(&self) -> MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, unless reads fail.
    fn read<'a, T: Send + 'a>(
        &'a self,
        read: impl FnOnce(&'a dyn Engine) -> ReadFuture<'a, T>,
    ) -> ReadFuture<'a, T> {
        if *self.fault() == Some(Fault::Reads) {
            let error = StoreError::io("read: a fault was asked for", io::ErrorKind::Other.into());
            return Box::pin(std::future::ready(Err(error)));
        }
        read(&*self.engine)
    }
}

impl std::fmt::Debug for FaultyEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyEngine")
            .field("engine", &self.engine.describe())
            .field("fault", &*self.fault())
            .finish()
    }
}

impl Commit for FaultyEngine {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        let failed = |kind: io::ErrorKind| {
            let error = CommitError::io("commit: a fault was asked for", kind.into());
            Box::pin(std::future::ready(Err(error))) as BoxFuture<'static, _>
        };
        if let Some(look) = self.look.get() {
            look(&batch);
        }
        let fault = *self.fault();
        match fault {
            None | Some(Fault::Reads) => self.engine.commit(batch),
            Some(Fault::Errors) => failed(io::ErrorKind::Other),
            Some(Fault::DiskFull) => failed(io::ErrorKind::StorageFull),
            Some(Fault::StoredThenError) => {
                let stored = self.engine.commit(batch);
                Box::pin(async move {
                    stored.await?;
                    failed(io::ErrorKind::Other).await
                })
            }
            Some(Fault::Slow(wait)) => {
                let commit = self.engine.commit(batch);
                Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    commit.await
                })
            }
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.engine.close()
    }

    fn describe(&self) -> String {
        format!("{}, with faults", self.engine.describe())
    }
}

impl StateStore for FaultyEngine {
    fn load_state(&self, agent: &AgentId) -> ReadFuture<'_, Option<StoredState>> {
        self.read(|engine| engine.load_state(agent))
    }
}

impl Inbox for FaultyEngine {
    fn inbox_page(
        &self,
        agent: &AgentId,
        lane: Priority,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<InboxEntry>> {
        self.read(|engine| engine.inbox_page(agent, lane, after, limit))
    }

    fn inbox_counts(&self, agent: &AgentId) -> ReadFuture<'_, [u64; 5]> {
        self.read(|engine| engine.inbox_counts(agent))
    }

    fn outbox_page(
        &self,
        agent: &AgentId,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<OutboxEntry>> {
        self.read(|engine| engine.outbox_page(agent, after, limit))
    }

    fn outbox_agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<AgentId>> {
        self.read(|engine| engine.outbox_agents(after, limit))
    }

    fn dedup(&self, agent: &AgentId, id: MessageId) -> ReadFuture<'_, Option<DedupEntry>> {
        self.read(|engine| engine.dedup(agent, id))
    }

    fn dedup_page(
        &self,
        agent: &AgentId,
        after: Option<MessageId>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<DedupEntry>> {
        self.read(|engine| engine.dedup_page(agent, after, limit))
    }

    fn timers(
        &self,
        agent: &AgentId,
        after: Option<u64>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<TimerEntry>> {
        self.read(|engine| engine.timers(agent, after, limit))
    }

    fn dead_letters(&self, after: u64, limit: usize) -> ReadFuture<'_, Vec<DeadEntry>> {
        self.read(|engine| engine.dead_letters(after, limit))
    }

    fn dead_letter(&self, seq: u64) -> ReadFuture<'_, Option<DeadEntry>> {
        self.read(|engine| engine.dead_letter(seq))
    }
}

impl Directory for FaultyEngine {
    fn agent(&self, agent: &AgentId) -> ReadFuture<'_, Option<DirectoryEntry>> {
        self.read(|engine| engine.agent(agent))
    }

    fn agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<DirectoryEntry>> {
        self.read(|engine| engine.agents(after, limit))
    }
}

impl Journal for FaultyEngine {
    fn journal_page(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<JournalEntry>> {
        self.read(|engine| engine.journal_page(journal, from, limit))
    }

    fn journal_end(&self, journal: &str) -> ReadFuture<'_, u64> {
        self.read(|engine| engine.journal_end(journal))
    }

    fn journal_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>> {
        self.engine.journal_names(prefix, after, limit)
    }
}

impl Secrets for FaultyEngine {
    fn secret(&self, name: &str) -> ReadFuture<'_, Option<SecretBytes>> {
        self.read(|engine| engine.secret(name))
    }

    fn secret_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>> {
        self.read(|engine| engine.secret_names(prefix, after, limit))
    }
}

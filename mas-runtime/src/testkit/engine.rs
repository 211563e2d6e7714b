//! Any engine, failing when told to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::{AgentId, MessageId, Priority};
use crate::store::{
    Batch, BoxFuture, Commit, CommitError, Committed, DeadEntry, DedupEntry, Directory,
    DirectoryEntry, Durability, Engine, Inbox, InboxEntry, Journal, JournalEntry, OutboxEntry,
    ReadFuture, SecretBytes, Secrets, StateStore, StoreError, StoredState, TimerEntry,
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
    /// Every commit is stored and answered by an error: no room was left to be sure, and the engine can't tell.
    StoredThenError,
    /// No durable commit is answered before [`FaultyEngine::heal`]: the disk takes all, and its sync hangs.
    StuckSync,
    /// No call is answered before [`FaultyEngine::heal`]: the disk hangs. Then all that came meanwhile are, in their order,
    /// and commits take effect whether anybody waits for them still or not.
    Stuck,
}

/// Any engine, failing when told to. Clones are handles to the same one.
#[derive(Clone)]
pub struct FaultyEngine {
    engine: Arc<dyn Engine>,
    health: Arc<Mutex<Health>>,
    look: Arc<OnceLock<Look>>,
}

#[derive(Default)]
struct Health {
    fault: Option<Fault>,
    /// What came while it was stuck.
    stuck: Vec<Held>,
}

/// A call of a stuck engine, and who waits for it.
enum Held {
    Commit(Batch, oneshot::Sender<CommitFuture>),
    Sync(oneshot::Sender<()>),
    Read(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

type CommitFuture = BoxFuture<'static, Result<Committed, CommitError>>;

/// Sees a batch before it is committed.
type Look = Box<dyn Fn(&Batch) + Send + Sync>;

impl FaultyEngine {
    /// An engine that works until told otherwise.
    pub fn new(engine: impl Engine + 'static) -> Self {
        Self {
            engine: Arc::new(engine),
            health: Arc::default(),
            look: Arc::default(),
        }
    }

    /// Shows each batch to `look` before it is committed, by the thread that commits it. The first to look stays.
    pub fn on_commit(&self, look: impl Fn(&Batch) + Send + Sync + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    /// Suffers from this from now on.
    pub fn suffer(&self, fault: Fault) {
        self.health().fault = Some(fault);
    }

    /// Works again.
    pub fn heal(&self) {
        let mut health = self.health();
        health.fault = None;
        // Under the lock: what comes now comes behind what was held.
        for held in health.stuck.drain(..) {
            // Who has gone does not hear of it. The call counts all the same.
            match held {
                Held::Commit(batch, answer) => drop(answer.send(self.engine.commit(batch))),
                Held::Read(go) | Held::Sync(go) => {
                    let _ = go.send(());
                }
                Held::Close(go) => {
                    drop(self.engine.close());
                    let _ = go.send(());
                }
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a call until the engine is healed, if it is stuck.
    fn hold(&self, held: fn(oneshot::Sender<()>) -> Held) -> Option<oneshot::Receiver<()>> {
        let mut health = self.health();
        if health.fault != Some(Fault::Stuck) {
            return None;
        }
        let (go, gone) = oneshot::channel();
        health.stuck.push(held(go));
        Some(gone)
    }

    /// Reads, unless reads fail.
    fn read<'a, T: Send + 'a>(
        &'a self,
        read: impl FnOnce(&'a dyn Engine) -> ReadFuture<'a, T>,
    ) -> ReadFuture<'a, T> {
        if self.health().fault == Some(Fault::Reads) {
            let error = StoreError::io("read: a fault was asked for", io::ErrorKind::Other.into());
            return Box::pin(std::future::ready(Err(error)));
        }
        let healed = self.hold(Held::Read);
        let answer = read(&*self.engine);
        match healed {
            None => answer,
            Some(healed) => Box::pin(async move {
                released(healed).await;
                answer.await
            }),
        }
    }
}

/// Waits for what a healed engine gives. One that is dropped while it is stuck never answers.
async fn released<T>(healed: oneshot::Receiver<T>) -> T {
    match healed.await {
        Ok(released) => released,
        Err(_) => std::future::pending().await,
    }
}

impl std::fmt::Debug for FaultyEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyEngine")
            .field("engine", &self.engine.describe())
            .field("fault", &self.health().fault)
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
        let mut health = self.health();
        match health.fault {
            Some(Fault::Stuck) => {
                let (answer, answered) = oneshot::channel();
                health.stuck.push(Held::Commit(batch, answer));
                Box::pin(async move { released(answered).await.await })
            }
            Some(Fault::StuckSync) if batch.level() == Durability::Durable => {
                let (go, synced) = oneshot::channel();
                health.stuck.push(Held::Sync(go));
                let commit = self.engine.commit(batch);
                Box::pin(async move {
                    released(synced).await;
                    commit.await
                })
            }
            None | Some(Fault::Reads | Fault::StuckSync) => self.engine.commit(batch),
            Some(Fault::Errors) => failed(io::ErrorKind::Other),
            Some(Fault::DiskFull) => failed(io::ErrorKind::StorageFull),
            Some(Fault::StoredThenError) => {
                let stored = self.engine.commit(batch);
                Box::pin(async move {
                    stored.await?;
                    failed(io::ErrorKind::StorageFull).await
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
        match self.hold(Held::Close) {
            None => self.engine.close(),
            Some(healed) => Box::pin(async move {
                released(healed).await;
                self.engine.close().await
            }),
        }
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
        self.read(|engine| engine.journal_names(prefix, after, limit))
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

//! The engine that a runtime's parts see: the runtime's own, and a memory engine for agents that keep things in memory.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use super::{Home, Levels, Part, part_of};
use crate::model::{AgentId, MessageId, Priority};
use crate::store::{
    Batch, BoxFuture, Commit, CommitError, Committed, DeadEntry, DedupEntry, Directory,
    DirectoryEntry, Engine, Inbox, InboxEntry, Journal, JournalEntry, MemoryEngine, Op,
    OutboxEntry, ReadFuture, SecretBytes, Secrets, StateStore, StoreError, StoredState, TimerEntry,
};

/// Dead letters of the memory engine are numbered from here on, so that their numbers never meet those of the engine.
pub(super) const MEMORY_LETTERS_FROM: u64 = 1 << 61;

/// Sends each read to where its agent is at home, and each batch, too, at the level that [`Levels::of_batch`] gives it,
/// whatever level it came with.
///
/// Journals and secrets are in the engine. The removal of an agent reaches both homes.
pub(in crate::runtime) struct LeveledEngine<E> {
    levels: Arc<Levels>,
    engine: E,
    memory: MemoryEngine,
}

impl<E: Engine> LeveledEngine<E> {
    pub(in crate::runtime) fn new(levels: Arc<Levels>, engine: E) -> Self {
        Self {
            levels,
            engine,
            memory: MemoryEngine::new(),
        }
    }

    fn home(&self, agent: &AgentId) -> &dyn Engine {
        match self.levels.home(agent) {
            Home::Engine => &self.engine,
            Home::Memory => &self.memory,
        }
    }

    /// Commits a batch that is at home in memory.
    fn commit_in_memory(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        let mut own = Batch::new();
        let mut gives_letter = Vec::new();
        for mut op in batch.into_ops() {
            if let Op::DeadRemove { seq } | Op::DeadRetry { seq, .. } = &mut op {
                *seq -= MEMORY_LETTERS_FROM;
            }
            match op {
                Op::InboxBury { .. } | Op::DeadPut { .. } => gives_letter.push(true),
                Op::InboxAppend { .. } | Op::OutboxPut { .. } | Op::DeadRetry { .. } => {
                    gives_letter.push(false);
                }
                _ => {}
            }
            own.push(op);
        }
        let commit = self.memory.commit(own);
        Box::pin(async move {
            let mut committed = commit.await?;
            for (seq, is_letter) in committed.seqs.iter_mut().zip(gives_letter) {
                *seq += if is_letter { MEMORY_LETTERS_FROM } else { 0 };
            }
            Ok(committed)
        })
    }

    /// The removals of a batch, for those that are at home in memory.
    fn remove_from_memory(&self, ops: &[Op]) {
        let removals = ops
            .iter()
            .filter(|op| matches!(part_of(op), Part::Operator));
        let removals = removals.fold(Batch::new(), |batch, op| batch.with(op.clone()));
        if !removals.is_empty() {
            // Done when the call returns: it has no condition, and a memory engine never waits.
            drop(self.memory.commit(removals));
        }
    }
}

/// Where the dead letter of this number is.
pub(in crate::runtime) const fn home_of_letter(number: u64) -> Home {
    if number < MEMORY_LETTERS_FROM {
        Home::Engine
    } else {
        Home::Memory
    }
}

/// One of its agents was spawned at another durability since the batch was made: made again, it has one home.
fn spans() -> CommitError {
    CommitError::Unavailable {
        reason: "the batch changes what is on disk and what is in memory, which can't be one step"
            .into(),
        retry_after: Duration::ZERO,
    }
}

const fn entered(entry: &DirectoryEntry) -> &AgentId {
    &entry.agent
}

/// Two pages of one order as one page. What lies behind the end of either may be missing from it.
fn merged<T>(mut page: Vec<T>, other: Vec<T>, id: fn(&T) -> &AgentId, limit: usize) -> Vec<T> {
    let ends = [page.last(), other.last()].into_iter().flatten();
    let Some(end) = ends.map(|last| id(last).clone()).min() else {
        return page;
    };
    page.extend(other);
    page.retain(|entry| *id(entry) <= end);
    page.sort_by(|one, other| id(one).cmp(id(other)));
    page.dedup_by(|one, other| id(one) == id(other));
    page.truncate(limit);
    page
}

impl<E: Engine> Commit for LeveledEngine<E> {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        match self.levels.of_batch(batch.ops()) {
            Some((Home::Engine, level)) => {
                self.remove_from_memory(batch.ops());
                self.engine.commit(batch.durability(level))
            }
            Some((Home::Memory, _)) => self.commit_in_memory(batch),
            None => Box::pin(ready(Err(spans()))),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        drop(self.memory.close());
        self.engine.close()
    }

    fn describe(&self) -> String {
        self.engine.describe()
    }
}

impl<E: Engine> fmt::Debug for LeveledEngine<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeveledEngine")
            .field("levels", &self.levels)
            .field("engine", &self.engine.describe())
            .field("memory", &self.memory)
            .finish()
    }
}

impl<E: Engine> StateStore for LeveledEngine<E> {
    fn load_state(&self, agent: &AgentId) -> ReadFuture<'_, Option<StoredState>> {
        self.home(agent).load_state(agent)
    }
}

impl<E: Engine> Inbox for LeveledEngine<E> {
    fn inbox_page(
        &self,
        agent: &AgentId,
        lane: Priority,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<InboxEntry>> {
        self.home(agent).inbox_page(agent, lane, after, limit)
    }

    fn inbox_counts(&self, agent: &AgentId) -> ReadFuture<'_, [u64; 5]> {
        self.home(agent).inbox_counts(agent)
    }

    fn outbox_page(
        &self,
        agent: &AgentId,
        after: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<OutboxEntry>> {
        self.home(agent).outbox_page(agent, after, limit)
    }

    fn outbox_agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<AgentId>> {
        let page = self.engine.outbox_agents(after, limit);
        let other = self.memory.outbox_agents(after, limit);
        Box::pin(async move { Ok(merged(page.await?, other.await?, |agent| agent, limit)) })
    }

    fn dedup(&self, agent: &AgentId, id: MessageId) -> ReadFuture<'_, Option<DedupEntry>> {
        self.home(agent).dedup(agent, id)
    }

    fn dedup_page(
        &self,
        agent: &AgentId,
        after: Option<MessageId>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<DedupEntry>> {
        self.home(agent).dedup_page(agent, after, limit)
    }

    fn timers(
        &self,
        agent: &AgentId,
        after: Option<u64>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<TimerEntry>> {
        self.home(agent).timers(agent, after, limit)
    }

    fn dead_letters(&self, after: u64, limit: usize) -> ReadFuture<'_, Vec<DeadEntry>> {
        Box::pin(async move {
            if home_of_letter(after) == Home::Engine {
                let page = self.engine.dead_letters(after, limit).await?;
                if !page.is_empty() {
                    return Ok(page);
                }
            }
            let after = after.saturating_sub(MEMORY_LETTERS_FROM);
            let mut page = self.memory.dead_letters(after, limit).await?;
            for entry in &mut page {
                entry.seq += MEMORY_LETTERS_FROM;
            }
            Ok(page)
        })
    }

    fn dead_letter(&self, seq: u64) -> ReadFuture<'_, Option<DeadEntry>> {
        match seq.checked_sub(MEMORY_LETTERS_FROM) {
            None => self.engine.dead_letter(seq),
            Some(own) => Box::pin(async move {
                let mut entry = self.memory.dead_letter(own).await?;
                entry.iter_mut().for_each(|entry| entry.seq = seq);
                Ok(entry)
            }),
        }
    }
}

impl<E: Engine> Directory for LeveledEngine<E> {
    fn agent(&self, agent: &AgentId) -> ReadFuture<'_, Option<DirectoryEntry>> {
        self.home(agent).agent(agent)
    }

    fn agents(&self, after: Option<&AgentId>, limit: usize) -> ReadFuture<'_, Vec<DirectoryEntry>> {
        let page = self.engine.agents(after, limit);
        let other = self.memory.agents(after, limit);
        Box::pin(async move { Ok(merged(page.await?, other.await?, entered, limit)) })
    }
}

impl<E: Engine> Journal for LeveledEngine<E> {
    fn journal_page(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> ReadFuture<'_, Vec<JournalEntry>> {
        self.engine.journal_page(journal, from, limit)
    }

    fn journal_end(&self, journal: &str) -> ReadFuture<'_, u64> {
        self.engine.journal_end(journal)
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

impl<E: Engine> Secrets for LeveledEngine<E> {
    fn secret(&self, name: &str) -> ReadFuture<'_, Option<SecretBytes>> {
        self.engine.secret(name)
    }

    fn secret_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> ReadFuture<'_, Vec<String>> {
        self.engine.secret_names(prefix, after, limit)
    }
}

//! What durable handlers have sent to targets that had no room, were not here, or keep no inbox.
//!
//! Such a message is committed to its sender's outbox. One worker a sender brings its entries on their way, in order for
//! each target: into an inbox by one batch that also takes the entry out; or into a mailbox, or an inbox that is kept in
//! another place than the outbox, and takes it out then. An entry whose target is unknown waits for it to be spawned, at
//! most [`OUTBOX_PATIENCE`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Inner;
use crate::actor::{Draft, Handle, Host, SendError, Sending};
use crate::model::limits::{OUTBOX_ENTRIES_MAX, OUTBOX_PATIENCE};
use crate::model::{AgentId, Envelope, decode_envelope};
use crate::store::{Batch, CommitError, Op, OutboxEntry, StoreError};

const PAGE: usize = 256;

/// The outboxes of all senders of one runtime.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    workers: BTreeMap<AgentId, Arc<Bell>>,
    counts: BTreeMap<AgentId, Count>,
}

/// What wakes a worker.
#[derive(Debug)]
struct Bell {
    notify: Notify,
    /// Whether it must look at all entries once more, and not only at new ones.
    from_the_start: AtomicBool,
}

/// How much one outbox holds.
#[derive(Debug, Default)]
struct Count {
    /// Entries, planned ones counted.
    entries: usize,
    /// Planned ones whose commit has not been answered.
    planned: usize,
    /// Grows with each entry that is planned or answered for.
    moves: u64,
}

impl Outboxes {
    /// Whether a sender's outbox is empty: only then may a message pass it by.
    pub(super) fn is_clear(&self, sender: &AgentId) -> bool {
        !self.state().counts.contains_key(sender)
    }

    pub(super) fn has_room(&self, sender: &AgentId, staged: usize) -> bool {
        let state = self.state();
        let entries = state.counts.get(sender).map_or(0, |count| count.entries);
        entries + staged < OUTBOX_ENTRIES_MAX
    }

    /// An entry is about to be committed.
    pub(super) fn entered(&self, sender: &AgentId) {
        let mut state = self.state();
        let count = state.counts.entry(sender.clone()).or_default();
        count.entries += 1;
        count.planned += 1;
        count.moves += 1;
    }

    /// The commit of a planned entry was answered, whatever the answer.
    pub(super) fn settled(&self, sender: &AgentId) {
        if let Some(count) = self.state().counts.get_mut(sender) {
            count.planned = count.planned.saturating_sub(1);
            count.moves += 1;
        }
    }

    /// An entry was taken out, or not committed after all.
    pub(super) fn left(&self, sender: &AgentId) {
        let mut state = self.state();
        if let Some(count) = state.counts.get_mut(sender) {
            count.entries = count.entries.saturating_sub(1);
            if count.entries == 0 {
                state.counts.remove(sender);
            }
        }
    }

    /// A look that finds nothing, if nothing happens meanwhile, tells that the outbox is empty.
    fn look(&self, sender: &AgentId) -> Option<u64> {
        let state = self.state();
        let count = state.counts.get(sender)?;
        (count.planned == 0).then_some(count.moves)
    }

    /// The outbox was found empty: what was counted beyond that was never stored.
    fn found_empty(&self, sender: &AgentId, look: Option<u64>) {
        let mut state = self.state();
        if look.is_some() && state.counts.get(sender).map(|count| count.moves) == look {
            state.counts.remove(sender);
        }
    }

    /// There is something to do for a sender.
    pub(super) fn poke(&self, inner: &Arc<Inner>, sender: &AgentId) {
        let mut state = self.state();
        if let Some(worker) = state.workers.get(sender) {
            worker.notify.notify_one();
            return;
        }
        let bell = Arc::new(Bell {
            notify: Notify::new(),
            from_the_start: AtomicBool::new(true),
        });
        state.workers.insert(sender.clone(), Arc::clone(&bell));
        drop(state);
        let inner_task = Arc::clone(inner);
        let sender = sender.clone();
        inner.core.tasks.spawn(async move {
            work(&inner_task, &sender, &bell).await;
        });
    }

    /// An agent was spawned: whoever waits for it looks again.
    pub(super) fn poke_all(&self) {
        for worker in self.state().workers.values() {
            worker.look_at_all();
        }
    }

    /// Begins with what an earlier process left.
    pub(super) async fn recover(&self, inner: &Arc<Inner>) -> Result<(), StoreError> {
        let mut after: Option<AgentId> = None;
        loop {
            let engine = &inner.core.engine;
            let page = engine.outbox_agents(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            for sender in page {
                let mut count = 0;
                let mut seq = 0;
                loop {
                    let entries = engine.outbox_page(&sender, seq, PAGE).await?;
                    let Some(last) = entries.last() else { break };
                    seq = last.seq;
                    count += entries.len();
                }
                self.state()
                    .counts
                    .entry(sender.clone())
                    .or_default()
                    .entries = count;
                self.poke(inner, &sender);
            }
        }
    }

    /// Ends a worker that found its outbox empty. False when something has come since.
    fn retire(&self, sender: &AgentId) -> bool {
        let mut state = self.state();
        let done = !state.counts.contains_key(sender);
        if done {
            state.workers.remove(sender);
        }
        done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is left of what a sender has sent: its worker looks once more, and ends.
    pub(super) fn forget(&self, sender: &AgentId) {
        let mut state = self.state();
        state.counts.remove(sender);
        if let Some(worker) = state.workers.get(sender) {
            worker.look_at_all();
        }
    }
}

impl Bell {
    fn look_at_all(&self) {
        self.from_the_start.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// Brings one sender's entries on their way until none is left.
async fn work(inner: &Arc<Inner>, sender: &AgentId, bell: &Bell) {
    let clock = &inner.core.clock;
    let mut round = Round::default();
    let mut wait = LOOK_AGAIN_MIN;
    let mut again_at = clock.now() + wait;
    loop {
        if let Err(error) = pass(inner, sender, &mut round).await {
            tracing::warn!(agent = %sender, %error, "the outbox can't be worked on: trying again");
            round.is_held_up = true;
        }
        if inner.outboxes.retire(sender) || !inner.is_open() {
            return;
        }
        let now = clock.now();
        if round.is_held_up {
            again_at = again_at.min(now + LOOK_AGAIN_MIN);
        }
        // New entries ring. However often they do, all that stand before them are looked at again in time.
        let _ = tokio::time::timeout(again_at.since(now), bell.notify.notified()).await;
        let now = clock.now();
        if now >= again_at || bell.from_the_start.swap(false, Ordering::AcqRel) {
            wait = if round.has_moved || round.is_held_up {
                LOOK_AGAIN_MIN
            } else {
                (wait * 2).min(LOOK_AGAIN_MAX)
            };
            again_at = now + wait;
            round.begin();
        }
    }
}

/// How often a worker looks whether what is held up can go on: what waits for room, or for the engine.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(500);

/// What only waits for a spawn, which rings: this is for those that have waited long enough.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(8);

/// How far a worker has come.
#[derive(Default)]
struct Round {
    /// The last entry that it has looked at.
    after: u64,
    /// The targets that had no room, or were not here: what is behind for the same target waits.
    blocked: BTreeSet<AgentId>,
    /// Whether something went on its way.
    has_moved: bool,
    /// Whether something waits for anything but a spawn.
    is_held_up: bool,
    /// What was handed over and is still in the outbox, because it could not be taken out.
    sent: BTreeSet<u64>,
}

impl Round {
    /// Looks at everything again.
    fn begin(&mut self) {
        self.after = 0;
        self.blocked.clear();
        self.has_moved = false;
        self.is_held_up = false;
    }
}

/// Why an entry stays where it is, and those behind it for the same target.
enum Stays {
    /// Its target is not here.
    Missing,
    /// Its target has no room or is out of reach, or the engine did not take it.
    Blocked,
}

/// Looks at what stands behind the last entry that was looked at.
async fn pass(inner: &Arc<Inner>, sender: &AgentId, round: &mut Round) -> Result<(), StoreError> {
    loop {
        let look = inner.outboxes.look(sender);
        let engine = &inner.core.engine;
        let page = engine.outbox_page(sender, round.after, PAGE).await?;
        let Some(last) = page.last().map(|entry| entry.seq) else {
            if round.after == 0 {
                inner.outboxes.found_empty(sender, look);
            }
            return Ok(());
        };
        for entry in page {
            bring(inner, sender, &entry, round).await;
        }
        round.after = last;
    }
}

/// Brings one entry on its way, if nothing before it waits for the same target.
async fn bring(inner: &Arc<Inner>, sender: &AgentId, entry: &OutboxEntry, round: &mut Round) {
    if round.sent.contains(&entry.seq) {
        take_out(inner, sender, entry.seq, &mut round.sent).await;
        round.is_held_up |= round.sent.contains(&entry.seq);
        return;
    }
    let envelope = match decode_envelope(&entry.envelope, &*inner.core.clock) {
        Ok(envelope) => envelope,
        Err(error) => return bury(inner, sender, entry, None, error.to_string()).await,
    };
    let target = envelope.target.clone();
    if round.blocked.contains(&target) {
        return;
    }
    let parted = inner.is_parted(sender, &target);
    let gone = if parted {
        Err(Stays::Blocked)
    } else {
        send(inner, sender, entry, envelope, &mut round.sent).await
    };
    match gone {
        Ok(()) => {
            round.has_moved = true;
            return;
        }
        Err(Stays::Missing) => {}
        Err(Stays::Blocked) => round.is_held_up = true,
    }
    round.blocked.insert(target);
}

/// Brings one entry on its way.
async fn send(
    inner: &Arc<Inner>,
    sender: &AgentId,
    entry: &OutboxEntry,
    envelope: Envelope,
    sent: &mut BTreeSet<u64>,
) -> Result<(), Stays> {
    let id = envelope.id;
    let target = envelope.target.clone();
    // A target has its time to be spawned after a restart, too.
    let since = id.unix().max(inner.started);
    let age = inner.core.clock.unix().saturating_sub(since);
    let remove = Op::OutboxRemove {
        agent: sender.clone(),
        seq: entry.seq,
    };
    let port = inner.port(&target);
    let kept = port.as_ref().is_some_and(|port| port.window.is_some())
        || (port.is_none() && inner.registry.is_kept(&target));
    if port.is_none() && !kept {
        if age < OUTBOX_PATIENCE {
            return Err(Stays::Missing);
        }
        let reason = format!("no agent `{target}` was spawned within {OUTBOX_PATIENCE:?}");
        bury(inner, sender, entry, Some(envelope), reason).await;
        return Ok(());
    }
    let draft = draft_of(inner, envelope);
    if kept && inner.share_home(sender, &target) {
        let batch = Batch::new().with(remove);
        return match Arc::clone(inner).append(draft, batch).await {
            Ok(()) | Err(SendError::Commit(CommitError::Gone { .. })) => {
                inner.outboxes.left(sender);
                Ok(())
            }
            Err(error) => lasting(inner, sender, entry, &target, error).await,
        };
    }
    let handed = if kept {
        Arc::clone(inner).append(draft, Batch::new()).await
    } else {
        match inner.send(&draft.to, draft.letter) {
            Sending::Done(done) => done,
            Sending::Wait(wait) => wait.await,
        }
    };
    match handed {
        Ok(()) => {
            sent.insert(entry.seq);
            take_out(inner, sender, entry.seq, sent).await;
            Ok(())
        }
        Err(error) => lasting(inner, sender, entry, &target, error).await,
    }
}

/// Takes an entry out that was handed over.
async fn take_out(inner: &Arc<Inner>, sender: &AgentId, seq: u64, sent: &mut BTreeSet<u64>) {
    let remove = Op::OutboxRemove {
        agent: sender.clone(),
        seq,
    };
    match inner.core.engine.commit(Batch::new().with(remove)).await {
        Ok(_) | Err(CommitError::Gone { .. }) => {
            sent.remove(&seq);
            inner.outboxes.left(sender);
        }
        Err(error) => {
            tracing::warn!(agent = %sender, %error, "a sent entry is still in the outbox");
        }
    }
}

/// An entry that will never be taken is given up; any other stays.
async fn lasting(
    inner: &Arc<Inner>,
    sender: &AgentId,
    entry: &OutboxEntry,
    target: &AgentId,
    error: SendError,
) -> Result<(), Stays> {
    if !matches!(
        error,
        SendError::UnknownMessageType { .. } | SendError::Payload(_)
    ) {
        return Err(inner.keep(target, &error));
    }
    if let Ok(envelope) = decode_envelope(&entry.envelope, &*inner.core.clock) {
        bury(inner, sender, entry, Some(envelope), error.to_string()).await;
    }
    Ok(())
}

impl Inner {
    fn keep(&self, target: &AgentId, error: &SendError) -> Stays {
        tracing::debug!(%target, %error, "an outbox entry stays");
        Stays::Blocked
    }
}

/// The message that an entry stands for.
fn draft_of(inner: &Arc<Inner>, envelope: Envelope) -> Draft {
    let host: Arc<dyn Host> = Arc::clone(inner) as _;
    let to = Arc::new(Handle {
        port: inner.port(&envelope.target),
        id: envelope.target.clone(),
        host,
    });
    let mut draft = Draft::of(to, envelope);
    // A target without room holds up its own entries only.
    draft.letter.try_now = true;
    draft
}

/// Gives an entry up.
async fn bury(
    inner: &Arc<Inner>,
    sender: &AgentId,
    entry: &OutboxEntry,
    envelope: Option<Envelope>,
    reason: String,
) {
    let (target, id) = envelope.map_or_else(
        || (sender.clone(), crate::actor::NO_ID),
        |envelope| (envelope.target, envelope.id),
    );
    let batch = Batch::new()
        .with(Op::OutboxRemove {
            agent: sender.clone(),
            seq: entry.seq,
        })
        .with(Op::DeadPut {
            agent: target,
            id,
            envelope: entry.envelope.clone(),
            reason,
            at_unix_ms: inner.core.unix_ms(),
            attempts: 0,
            history: Vec::new(),
        });
    match inner.core.engine.commit(batch).await {
        Ok(_) | Err(CommitError::Gone { .. }) => inner.outboxes.left(sender),
        Err(error) => {
            tracing::warn!(agent = %sender, %error, "an outbox entry can't be buried yet")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_that_is_full_has_room_once_an_entry_has_left() {
        let outboxes = Outboxes::default();
        let sender = AgentId::new("sender").unwrap();
        for _ in 0..OUTBOX_ENTRIES_MAX {
            assert!(outboxes.has_room(&sender, 0));
            outboxes.entered(&sender);
        }
        assert!(!outboxes.has_room(&sender, 0));
        outboxes.left(&sender);
        assert!(outboxes.has_room(&sender, 0));
    }
}

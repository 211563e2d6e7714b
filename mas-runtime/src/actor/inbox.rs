//! The part of a durable inbox that is in memory.
//!
//! The inbox itself is in the engine. Entries come into memory when they are appended and there is room, or by a refill
//! when half of the room is free again; they leave it when they settle. An entry that a crash left behind is in the engine
//! still, and is loaded again by the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::backoff::REDELIVERY;
use super::delivery::{Answer, Asker, Delivery};
use super::error::ended;
use super::event::EndReason;
use super::flights::Flights;
use super::hand::Taken;
use super::host::{Core, Host};
use super::kept::{Seen, decode_answer};
use super::port::Port;
use super::settle::bury;
use crate::model::limits::{DEDUP_AGE_MAX, INBOX_ENTRIES_MAX};
use crate::model::{AgentId, Failure, MessageId, Payload, Priority, decode_envelope};
use crate::store::{Batch, CommitError, InboxEntry, Op, StoreError};

/// Entries that one read of the engine brings at most.
const PAGE: usize = 256;

/// An envelope's entry in the durable inbox.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) lane: Priority,
    pub(crate) seq: u64,
    pub(crate) id: MessageId,
    /// Attempts so far, this one not counted.
    pub(crate) attempts: u32,
    /// The envelope as it is stored: what another attempt starts from.
    pub(crate) stored: Bytes,
    /// Tries against a state that others keep moving.
    pub(crate) conflicts: u32,
}

/// Why an entry is no delivery.
enum Unread {
    /// Its agent has ended: it waits for the next.
    Ended,
    /// It never will be.
    Never(String),
}

/// The part of one agent id's durable inbox that is in memory.
pub(crate) struct Window {
    agent: AgentId,
    host: Arc<dyn Host>,
    port: OnceLock<Weak<Port>>,
    capacity: usize,
    /// One permit for each entry that the inbox may still take.
    room: Semaphore,
    state: Mutex<State>,
    /// Its agent has ended: nothing is tried again.
    over: CancellationToken,
}

#[derive(Default)]
struct State {
    /// Sequence numbers of the entries in memory: waiting, in hand, or waiting for another attempt.
    loaded: BTreeSet<u64>,
    /// Whether the engine holds entries that are not in memory.
    more: bool,
    refilling: bool,
    /// What settled while a refill was reading a page: it may stand on it.
    settled: BTreeSet<u64>,
    /// Entries that have taken room, or wait for some, and are not stored yet.
    appending: usize,
    flights: Flights,
    /// Whether somebody looks for the entries in doubt.
    looking: bool,
    /// Grows with each entry that comes or goes.
    moves: u64,
    askers: BTreeMap<MessageId, Vec<Asker>>,
    seen: Seen,
    /// Ids of messages that instances have taken up.
    in_hand: BTreeSet<MessageId>,
    /// Ids whose commit the engine could not answer for: it may remember them, or not.
    doubtful: BTreeSet<MessageId>,
}

impl Window {
    pub(crate) fn new(agent: AgentId, host: Arc<dyn Host>, capacity: usize) -> Self {
        Self {
            agent,
            host,
            port: OnceLock::new(),
            capacity,
            // Nobody gets in before it is known what is in it already.
            room: Semaphore::new(0),
            // Nothing is loaded before it is open.
            state: Mutex::new(State {
                refilling: true,
                ..State::default()
            }),
            over: CancellationToken::new(),
        }
    }

    /// Its agent has ended: whoever waits, for an answer or for room, hears so.
    pub(crate) fn close(&self, reason: &EndReason) {
        self.room.close();
        self.over.cancel();
        let askers = std::mem::take(&mut self.state().askers);
        for asker in askers.into_values().flatten() {
            asker.answer(Err(ended(&self.agent, reason)));
        }
    }

    /// Joins the window to its port, loads what is remembered, and begins to load what waits. Before any instance runs:
    /// what comes meanwhile waits for room, and is handled behind what is on disk.
    pub(crate) async fn open(self: &Arc<Self>, port: &Arc<Port>) -> Result<(), StoreError> {
        let _ = self.port.set(Arc::downgrade(port));
        let engine = &self.host.core().engine;
        let waiting: u64 = engine.inbox_counts(&self.agent).await?.iter().sum();
        let taken = usize::try_from(waiting).unwrap_or(usize::MAX);
        let mut after = None;
        loop {
            let page = engine.dedup_page(&self.agent, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let mut state = self.state();
            for entry in &page {
                state.seen.insert(entry.id, entry.expires_unix_ms);
            }
        }
        {
            let mut state = self.state();
            state.more |= waiting > 0;
            state.refilling = false;
        }
        self.room
            .add_permits(INBOX_ENTRIES_MAX.saturating_sub(taken));
        self.refill_if_low();
        Ok(())
    }

    /// Waits until the inbox has room for one entry more, and takes it. Whoever took room says [`Window::set_out`] or
    /// [`Window::give_room_back`].
    pub(crate) async fn make_room(self: &Arc<Self>) -> bool {
        let appending = Appending::begin(self);
        self.look_if_full();
        match self.room.acquire().await {
            Ok(permit) => {
                permit.forget();
                appending.goes_on();
                true
            }
            Err(_) => false,
        }
    }

    /// Takes room for one entry more if there is some.
    pub(crate) fn try_make_room(self: &Arc<Self>) -> bool {
        let appending = Appending::begin(self);
        self.look_if_full();
        match self.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                appending.goes_on();
                true
            }
            Err(_) => false,
        }
    }

    /// The entry that took room does not set out.
    pub(crate) fn give_room_back(&self) {
        let mut state = self.state();
        state.appended();
        self.room.add_permits(1);
    }

    /// The entry that took room is given to the engine now. Whoever gave it says [`Window::arrived`], [`Window::stored`],
    /// [`Window::not_stored`] or [`Window::may_be_stored`].
    pub(crate) fn set_out(&self, id: MessageId) {
        self.state().flights.set_out(id);
    }

    /// The entry that set out was not stored.
    pub(crate) fn not_stored(&self, id: MessageId) {
        self.state().flights.ended(id);
        self.give_room_back();
    }

    /// The engine could not answer for the entry that set out. It keeps its room until that is known.
    pub(crate) fn may_be_stored(self: &Arc<Self>, id: MessageId) {
        let mut state = self.state();
        state.appended();
        state.flights.doubt(id);
        drop(state);
        self.look_if_full();
        self.may_have_come();
    }

    /// The entry that set out is stored, and is loaded when it is its turn.
    pub(crate) fn stored(self: &Arc<Self>, id: MessageId) {
        let mut state = self.state();
        state.appended();
        state.flights.ended(id);
        drop(state);
        self.may_have_come();
    }

    /// An entry may be stored: whoever loads it looks.
    fn may_have_come(self: &Arc<Self>) {
        if self.over.is_cancelled() {
            self.tell_successor();
        } else {
            self.missed();
        }
    }

    /// An entry is stored for an agent that has ended meanwhile. Its id may have been spawned again.
    fn tell_successor(&self) {
        let port = self.host.port(&self.agent);
        let window = port.and_then(|port| port.window.clone());
        if let Some(window) = window
            && !window.over.is_cancelled()
        {
            window.missed();
        }
    }

    /// Remembers who waits for the answer to a message, before it is appended.
    pub(crate) fn expect(&self, id: MessageId, asker: Asker) {
        self.state().askers.entry(id).or_default().push(asker);
    }

    /// Nobody will answer: the message was not appended.
    pub(crate) fn forget(&self, id: MessageId) -> Vec<Asker> {
        self.state().askers.remove(&id).unwrap_or_default()
    }

    pub(crate) fn sink(
        &self,
        id: MessageId,
    ) -> Option<tokio::sync::mpsc::Sender<super::delivery::Part>> {
        let state = self.state();
        state.askers.get(&id)?.iter().find_map(Asker::sink)
    }

    /// Whether a message of this id was handled already.
    pub(crate) fn has_seen(&self, id: MessageId) -> bool {
        self.state().seen.contains(id)
    }

    /// The entry that set out is stored: it goes into the mailbox if it is its turn, and was not loaded meanwhile.
    pub(crate) fn arrived(self: &Arc<Self>, seq: u64, delivery: Delivery) {
        let mut state = self.state();
        state.appended();
        let is_loaded = state.flights.arrived(delivery.id(), seq);
        if self.over.is_cancelled() {
            let id = delivery.id();
            drop(state);
            for asker in self.forget(id) {
                asker.answer(Err(ended(&self.agent, &EndReason::Stopped)));
            }
            return self.tell_successor();
        }
        if is_loaded {
            return;
        }
        // Behind what is on disk only, or it would overtake it.
        if state.more || state.refilling || state.loaded.len() >= self.capacity {
            state.more = true;
            drop(state);
            return self.refill_if_low();
        }
        state.loaded.insert(seq);
        drop(state);
        self.put(delivery);
    }

    /// Entries may have come that nobody told of.
    pub(crate) fn missed(self: &Arc<Self>) {
        let mut state = self.state();
        state.more = true;
        state.moves += 1;
        drop(state);
        self.refill_if_low();
    }

    /// Forgets that a message was handled: it must be handled again.
    pub(crate) fn unsee(&self, id: MessageId) {
        self.state().seen.forget(id);
    }

    /// An entry left the inbox for good.
    pub(crate) fn settled(self: &Arc<Self>, seq: u64) {
        let mut state = self.state();
        if !state.loaded.remove(&seq) {
            return;
        }
        if state.refilling {
            state.settled.insert(seq);
        }
        state.moves += 1;
        self.room.add_permits(1);
        drop(state);
        self.refill_if_low();
    }

    /// Tries an entry again after a while.
    pub(crate) fn again(self: &Arc<Self>, claim: Claim, after: Duration) {
        let window = Arc::clone(self);
        let task = async move {
            // An agent that has ended tries nothing again: its entry is in the engine still.
            if window.pause(after).await {
                window.reload(claim);
            }
        };
        self.host.core().tasks.spawn(task);
    }

    /// Puts an entry that is in memory into a mailbox again.
    pub(crate) fn reload(self: &Arc<Self>, claim: Claim) {
        let mut entry = InboxEntry::new(claim.seq, claim.lane, claim.id, claim.stored.clone());
        entry.attempts = claim.attempts;
        match self.delivery(entry) {
            Ok(mut delivery) => {
                if let Some(own) = &mut delivery.claim {
                    own.conflicts = claim.conflicts;
                }
                self.put(delivery);
            }
            Err(unread) => self.unread(claim.lane, claim.seq, unread),
        }
    }

    /// The operations that remember an id, and forget what is too old or too much.
    pub(crate) fn remember(&self, id: MessageId, reply: Option<Bytes>, batch: &mut Batch) {
        let now = self.host.core().unix_ms();
        let age = u64::try_from(DEDUP_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
        let expires_unix_ms = now.saturating_add(age);
        batch.push(Op::DedupPut {
            agent: self.agent.clone(),
            id,
            reply,
            expires_unix_ms,
        });
        let mut state = self.state();
        for old in state.seen.expired(now) {
            batch.push(Op::DedupRemove {
                agent: self.agent.clone(),
                id: old,
            });
        }
    }

    /// The commit that remembers an id is durable.
    pub(crate) fn remembered(&self, id: MessageId) {
        let age = u64::try_from(DEDUP_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
        let expires = self.host.core().unix_ms().saturating_add(age);
        self.state().seen.insert(id, expires);
    }

    /// An instance takes this message up. False when another has it in hand, under an entry of its own.
    pub(crate) fn take_up(&self, id: MessageId) -> bool {
        self.state().in_hand.insert(id)
    }

    /// Nobody has this message in hand any more.
    pub(crate) fn put_down(&self, id: MessageId) {
        self.state().in_hand.remove(&id);
    }

    /// The commit that remembers an id was not answered for.
    pub(crate) fn doubt(&self, id: MessageId) {
        self.state().doubtful.insert(id);
    }

    pub(crate) fn has_doubts(&self) -> bool {
        !self.state().doubtful.is_empty()
    }

    /// Asks the engine what became of the commits in doubt. True when one of them did come about.
    pub(crate) async fn settle_doubts(&self) -> Result<bool, StoreError> {
        let mut stored = false;
        loop {
            let Some(id) = self.state().doubtful.first().copied() else {
                return Ok(stored);
            };
            let entry = self.core().engine.dedup(&self.agent, id).await?;
            let mut state = self.state();
            if let Some(entry) = entry {
                state.seen.insert(id, entry.expires_unix_ms);
                stored = true;
            }
            state.doubtful.remove(&id);
        }
    }

    /// Answers all who asked.
    pub(crate) fn answer(&self, id: MessageId, answer: Answer) {
        let askers = self.forget(id);
        let last = askers.len().saturating_sub(1);
        let mut answer = Some(answer);
        for (number, asker) in askers.into_iter().enumerate() {
            let own = match &mut answer {
                Some(Ok(payload)) if number < last => Ok(payload.share().unwrap_or_default()),
                Some(Err(failure)) if number < last => Err(failure.clone()),
                all => all.take().unwrap_or_else(|| Ok(Payload::empty())),
            };
            if !asker.answer(own) {
                self.host.core().late_reply(&self.agent);
            }
        }
    }

    /// Gives a repeated ask the reply that was kept.
    pub(crate) async fn answer_again(&self, id: MessageId) -> Result<(), StoreError> {
        if self.state().askers.contains_key(&id) {
            let kept = self.host.core().engine.dedup(&self.agent, id).await?;
            let answer = match kept {
                Some(entry) => decode_answer(entry.reply.as_deref()),
                None => Err(Failure::permanent(
                    "it was handled before, and its reply is not kept any more",
                )),
            };
            self.answer(id, answer);
        }
        Ok(())
    }

    /// Marks in the engine that an attempt begins, so that one that ends the process counts, too.
    pub(crate) fn mark(&self, claim: &Claim) {
        let batch = Batch::new().with(Op::InboxClaim {
            agent: self.agent.clone(),
            lane: claim.lane,
            seq: claim.seq,
            attempts: claim.attempts + 1,
        });
        // Nobody waits for it: it goes to the engine ahead of what the handler commits.
        drop(self.core().engine.commit(batch));
    }

    pub(crate) fn core(&self) -> &Core {
        self.host.core()
    }

    /// Runs a task of this inbox.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        self: Arc<Self>,
        task: impl FnOnce(Arc<Self>) -> F,
    ) {
        let host = Arc::clone(&self.host);
        host.core().tasks.spawn(task(self));
    }

    fn refill_if_low(self: &Arc<Self>) {
        let mut state = self.state();
        let enough = state.loaded.len() > self.capacity / 2;
        if !state.more || state.refilling || enough || self.over.is_cancelled() {
            return;
        }
        state.refilling = true;
        drop(state);
        let window = Arc::clone(self);
        self.host.core().tasks.spawn(async move {
            if let Err(error) = window.refill().await {
                tracing::error!(agent = %window.agent, %error, "the inbox can't be read: trying again");
                {
                    let mut state = window.state();
                    state.refilling = false;
                    state.more = true;
                }
                if window.pause(Duration::from_secs(1)).await {
                    window.refill_if_low();
                }
            }
        });
    }

    /// Loads entries, the most urgent lane first, until there is no room or none is left.
    async fn refill(self: &Arc<Self>) -> Result<(), StoreError> {
        let engine = &self.host.core().engine;
        let moves = {
            let mut state = self.state();
            state.more = false;
            state.moves
        };
        let mut left_out = false;
        // More than there can be room for would be read again by the next refill.
        let page_entries = PAGE.min(self.capacity).max(1);
        for lane in Priority::ALL {
            let mut after = 0;
            loop {
                // What settled before the engine is read is not on the page.
                self.state().settled.clear();
                let page = engine
                    .inbox_page(&self.agent, lane, after, page_entries)
                    .await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                left_out |= !self.load_page(page);
                if left_out {
                    break;
                }
            }
        }
        let mut state = self.state();
        state.refilling = false;
        state.more |= left_out;
        if !state.more && state.appending == 0 && state.moves == moves {
            self.count_room(&mut state);
        }
        drop(state);
        self.refill_if_low();
        Ok(())
    }

    /// All that is stored is in memory, so what room is left is known exactly. An entry that was appended while nobody ran
    /// here had taken none.
    fn count_room(&self, state: &mut State) {
        state.flights.forget_doubts();
        let room = INBOX_ENTRIES_MAX.saturating_sub(state.loaded.len());
        let counted = self.room.available_permits();
        if counted < room {
            self.room.add_permits(room - counted);
        } else {
            self.room.forget_permits(counted - room);
        }
    }

    /// False when there was no room for all of them.
    fn load_page(self: &Arc<Self>, page: Vec<InboxEntry>) -> bool {
        for entry in page {
            let mut state = self.state();
            if state.loaded.contains(&entry.seq) || state.settled.contains(&entry.seq) {
                continue;
            }
            if state.loaded.len() >= self.capacity {
                return false;
            }
            state.loaded.insert(entry.seq);
            state.flights.found(entry.id, entry.seq);
            drop(state);
            self.load(entry);
        }
        true
    }

    /// Entries in doubt hold room that others wait for: looks for them in the engine.
    fn look_if_full(self: &Arc<Self>) {
        let mut state = self.state();
        if self.room.available_permits() > 0 || !state.flights.has_doubts() || state.looking {
            return;
        }
        state.looking = true;
        drop(state);
        let window = Arc::clone(self);
        self.host.core().tasks.spawn(async move {
            // All the inbox is read: not for each of them.
            if window.pause(Duration::from_secs(1)).await
                && let Err(error) = window.look().await
            {
                tracing::error!(agent = %window.agent, %error, "the inbox can't be read: trying again");
                window.state().flights.look_again();
            }
            window.state().looking = false;
            if !window.over.is_cancelled() {
                window.look_if_full();
            }
        });
    }

    /// Reads the engine for the entries in doubt. Those that are not there give their room back.
    async fn look(&self) -> Result<(), StoreError> {
        let engine = &self.host.core().engine;
        self.state().flights.look();
        for lane in Priority::ALL {
            let mut after = 0;
            loop {
                let page = engine.inbox_page(&self.agent, lane, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                let mut state = self.state();
                for entry in &page {
                    state.flights.clear_up(entry.id);
                }
            }
        }
        let mut state = self.state();
        let absent = state.flights.looked();
        // Before anybody counts anew.
        self.room.add_permits(absent);
        drop(state);
        Ok(())
    }

    fn load(self: &Arc<Self>, entry: InboxEntry) {
        let (lane, seq) = (entry.lane, entry.seq);
        // A wall clock that was set back must not keep it waiting.
        let longest = u64::try_from(REDELIVERY.longest().as_millis()).unwrap_or(u64::MAX);
        let wait = entry
            .not_before_unix_ms
            .saturating_sub(self.host.core().unix_ms())
            .min(longest);
        match self.delivery(entry) {
            Ok(delivery) => match &delivery.claim {
                Some(claim) if wait > 0 => {
                    self.again((**claim).clone(), Duration::from_millis(wait));
                }
                _ => self.put(delivery),
            },
            Err(unread) => self.unread(lane, seq, unread),
        }
    }

    /// What an entry stands for.
    fn delivery(&self, entry: InboxEntry) -> Result<Delivery, Unread> {
        let clock = &*self.host.core().clock;
        let port = self.port().ok_or(Unread::Ended)?;
        let envelope = decode_envelope(&entry.envelope, clock)
            .map_err(|error| Unread::Never(error.to_string()))?;
        let route = port.route(&envelope.message_type).ok_or_else(|| {
            Unread::Never(format!(
                "no handler for `{}` in this version of the agent",
                envelope.message_type
            ))
        })?;
        let mut delivery = Delivery::of(envelope, route);
        delivery.claim = Some(Box::new(Claim {
            lane: entry.lane,
            seq: entry.seq,
            id: entry.id,
            attempts: entry.attempts,
            stored: entry.envelope,
            conflicts: 0,
        }));
        Ok(delivery)
    }

    fn put(&self, delivery: Delivery) {
        if let Some(port) = self.port() {
            // A closed mailbox is that of an agent that ended: the entry is in the engine still.
            let _ = port.choose().force(delivery);
        }
    }

    /// An entry that can't be read, or that nobody handles any more, becomes a dead letter. That of an agent that has ended
    /// stays for the next.
    fn unread(self: &Arc<Self>, lane: Priority, seq: u64, unread: Unread) {
        let Unread::Never(reason) = unread else {
            return;
        };
        let window = Arc::clone(self);
        self.host.core().tasks.spawn(async move {
            let core = window.host.core();
            loop {
                let batch = Batch::new().with(Op::InboxBury {
                    agent: window.agent.clone(),
                    lane,
                    seq,
                    reason: reason.clone(),
                    at_unix_ms: core.unix_ms(),
                });
                match core.engine.commit(batch).await {
                    Ok(_) | Err(CommitError::Gone { .. }) => return window.settled(seq),
                    Err(error) => {
                        tracing::error!(agent = %window.agent, %error, "can't bury an entry: trying again");
                    }
                }
                if !window.pause(Duration::from_secs(1)).await {
                    return;
                }
            }
        });
    }

    /// Gives up on a message once more after a while, since the engine did not take it.
    pub(crate) fn bury_later(self: &Arc<Self>, taken: Taken, failure: Failure) {
        let window = Arc::clone(self);
        self.host.core().tasks.spawn(async move {
            if window.pause(Duration::from_secs(1)).await
                && let Some(port) = window.port()
            {
                bury(&port, &window, taken, failure).await;
            }
        });
    }

    /// Waits. False when the agent has ended meanwhile.
    async fn pause(&self, wait: Duration) -> bool {
        let wait = tokio::time::sleep(wait);
        self.over.run_until_cancelled(wait).await.is_some()
    }

    fn port(&self) -> Option<Arc<Port>> {
        self.port.get().and_then(Weak::upgrade)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// An entry that took room is stored, or is not going to be.
    fn appended(&mut self) {
        self.appending = self.appending.saturating_sub(1);
        self.moves += 1;
    }
}

/// An entry that takes room, or waits for some.
struct Appending<'a>(Option<&'a Window>);

impl<'a> Appending<'a> {
    fn begin(window: &'a Window) -> Self {
        window.state().appending += 1;
        Self(Some(window))
    }

    /// It has room: what becomes of it is said later.
    fn goes_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        if let Some(window) = self.0 {
            window.state().appended();
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Window")
            .field("agent", &self.agent)
            .field("loaded", &state.loaded.len())
            .field("more", &state.more)
            .finish_non_exhaustive()
    }
}

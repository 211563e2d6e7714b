//! What a handler may do besides its own fields.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::agent::{Agent, AgentState, StateOf};
use super::agent_ref::AgentRef;
use super::ask::{Ask, AskStream};
use super::draft::{Draft, Handle};
use super::error::{RequestError, SendError, SpawnError};
use super::host::Core;
use super::inbox::Window;
use super::launch::{Source, Spawn, Start, spawning};
use super::mailbox::Order;
use super::publish::publish;
use super::query::{AgentRecord, Query};
use super::send::Tell;
use super::state::{DraftState, Snapshot, StateCell, Updating};
use super::timers::{self, TimerHandle};
use super::to_its_end::ToItsEnd;
use super::turn::Turn;
use crate::model::limits::UPDATES_MAX;
use crate::model::{
    AgentId, Codec, Failure, FailureCode, MessageId, MessageType, Meta, Moment, Payload, Result,
};
use crate::store::{Batch, Op};

/// What a handler may do besides its own fields: state, messages, children, timers, subscriptions.
///
/// Everything a *durable* agent's handler does through it (state, sends, publishes, timers, the reply) is one batch: it
/// takes effect when the message settles, all of it or nothing.
pub struct Context<A> {
    pub(crate) turn: Arc<Turn>,
    /// A `StateCell<StateOf<A>>`: its type stands on the methods that need it, so that a context has no bounds.
    cell: Arc<dyn Any + Send + Sync>,
    window: Option<Arc<Window>>,
    /// The state as the running `&mut self` handler has made it: a `DraftState<StateOf<A>>`.
    draft: Mutex<Option<Box<dyn Any + Send>>>,
    agent: PhantomData<fn() -> A>,
}

impl<A> Context<A> {
    /// The agent's own id.
    pub fn id(&self) -> &AgentId {
        self.turn.agent()
    }

    /// Which of its instances this is, from 0.
    pub fn instance(&self) -> u32 {
        self.turn.instance
    }

    /// Who sent the message; [`AgentId::RUNTIME`] for a program outside any handler.
    pub fn sender(&self) -> &AgentId {
        self.turn.cause.sender()
    }

    /// The message's type.
    pub fn message_type(&self) -> &MessageType {
        self.turn.message_type()
    }

    /// The message's id, where it has one: a message to an agent that is not durable gets its own when somebody takes the
    /// whole envelope.
    pub fn message_id(&self) -> Option<MessageId> {
        self.turn.cause.message_id()
    }

    /// The terms that the message came under.
    pub fn meta(&self) -> &Meta {
        self.turn.meta()
    }

    /// How long the message is still worth handling, if it has a deadline.
    pub fn time_left(&self) -> Option<Duration> {
        let now = self.core().clock.now();
        self.turn.deadline().map(|at| at.since(now))
    }

    /// The runtime's monotonic clock, which is virtual in tests.
    pub fn now(&self) -> Moment {
        self.core().clock.now()
    }

    /// 64 random bits of the runtime's seeded source. No source of keys.
    pub fn random(&self) -> u64 {
        self.core().entropy.next_u64()
    }

    /// The state as it is now. It may live across an await and does not change under its holder.
    pub fn state(&self) -> Snapshot<StateOf<A>>
    where
        A: Agent,
    {
        if self.turn.cause.is_exclusive() {
            // What a handler has seen is what it builds on: it runs again when others move that meanwhile.
            self.with_draft(|draft| draft.snapshot())
        } else {
            self.cell().snapshot()
        }
    }

    /// Changes the state and returns the closure's value.
    ///
    /// In a `&mut self` handler the change is kept when the message settles, and undone when it fails. In a `&self` handler
    /// it is a commit of its own, and the reply waits until it is durable. A change that the state's `validate` refuses is
    /// not made, and fails the message.
    pub fn update_state<R>(&self, change: impl FnOnce(&mut StateOf<A>) -> R) -> R
    where
        A: Agent,
    {
        let (value, refused) = if self.turn.cause.is_exclusive() {
            let _updating = Updating::begin();
            // No lock is held while the closure runs: it may look at the state as it was before.
            let mut draft = self.with_draft(|draft| draft.fork());
            let updated = self.cell().update(&mut draft, change);
            self.with_draft(|own| *own = draft);
            updated
        } else {
            self.update_shared(change)
        };
        if let Err(failure) = refused {
            self.turn
                .note(|book| book.failure.get_or_insert(failure).retryable);
        }
        value
    }

    /// Makes the state the default again, as [`Context::update_state`] would.
    pub fn reset_state(&self)
    where
        A: Agent,
    {
        self.update_state(|state| *state = StateOf::<A>::fresh());
    }

    /// An update of a `&self` handler: current for everybody at once, durable soon.
    fn update_shared<R>(
        &self,
        change: impl FnOnce(&mut StateOf<A>) -> R,
    ) -> (R, Result<(), Failure>)
    where
        A: Agent,
    {
        let mark = self.update_mark();
        if let (Some(window), Some(mark)) = (&self.window, mark)
            && window.has_seen(mark)
        {
            // An earlier attempt of this message made the change already: it is made on a copy for its value only.
            let mut copy = self.cell().draft();
            return self.cell().update(&mut copy, change);
        }
        let updates = self.turn.note(|book| book.commits.len()).unwrap_or(0);
        if updates >= UPDATES_MAX {
            let mut copy = self.cell().draft();
            let (value, _) = self.cell().update(&mut copy, change);
            let text = format!("one run of a handler may update its state {UPDATES_MAX} times");
            return (
                value,
                Err(Failure::new(FailureCode::STATE_REFUSED, text).lasting()),
            );
        }
        let (value, submitted) = self.cell().update_now(change, |op| self.submit(op, mark));
        let kept = submitted.map(|commit| {
            if let Some(commit) = commit {
                self.turn.note(|book| book.commits.push(commit));
            }
        });
        (value, kept)
    }

    /// Sends an update of the state to the engine, with the mark that keeps a second attempt from making it again.
    fn submit(&self, op: Op, mark: Option<MessageId>) -> super::turn::PendingCommit
    where
        A: Agent,
    {
        let mut batch = Batch::default();
        batch.push(op);
        let window = self.window.clone();
        if let (Some(window), Some(mark)) = (&window, mark) {
            window.remember(mark, None, &mut batch);
        }
        let commit = self.core().engine.commit(batch);
        let cell = self.shared_cell();
        let work = async move {
            match commit.await {
                Ok(_) => {
                    if let (Some(window), Some(mark)) = (&window, mark) {
                        window.remembered(mark);
                    }
                    Ok(())
                }
                Err(error) => {
                    cell.invalidate();
                    if let (Some(window), Some(mark)) = (&window, mark)
                        && error.may_be_stored()
                    {
                        window.doubt(mark);
                    }
                    let text = format!("the state was not kept: {error}");
                    Err(Failure::new(FailureCode::STORE, text))
                }
            }
        };
        ToItsEnd::new(&self.core().tasks, work)
    }

    /// The id under which this update of this message is remembered, where the message may be tried again.
    fn update_mark(&self) -> Option<MessageId> {
        self.turn.next_update_id()
    }

    /// Sends a message that nobody waits for the answer of. In a durable handler it leaves when the message settles.
    ///
    /// # Errors
    /// [`SendError`] when awaited.
    pub fn tell<P: Serialize + ?Sized>(
        &self,
        target: impl AsRef<str>,
        message_type: &str,
        payload: &P,
    ) -> Tell {
        Tell::new(self.message(target.as_ref(), message_type, payload))
    }

    /// Sends a message and waits for its one reply. In a durable handler, too, it leaves at once; a second attempt of the
    /// handler asks under the same id, and gets the reply that was kept: for ten minutes, and that of an agent that is not
    /// durable as long as the process lasts. A failure that may pass of such an agent is not kept: it is asked anew.
    ///
    /// # Errors
    /// [`AskError`](super::AskError) when awaited.
    pub fn ask<R>(
        &self,
        target: impl AsRef<str>,
        message_type: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Ask<R> {
        Ask::new(self.message(target.as_ref(), message_type, payload))
    }

    /// Sends a message and gives the stream of its replies.
    ///
    /// # Errors
    /// [`AskError`](super::AskError) when awaited.
    pub fn stream<T>(
        &self,
        target: impl AsRef<str>,
        message_type: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> AskStream<T> {
        AskStream::new(self.message(target.as_ref(), message_type, payload))
    }

    /// Replies before the handler returns, or with another type than it returns. The last reply counts.
    ///
    /// # Errors
    /// When the value can't be encoded.
    pub fn reply<R: Serialize + ?Sized>(&self, value: &R) -> Result<()> {
        let payload = Payload::encode(value)?;
        self.turn.note(|book| book.reply = Some(payload));
        Ok(())
    }

    /// A handle to another agent, to be used inside this handler or kept.
    ///
    /// # Errors
    /// When the text is no agent id.
    pub fn agent(&self, id: impl AsRef<str>) -> Result<AgentRef> {
        let id = AgentId::new(id)?;
        let port = self.turn.host.port(&id);
        Ok(AgentRef::new(Arc::clone(&self.turn.host), id, port))
    }

    /// A handle to this agent itself.
    pub fn myself(&self) -> AgentRef<A> {
        let id = self.turn.agent().clone();
        let port = self.turn.host.port(&id);
        AgentRef::new(Arc::clone(&self.turn.host), id, port)
    }

    /// Starts an agent as a child of this one: it stops before this one does, and this one's `strategy` says what happens
    /// to its siblings when it fails.
    ///
    /// # Errors
    /// [`SpawnError`].
    ///
    /// # Cancel safety
    /// The start goes on when the future is dropped.
    pub fn spawn<B: Agent<Ref = R>, R>(&self, agent: B) -> Spawn<R> {
        self.start(Ok(Start::new(None, Source::value(agent), 1)))
    }

    /// As [`Context::spawn`], under another id.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_as<B: Agent<Ref = R>, R>(&self, id: impl AsRef<str>, agent: B) -> Spawn<R> {
        let id = AgentId::new(id).map_err(SpawnError::from);
        self.start(id.map(|id| Start::new(Some(id), Source::value(agent), 1)))
    }

    /// As [`Context::spawn`], with a fresh agent for each start: after a crash, too.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_with<B: Agent<Ref = R>, R>(
        &self,
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> Spawn<R> {
        let source = Source::Factory(Arc::new(make));
        self.start(Ok(Start::new(None, source, 1)))
    }

    /// Starts several instances that share one id, one state, one durable inbox and its work, as a child of this agent.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_pool<B: Agent<Ref = R>, R>(
        &self,
        id: impl AsRef<str>,
        instances: usize,
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> Spawn<R> {
        let id = AgentId::new(id).map_err(SpawnError::from);
        let source = Source::Factory(Arc::new(make));
        self.start(id.map(|id| Start::new(Some(id), source, instances)))
    }

    fn start<B: Agent>(&self, start: Result<Start<B>, SpawnError>) -> Spawn<B::Ref> {
        let host = Arc::clone(&self.turn.host);
        spawning(host, start, Some(self.turn.agent().clone()))
    }

    /// Stops another agent and its children, and waits for their end. One that is above this one, or this one itself,
    /// it does not wait for: this handler ends first, and its message settles. For that it has the grace period.
    ///
    /// # Errors
    /// [`RequestError::NotRunning`], or when the text is no agent id.
    pub async fn stop_agent(&self, id: impl AsRef<str>) -> Result<()> {
        let id = AgentId::new(id)?;
        Arc::clone(&self.turn.host).stop(id).await
    }

    /// Stops this instance once the running handler is over. With `restart = "always"` it starts again.
    pub fn stop(&self) {
        if let Some(port) = self.turn.host.port(self.turn.agent()) {
            port.slots[self.turn.instance as usize].give(Order::Quit);
        }
    }

    /// Says that this instance can't go on: after this handler it ends as failed, and starts again as its `restart` says.
    pub fn fail(&self, reason: impl fmt::Display) {
        let reason = reason.to_string();
        self.turn.note(|book| book.crash = Some(reason));
    }

    /// Finds agents: a list of capabilities asks for all of them, a [`Query`] for more.
    ///
    /// # Errors
    /// None yet: a directory that many nodes share may be out of reach.
    #[expect(
        clippy::unused_async,
        reason = "a directory that many nodes share answers later"
    )]
    pub async fn discover(&self, query: impl Into<Query>) -> Result<Vec<AgentRecord>> {
        Ok(self.turn.host.discover(&query.into()))
    }

    /// Tells this agent when `agent` ends, by a message of type [`ENDED`](super::ENDED) with an [`Ended`](super::Ended):
    /// at once if it does not run now. A watch outlives a restart of this agent, not one of the process.
    ///
    /// # Errors
    /// [`RequestError::TooManyWatches`], or when `agent` is no id.
    #[expect(
        clippy::unused_async,
        reason = "an agent on another node is watched over a link"
    )]
    pub async fn watch(&self, agent: impl AsRef<str>) -> Result<()> {
        let watched = AgentId::new(agent)?;
        self.turn.host.watch(self.turn.agent(), &watched)
    }

    /// Gets every message that is published under a topic of this pattern. `*` stands for one word, `**` at the end for
    /// one or more: `news.*` takes `news.sport`, `news.**` also `news.sport.chess`. The topic is the message type.
    ///
    /// A subscription outlives a restart of the agent, not one of the process: `#[on_start]` is the place for it.
    ///
    /// # Errors
    /// [`RequestError::TopicPattern`], [`RequestError::TooManySubscriptions`].
    #[expect(
        clippy::unused_async,
        reason = "a subscription that many nodes share is kept elsewhere"
    )]
    pub async fn subscribe(&self, pattern: impl AsRef<str>) -> Result<()> {
        self.turn
            .host
            .subscribe(self.turn.agent(), pattern.as_ref())
    }

    /// Takes a subscription back. False when there was none.
    ///
    /// # Errors
    /// None yet: as [`Context::discover`].
    #[expect(
        clippy::unused_async,
        reason = "a subscription that many nodes share is kept elsewhere"
    )]
    pub async fn unsubscribe(&self, pattern: impl AsRef<str>) -> Result<bool> {
        let host = &self.turn.host;
        Ok(host.unsubscribe(self.turn.agent(), pattern.as_ref()))
    }

    /// Sends a message to every agent that subscribes to this topic, and returns to how many. In a durable handler they
    /// leave when the message settles.
    ///
    /// # Errors
    /// [`SendError`] of the first that could not be sent; the others are sent.
    pub async fn publish<P: Serialize + ?Sized>(
        &self,
        topic: &str,
        payload: &P,
    ) -> Result<usize, SendError> {
        let turn = Arc::clone(&self.turn);
        publish(&self.turn.host, Some(turn), topic, payload).await
    }

    /// Sends this agent a message after a while. A durable agent's timer survives a restart of the process.
    ///
    /// # Errors
    /// [`RequestError::TooManyTimers`], or when the message type is none, or the payload can't be encoded or is too large.
    pub fn schedule<P: Serialize + ?Sized>(
        &self,
        after: Duration,
        message_type: &str,
        payload: &P,
    ) -> Result<TimerHandle> {
        self.start_timer(after, None, message_type, payload)
    }

    /// Sends this agent a message again and again, the first after one period. A durable agent's timer survives a restart
    /// of the process; what it missed comes once. What `#[on_start]` starts is the same timer on each start, and the same one
    /// for all instances of a pool.
    ///
    /// # Errors
    /// As [`Context::schedule`], and [`RequestError::ZeroPeriod`].
    pub fn every<P: Serialize + ?Sized>(
        &self,
        period: Duration,
        message_type: &str,
        payload: &P,
    ) -> Result<TimerHandle> {
        if period.is_zero() {
            return Err(RequestError::ZeroPeriod.into());
        }
        self.start_timer(period, Some(period), message_type, payload)
    }

    fn start_timer<P: Serialize + ?Sized>(
        &self,
        after: Duration,
        period: Option<Duration>,
        message_type: &str,
        payload: &P,
    ) -> Result<TimerHandle> {
        let timers = self.timers()?;
        let timer = timers::start(&timers, &self.turn, after, period, message_type, payload)?;
        self.turn.host.timer_started(&timer, after, period, &|| {
            let payload = Codec::MessagePack.encode(payload)?;
            Ok((MessageType::new(message_type)?, payload))
        });
        Ok(timer)
    }

    /// Cancels a timer. False when it has fired for the last time, or was cancelled before.
    pub fn cancel(&self, timer: &TimerHandle) -> bool {
        self.turn.host.timer_cancelled(timer)
            || self
                .timers()
                .is_ok_and(|timers| timers::cancel(&timers, &self.turn, timer))
    }

    fn timers(&self) -> Result<Arc<timers::Timers>> {
        let port = self.turn.host.port(self.turn.agent());
        port.map(|port| Arc::clone(&port.timers)).ok_or_else(|| {
            let id = self.turn.agent().clone();
            RequestError::NotRunning { id }.into()
        })
    }

    fn message<P: Serialize + ?Sized>(
        &self,
        target: &str,
        message_type: &str,
        payload: &P,
    ) -> Draft {
        let host = Arc::clone(&self.turn.host);
        let (id, fault) = match AgentId::new(target) {
            Ok(id) => (id, None),
            Err(error) => (AgentId::RUNTIME, Some(Box::new(SendError::from(error)))),
        };
        let port = host.port(&id);
        let to = Arc::new(Handle { host, id, port });
        let turn = Some(Arc::clone(&self.turn));
        let mut draft = Draft::by_type(to, turn, message_type, payload);
        if fault.is_some() {
            draft.letter.fault = fault;
        }
        draft
    }

    pub(crate) fn core(&self) -> &Core {
        self.turn.host.core()
    }

    /// The draft that the running `&mut self` handler has made, if any.
    pub(crate) fn take_draft(&mut self) -> Option<DraftState<StateOf<A>>>
    where
        A: Agent,
    {
        let draft = self.draft.get_mut().unwrap_or_else(PoisonError::into_inner);
        let own = draft.take()?.downcast();
        Some(*own.expect(OWN_STATE))
    }

    fn with_draft<R>(&self, f: impl FnOnce(&mut DraftState<StateOf<A>>) -> R) -> R
    where
        A: Agent,
    {
        let mut draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
        let own = draft.get_or_insert_with(|| Box::new(self.cell().draft()));
        f(own.downcast_mut().expect(OWN_STATE))
    }

    fn cell(&self) -> &StateCell<StateOf<A>>
    where
        A: Agent,
    {
        self.cell.downcast_ref().expect(OWN_STATE)
    }

    fn shared_cell(&self) -> Arc<StateCell<StateOf<A>>>
    where
        A: Agent,
    {
        Arc::clone(&self.cell).downcast().expect(OWN_STATE)
    }
}

impl<A: Agent> Context<A> {
    pub(crate) fn new(
        turn: Turn,
        cell: Arc<StateCell<StateOf<A>>>,
        window: Option<Arc<Window>>,
    ) -> Self {
        Self {
            turn: Arc::new(turn),
            cell,
            window,
            draft: Mutex::new(None),
            agent: PhantomData,
        }
    }
}

const OWN_STATE: &str = "invariant: a context is made with its own agent's cell";

impl<A> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", self.id())
            .field("message_type", self.message_type())
            .finish_non_exhaustive()
    }
}

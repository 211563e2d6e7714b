//! One runtime: who runs here, and how envelopes find their way.
//!
//! | file | holds |
//! |---|---|
//! | `builder` | [`Builder`]: where it keeps things, its clock and its bounds |
//! | `durability` | at which level each agent's things are kept, and so each batch |
//! | `pipeline` | the life of an envelope, from `tell` to the mailbox or the inbox |
//! | `repeats` | asks that durable handlers repeat of agents without an inbox |
//! | `registry` | who exists here and what they can do |
//! | `topics` | publish and subscribe |
//! | `unattended` | how full the inboxes are of durable agents that do not run |
//! | `watches` | who wants to hear of whose end |
//! | `outbox` | what durable handlers have sent and could not be handed over at once |
//! | `letters` | dead letters |
//! | `lifecycle` | spawn, stop, remove, watch, heartbeats, shutdown |

mod builder;
mod durability;
mod letters;
mod lifecycle;
mod outbox;
mod pipeline;
mod registry;
mod repeats;
mod topics;
mod unattended;
mod watches;

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use dashmap::DashMap;
use serde::Serialize;
use tokio::sync::{broadcast, watch};

use self::durability::Levels;
use self::letters::Letters;
use self::outbox::Outboxes;
use self::registry::Registry;
use self::repeats::Repeats;
use self::topics::Topics;
use self::unattended::Unattended;
use self::watches::Watches;
use crate::actor::{
    Agent, AgentRecord, AgentRef, Boxed, Core, DeadLetter, Draft, EndReason, Event, FailureRecord,
    Handle, HandlerTable, Host, Launch, Letter, Planned, Port, Query, Route, SendError, Sending,
    Source, Spawn, SpawnError, Start, Supervisor, Turn, failure_records, publish, spawning,
};
use crate::model::{AgentId, Result, RuntimeId};
use crate::store::{Batch, StoreError};

pub use builder::{Builder, StartError};
pub use letters::{DeadLetterRecord, DeadLetters};

/// A running system of agents. Clones are handles to the same one.
///
/// ```
/// # use mas_runtime::runtime::Runtime;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mas_runtime::model::Result<()> {
/// let runtime = Runtime::builder().start().await?;
/// runtime.shutdown().await
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    me: Weak<Self>,
    id: RuntimeId,
    /// When it started, on the wall clock.
    started: Duration,
    core: Core,
    /// What opening the store has mended, for those who watch.
    recovered: Option<Event>,
    levels: Arc<Levels>,
    open: AtomicBool,
    router: DashMap<AgentId, Arc<Port>>,
    /// One handler table for each agent type: message types become numbers once.
    tables: Mutex<HashMap<TypeId, Arc<HandlerTable>>>,
    supervisor: Arc<Supervisor>,
    registry: Registry,
    topics: Topics,
    letters: Letters,
    outboxes: Outboxes,
    unattended: Unattended,
    repeats: Repeats,
    watches: Mutex<Watches>,
    heartbeat: Duration,
    lease: Duration,
    stop_heartbeat: tokio::sync::Notify,
    /// How the engine closed, once the runtime has ended.
    closed: watch::Sender<Option<Result<(), StoreError>>>,
}

impl Runtime {
    /// A runtime to be: in memory, with system clock, until told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its identity.
    pub fn id(&self) -> RuntimeId {
        self.inner.id
    }

    /// Starts an agent under its declared id and returns its typed ref when its `#[on_start]` is over.
    ///
    /// # Errors
    /// [`SpawnError`] when awaited.
    pub fn spawn<A: Agent<Ref = R>, R>(&self, agent: A) -> Spawn<R> {
        self.start(Ok(Start::new(None, Source::value(agent), 1)))
    }

    /// As [`Runtime::spawn`], under another id.
    ///
    /// # Errors
    /// [`SpawnError`] when awaited.
    pub fn spawn_as<A: Agent<Ref = R>, R>(&self, id: impl AsRef<str>, agent: A) -> Spawn<R> {
        let id = AgentId::new(id).map_err(SpawnError::from);
        self.start(id.map(|id| Start::new(Some(id), Source::value(agent), 1)))
    }

    /// As [`Runtime::spawn`], with a fresh agent for each start: after a crash, too.
    ///
    /// # Errors
    /// [`SpawnError`] when awaited.
    pub fn spawn_with<A: Agent<Ref = R>, R>(
        &self,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Spawn<R> {
        let source = Source::Factory(Arc::new(make));
        self.start(Ok(Start::new(None, source, 1)))
    }

    /// Starts several instances that share one id, one state, one durable inbox and its work.
    ///
    /// # Errors
    /// [`SpawnError`] when awaited.
    pub fn spawn_pool<A: Agent<Ref = R>, R>(
        &self,
        id: impl AsRef<str>,
        instances: usize,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Spawn<R> {
        let id = AgentId::new(id).map_err(SpawnError::from);
        let source = Source::Factory(Arc::new(make));
        self.start(id.map(|id| Start::new(Some(id), source, instances)))
    }

    fn start<A: Agent>(&self, start: Result<Start<A>, SpawnError>) -> Spawn<A::Ref> {
        spawning(Arc::clone(&self.inner) as _, start, None)
    }

    /// A handle to the agent of this id, here or elsewhere, whether it runs already or not.
    ///
    /// # Errors
    /// When the text is no agent id.
    pub fn agent(&self, id: impl AsRef<str>) -> Result<AgentRef> {
        self.attach(id.as_ref())
    }

    /// A handle of any type to the agent of this id.
    #[doc(hidden)]
    pub fn attach<A>(&self, id: &str) -> Result<AgentRef<A>> {
        let id = AgentId::new(id)?;
        let port = self.inner.port(&id);
        let host: Arc<dyn Host> = Arc::clone(&self.inner) as _;
        Ok(AgentRef::new(host, id, port))
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
        Ok(self.inner.discover(&query.into()))
    }

    /// Sends a message to every agent that subscribes to this topic, which is its message type. Returns to how many.
    ///
    /// # Errors
    /// [`SendError`] of the first that could not be sent; the others are sent.
    pub async fn publish<P: Serialize + ?Sized>(
        &self,
        topic: &str,
        payload: &P,
    ) -> Result<usize, SendError> {
        let host: Arc<dyn Host> = Arc::clone(&self.inner) as _;
        publish(&host, Turn::current(), topic, payload).await
    }

    /// Adds a subscription of an agent: [`Context::subscribe`](crate::actor::Context::subscribe) from outside.
    ///
    /// # Errors
    /// When the id or the pattern is malformed, or there are too many.
    pub fn subscribe(&self, agent: impl AsRef<str>, pattern: impl AsRef<str>) -> Result<()> {
        let agent = AgentId::new(agent)?;
        self.inner.subscribe(&agent, pattern.as_ref())
    }

    /// What happens from now on; first, to every reader, what was mended when the store was opened, if anything
    /// ([`EventKind::StoreRecovered`](crate::actor::EventKind::StoreRecovered)). A reader that falls behind by more than 4 096
    /// events misses the oldest.
    pub fn events(&self) -> Events {
        Events {
            first: self.inner.recovered.clone(),
            receiver: self.inner.core.events(),
        }
    }

    /// What was given up on.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters {
            inner: Arc::clone(&self.inner),
        }
    }

    /// The last `limit` instances that were given up on, the oldest of them first: also those of earlier processes on this
    /// engine.
    ///
    /// # Errors
    /// When the engine can't be read.
    pub async fn failures(&self, limit: usize) -> Result<Vec<FailureRecord>> {
        failure_records(&*self.inner.core.engine, limit).await
    }

    /// Stops an agent and its children, and waits for their end.
    ///
    /// In a handler of that agent, or of one below it, it does not wait: the handler ends first, and its message settles.
    /// For that it has the grace period.
    ///
    /// # Errors
    /// When no such agent runs here.
    ///
    /// # Cancel safety
    /// The stop goes on when the future is dropped.
    pub async fn stop(&self, id: impl AsRef<str>) -> Result<()> {
        let id = AgentId::new(id)?;
        Arc::clone(&self.inner).stop(id).await
    }

    /// Stops an agent and takes it out of the directory. Its state, inbox and timers stay, for a later spawn.
    ///
    /// In a handler of that agent, or of one below it, it does not wait, as [`Runtime::stop`].
    ///
    /// # Errors
    /// When the id is malformed, or the engine does not take it. Where it does not wait, the latter is logged.
    pub async fn remove(&self, id: impl AsRef<str>) -> Result<()> {
        let id = AgentId::new(id)?;
        self.inner.remove(id, false).await
    }

    /// As [`Runtime::remove`], with all that is stored of it: state, inbox, outbox, timers. Dead letters stay.
    ///
    /// # Errors
    /// As [`Runtime::remove`].
    pub async fn remove_with_data(&self, id: impl AsRef<str>) -> Result<()> {
        let id = AgentId::new(id)?;
        self.inner.remove(id, true).await
    }

    /// Ends it: no new messages, running handlers get the grace period, what is durable stays for the next start, the rest
    /// becomes dead letters, and the engine closes. Clones and refs may live on: their calls fail. Called again, it waits for
    /// the same end.
    ///
    /// In a handler of this runtime it begins the end and does not wait for it: the handler ends first, and its message
    /// settles. For that it has the grace period. What it sends after this call is refused, as from anywhere; what a durable
    /// handler sends is kept.
    ///
    /// # Errors
    /// When the engine could not be closed well: each caller that waits hears so, and it is logged.
    ///
    /// # Cancel safety
    /// The shutdown goes on when the future is dropped.
    pub async fn shutdown(&self) -> Result<()> {
        self.inner.shut_down().await
    }

    /// Kills the instances of an agent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn crash(&self, id: &AgentId) {
        if let Some(port) = self.inner.port(id) {
            for member in port.slots.iter().filter_map(crate::actor::Slot::member) {
                member.kill();
            }
        }
    }

    /// Kills one instance of an agent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn crash_instance(&self, id: &AgentId, instance: usize) {
        let port = self.inner.port(id);
        let slot = port.as_ref().and_then(|port| port.slots.get(instance));
        if let Some(member) = slot.and_then(crate::actor::Slot::member) {
            member.kill();
        }
    }

    /// How many replies came after their askers had gone.
    pub fn late_replies(&self) -> u64 {
        self.inner
            .core
            .counters
            .late_replies
            .load(Ordering::Relaxed)
    }
}

/// What happens in a runtime, as it happens.
#[derive(Debug)]
pub struct Events {
    first: Option<Event>,
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the runtime is gone. Events that were missed are passed over.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a reader of events fell behind");
                }
            }
        }
    }

    /// The next event that has happened already.
    pub fn try_next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Inner {
    fn me(&self) -> Arc<Self> {
        self.me
            .upgrade()
            .expect("invariant: whoever calls holds the runtime")
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

impl Host for Inner {
    fn core(&self) -> &Core {
        &self.core
    }

    fn send(&self, to: &Handle, letter: Letter) -> Sending {
        self.send_letter(to, letter)
    }

    fn outbox_has_room(&self, sender: &AgentId, staged: usize) -> bool {
        self.outboxes.has_room(sender, staged)
    }

    fn subscribers(&self, topic: &str) -> Vec<AgentId> {
        self.topics.subscribers(topic)
    }

    fn plan(&self, draft: Draft, batch: &mut Batch) -> Planned {
        self.plan_draft(draft, batch)
    }

    fn release(&self, planned: Planned, seq: u64) {
        self.release_planned(planned, seq);
    }

    fn withdraw(&self, planned: Planned) {
        self.withdraw_planned(planned);
    }

    fn doubt(&self, planned: Planned) {
        self.doubt_planned(planned);
    }

    fn append(&self, draft: Draft, batch: Batch) -> Boxed<'static, Result<(), SendError>> {
        let id = draft.to.id.clone();
        let mut letter = draft.letter;
        match self.port(&id) {
            Some(port) => match (&port.window, port.route(&letter.message_type)) {
                (Some(window), Some(route)) => {
                    Self::make(&mut letter, route);
                    let window = Arc::clone(window);
                    self.append_to(window, Arc::clone(&port), letter, batch)
                }
                (Some(_), None) => {
                    let error = SendError::UnknownMessageType {
                        target: id,
                        message_type: letter.message_type,
                        handled: port.table.message_types(),
                    };
                    Box::pin(std::future::ready(Err(error)))
                }
                (None, _) => Box::pin(std::future::ready(Err(SendError::Stopped { target: id }))),
            },
            None => self.append_unattended(id, letter, batch),
        }
    }

    fn dead_letter(&self, letter: DeadLetter) {
        self.letters.add(self, letter.envelope, letter.reason);
    }

    fn ended(&self, port: &Arc<Port>, reason: &EndReason) {
        self.agent_ended(port, reason);
    }

    fn port(&self, id: &AgentId) -> Option<Arc<Port>> {
        self.router.get(id).map(|port| Arc::clone(&port))
    }

    fn launch(
        self: Arc<Self>,
        launch: Box<dyn Launch>,
        parent: Option<AgentId>,
    ) -> Boxed<'static, Result<Arc<Port>, SpawnError>> {
        Box::pin(self.start_agent(launch, parent))
    }

    fn stop(self: Arc<Self>, id: AgentId) -> Boxed<'static, Result<()>> {
        Box::pin(async move { self.stop_agent(&id).await })
    }

    fn discover(&self, query: &Query) -> Vec<AgentRecord> {
        self.registry.find(query, self.core.clock.now(), self.lease)
    }

    fn subscribe(&self, agent: &AgentId, pattern: &str) -> Result<()> {
        Ok(self.topics.subscribe(agent, pattern)?)
    }

    fn unsubscribe(&self, agent: &AgentId, pattern: &str) -> bool {
        self.topics.unsubscribe(agent, pattern)
    }

    fn watch(&self, watcher: &AgentId, watched: &AgentId) -> Result<()> {
        self.add_watch(watcher, watched)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.inner).finish()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("id", &self.id)
            .field("agents", &self.router.len())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// What a route is where nobody handles the message here.
impl Default for Route {
    fn default() -> Self {
        Self {
            handler: 0,
            exclusive: false,
            streams: false,
            any: true,
        }
    }
}

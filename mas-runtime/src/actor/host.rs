//! What an agent needs of the runtime around it. The runtime implements it, and so does the test harness.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::AgentRecord;
use super::delivery::Delivery;
use super::draft::{Draft, Handle, Letter};
use super::error::{SendError, SpawnError};
use super::event::{EndReason, Event, EventKind};
use super::inbox::Window;
use super::launch::Launch;
use super::port::Port;
use super::query::Query;
use super::reply_cell::Young;
use super::tasks::Tasks;
use super::timers::TimerHandle;
use super::waiting::WaitGraph;
use crate::model::limits::{EVENTS_MAX, PAYLOAD_BYTES_MAX, SHUTDOWN_GRACE};
use crate::model::{AgentId, Clock, Entropy, Envelope, MessageId, MessageType, Result};
use crate::store::{Batch, Engine};

/// A future behind a pointer, for calls through [`Host`].
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What sending has come to so far.
pub(crate) enum Sending {
    Done(Result<(), SendError>),
    /// It has to wait: for room, or for the disk.
    Wait(Boxed<'static, Result<(), SendError>>),
}

/// The runtime around an agent.
pub(crate) trait Host: Send + Sync + fmt::Debug + 'static {
    /// Clock, chance, engine and events.
    fn core(&self) -> &Core;

    /// Sends a message whose terms are settled.
    fn send(&self, to: &Handle, letter: Letter) -> Sending;

    /// Whether the outbox of a durable agent can take one message more than those that its handler has staged.
    fn outbox_has_room(&self, sender: &AgentId, staged: usize) -> bool;

    /// The agents that subscribe to a topic.
    fn subscribers(&self, topic: &str) -> Vec<AgentId>;

    /// Adds a message of a durable handler to the handler's batch: into its target's inbox, or the outbox.
    fn plan(&self, draft: Draft, batch: &mut Batch) -> Planned;

    /// The batch that a message was planned into is durable: it goes its way.
    fn release(&self, planned: Planned, seq: u64);

    /// The batch that a message was planned into did not come about.
    fn withdraw(&self, planned: Planned);

    /// Nobody knows whether the batch that a message was planned into came about.
    fn doubt(&self, planned: Planned);

    /// Appends a message to the durable inbox of its target, together with `batch`.
    fn append(&self, draft: Draft, batch: Batch) -> Boxed<'static, Result<(), SendError>>;

    /// Gives up on a message.
    fn dead_letter(&self, letter: DeadLetter);

    /// An agent has ended: nobody finds it any more.
    fn ended(&self, port: &Arc<Port>, reason: &EndReason);

    /// The agent of this id that lives here.
    fn port(&self, id: &AgentId) -> Option<Arc<Port>>;

    /// Starts an agent.
    fn launch(
        self: Arc<Self>,
        launch: Box<dyn Launch>,
        parent: Option<AgentId>,
    ) -> Boxed<'static, Result<Arc<Port>, SpawnError>>;

    /// Stops an agent and its children.
    fn stop(self: Arc<Self>, id: AgentId) -> Boxed<'static, Result<()>>;

    /// Finds agents.
    fn discover(&self, query: &Query) -> Vec<AgentRecord>;

    /// Adds a subscription to a topic pattern.
    fn subscribe(&self, agent: &AgentId, pattern: &str) -> Result<()>;

    /// Takes a subscription back. False when there was none.
    fn unsubscribe(&self, agent: &AgentId, pattern: &str) -> bool;

    /// Tells `watcher` when `watched` ends.
    fn watch(&self, watcher: &AgentId, watched: &AgentId) -> Result<()>;

    /// A handler has started a timer. A host in which no time passes keeps it, with its message and payload from `look`.
    fn timer_started(
        &self,
        _timer: &TimerHandle,
        _after: Duration,
        _period: Option<Duration>,
        _look: &dyn Fn() -> Result<(MessageType, Bytes)>,
    ) {
    }

    /// A handler cancels a timer. True when this host keeps it.
    fn timer_cancelled(&self, _timer: &TimerHandle) -> bool {
        false
    }
}

/// A message of a durable handler that is part of its batch.
pub(crate) enum Planned {
    /// Into the inbox of a durable agent here.
    Inbox(Arc<Window>, Delivery),
    /// Into the outbox of its sender.
    Outbox(AgentId),
    /// It could not even be encoded: it became a dead letter, which is part of the batch.
    Dead,
}

/// A message that was given up on, and why.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) envelope: Envelope,
    pub(crate) reason: String,
}

/// Clock, chance, engine and events: what every part of a runtime shares.
pub(crate) struct Core {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) waits: WaitGraph,
    pub(crate) tasks: Tasks,
    /// The asks that wait since a moment ago.
    pub(crate) young: Arc<Young>,
    pub(crate) counters: Counters,
    pub(crate) options: Options,
    pub(crate) trace: OnceLock<Arc<dyn Trace>>,
    pub(crate) intercept: OnceLock<Arc<dyn Intercept>>,
    events: broadcast::Sender<Event>,
}

/// What a runtime's builder decides.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) payload_bytes_max: usize,
    pub(crate) shutdown_grace: Duration,
    pub(crate) restart_backoff: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            shutdown_grace: SHUTDOWN_GRACE,
            restart_backoff: true,
        }
    }
}

/// What a runtime counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) late_replies: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// Sees every dispatch, timer, commit, restart and reply: the test kit's trace.
pub(crate) trait Trace: Send + Sync + 'static {
    fn line(&self, agent: &AgentId, what: fmt::Arguments<'_>);
}

/// Sees every message before it goes into a mailbox, and may lose it: the test kit's faults.
pub(crate) trait Intercept: Send + Sync + 'static {
    /// Whether nothing gets from the one to the other now.
    fn parts(&self, sender: &AgentId, target: &AgentId) -> bool;

    /// The message, unless it is lost.
    fn pass(&self, target: &AgentId, delivery: Delivery) -> Option<Delivery>;
}

impl Core {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        engine: Arc<dyn Engine>,
        options: Options,
    ) -> Self {
        Self {
            clock,
            entropy,
            engine,
            waits: WaitGraph::default(),
            tasks: Tasks::here(),
            young: Arc::default(),
            counters: Counters::default(),
            options,
            trace: OnceLock::new(),
            intercept: OnceLock::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    pub(crate) fn new_id(&self) -> MessageId {
        MessageId::new(self.clock.unix(), &self.entropy)
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        u64::try_from(self.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells whoever watches. Nobody has to.
    pub(crate) fn event(&self, kind: EventKind) {
        tracing::debug!(?kind, "event");
        let at = self.clock.now();
        let _ = self.events.send(Event { at, kind });
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Writes a line of the trace, if one is kept.
    pub(crate) fn trace(&self, agent: &AgentId, what: fmt::Arguments<'_>) {
        if let Some(trace) = self.trace.get() {
            trace.line(agent, what);
        }
    }

    pub(crate) fn late_reply(&self, agent: &AgentId) {
        self.counters.late_replies.fetch_add(1, Ordering::Relaxed);
        self.event(EventKind::LateReply {
            agent: agent.clone(),
        });
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

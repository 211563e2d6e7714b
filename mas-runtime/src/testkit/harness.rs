//! One agent, no runtime: what a handler replies, keeps and sends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::{
    Agent, AgentRecord, Boxed, Core, DeadLetter, Draft, EndReason, Handle, Host, Launch, Letter,
    Options, Planned, Port, Query, RequestError, Seat, SendError, Sending, SpawnError, StateOf,
    TimerHandle, alone,
};
use crate::model::{
    AgentId, Codec, Entropy, Envelope, Error, Failure, MessageType, Payload, Result, SystemClock,
};
use crate::store::{Batch, MemoryEngine};

/// One agent without a runtime: its handlers run for real, and what they send is kept for you to look at.
///
/// An ask that a handler makes gets the answer that [`Harness::answers`] says; without one it fails as it would when
/// nobody were there. The book's chapter on testing shows it at work.
pub struct Harness<A: Agent> {
    seat: Seat<A>,
    host: Arc<Stage>,
}

/// What came of one message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<S> {
    /// The state after it.
    pub state: S,
    /// What the handler sent, in order: tells, asks, publishes. When it failed and its agent is durable, only its asks:
    /// they leave at once.
    pub sent: Vec<Envelope>,
    /// The timers that the handler started and did not cancel. None when it failed and its agent is durable.
    pub timers: Vec<Timer>,
    /// Whether the handler told its agent to stop. The harness goes on.
    pub stopped: bool,
    answer: std::result::Result<Payload, Failure>,
}

impl<S> Outcome<S> {
    /// The handler's reply.
    ///
    /// # Errors
    /// The [`Failure`] that the asker would have got, or why the reply is no `R`.
    pub fn reply<R: DeserializeOwned + 'static>(&self) -> Result<R> {
        match &self.answer {
            Ok(payload) => Ok(payload.decode()?),
            Err(failure) => Err(failure.clone().into()),
        }
    }

    /// The failure that the asker would have got, if any.
    pub fn failure(&self) -> Option<&Failure> {
        self.answer.as_ref().err()
    }
}

/// A timer that a handler started. No time passes in a harness, so it does not run: deliver its message yourself.
#[derive(Clone, Debug)]
pub struct Timer {
    message_type: MessageType,
    /// As MessagePack.
    payload: Bytes,
    after: Duration,
    period: Option<Duration>,
}

impl Timer {
    /// The message that it sends to its agent.
    pub fn message_type(&self) -> &MessageType {
        &self.message_type
    }

    /// The message's payload.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(Codec::MessagePack.decode(&self.payload)?)
    }

    /// How long it waits before it sends for the first time.
    pub const fn after(&self) -> Duration {
        self.after
    }

    /// How long it waits each time after that; `None` when it sends once.
    pub const fn period(&self) -> Option<Duration> {
        self.period
    }
}

impl<A: Agent> Harness<A> {
    /// An agent with the default state, as if it had just been started; its `#[on_start]` does not run.
    ///
    /// # Panics
    /// When its declared id is no agent id, which the macros do not let happen.
    pub fn new(agent: A) -> Self {
        let host = Arc::new(Stage::new());
        let seat = alone::<A>(agent, Arc::clone(&host) as _)
            .unwrap_or_else(|error| panic!("the agent can't be seated: {error}"));
        let _ = host.port.set(Arc::downgrade(seat.port()));
        Self { seat, host }
    }

    /// Gives it a state.
    #[must_use]
    pub fn state(self, state: StateOf<A>) -> Self {
        self.seat.set_state(state);
        self
    }

    /// What an ask of its handlers gets for an answer.
    ///
    /// # Panics
    /// When the reply can't be encoded.
    #[must_use]
    pub fn answers<R: Serialize + ?Sized>(
        self,
        target: &str,
        message_type: &str,
        reply: &R,
    ) -> Self {
        let bytes = Codec::MessagePack
            .encode(reply)
            .unwrap_or_else(|error| panic!("the reply can't be encoded: {error}"));
        let key = (target.to_owned(), message_type.to_owned());
        self.host.state().answers.insert(key, bytes);
        self
    }

    /// Runs its `#[on_start]`.
    ///
    /// # Errors
    /// The [`Failure`] with which it would not have started.
    pub async fn start(&mut self) -> Result<()> {
        let started = self.seat.on_start().await;
        self.seat.take_stop();
        let holds = started.is_ok() || !self.seat.is_durable();
        self.host.state().settle_timers(holds);
        started.map_err(Error::from)
    }

    /// The timers that run: those that a handler or `#[on_start]` has started and none has cancelled.
    pub fn timers(&self) -> Vec<Timer> {
        let state = self.host.state();
        state.running.iter().map(|(_, own)| own.clone()).collect()
    }

    /// Delivers a message and lets its handler run to its end.
    pub async fn deliver<P: Serialize + ?Sized>(
        &mut self,
        message_type: &str,
        payload: &P,
    ) -> Outcome<StateOf<A>> {
        self.host.state().sent.clear();
        let answer = self.run(message_type, payload).await;
        let released = answer.is_ok() || !self.seat.is_durable();
        let mut state = self.host.state();
        let mut sent = std::mem::take(&mut state.sent);
        sent.retain(|envelope| released || envelope.meta.expects_reply);
        let timers = state.settle_timers(released);
        drop(state);
        Outcome {
            state: self.seat.copy_state(),
            sent,
            timers,
            stopped: self.seat.take_stop(),
            answer,
        }
    }

    async fn run<P: Serialize + ?Sized>(
        &mut self,
        message_type: &str,
        payload: &P,
    ) -> std::result::Result<Payload, Failure> {
        let message_type = MessageType::new(message_type).map_err(Failure::from_error)?;
        let payload = Payload::encode(payload).map_err(Failure::from_error)?;
        self.seat.handle(message_type, payload).await
    }
}

impl<A: Agent> fmt::Debug for Harness<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}

/// What stands in for a runtime: it keeps what is sent.
#[derive(Debug)]
struct Stage {
    core: Core,
    /// Where the agent's own messages go in: its timers hold this stage.
    port: OnceLock<Weak<Port>>,
    state: Mutex<StageState>,
}

#[derive(Debug, Default)]
struct StageState {
    sent: Vec<Envelope>,
    answers: BTreeMap<(String, String), Bytes>,
    /// The timers that handlers before have started.
    running: Vec<(TimerHandle, Timer)>,
    /// Those that the running handler has started, and those of others that it has cancelled.
    started: Vec<(TimerHandle, Timer)>,
    cancelled: Vec<TimerHandle>,
}

impl StageState {
    /// The handler is over: what it did to timers holds, unless it is undone. Gives what it started.
    fn settle_timers(&mut self, holds: bool) -> Vec<Timer> {
        let started = std::mem::take(&mut self.started);
        let cancelled = std::mem::take(&mut self.cancelled);
        if !holds {
            return Vec::new();
        }
        self.running.retain(|(timer, _)| !cancelled.contains(timer));
        let timers = started.iter().map(|(_, own)| own.clone()).collect();
        self.running.extend(started);
        timers
    }
}

impl Stage {
    fn new() -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let clock = Arc::new(SystemClock::new());
        Self {
            core: Core::new(clock, Entropy::seeded(0), engine, Options::default()),
            port: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, StageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Stage {
    fn core(&self) -> &Core {
        &self.core
    }

    fn send(&self, to: &Handle, letter: Letter) -> Sending {
        let mut state = self.state();
        let target = to.id.clone();
        let mut delivery = letter.delivery;
        let key = (target.to_string(), letter.message_type.to_string());
        let answer = state.answers.get(&key).cloned();
        delivery.cover_mut().id = self.core.new_id();
        let envelope = delivery.take_envelope(target.clone(), letter.message_type);
        let asker = std::mem::take(&mut delivery.asker);
        let asks = asker.wants_reply() || asker.wants_stream();
        state.sent.push(envelope);
        match (asks, answer) {
            (false, _) => Sending::Done(Ok(())),
            (true, Some(bytes)) => {
                let reply = Payload::encoded(Codec::MessagePack, bytes);
                asker.answer(Ok(reply));
                Sending::Done(Ok(()))
            }
            (true, None) => {
                asker.disarm();
                Sending::Done(Err(SendError::UnknownAgent { target }))
            }
        }
    }

    fn outbox_has_room(&self, _: &AgentId, _: usize) -> bool {
        true
    }

    fn subscribers(&self, topic: &str) -> Vec<AgentId> {
        // A publish is seen as one message to the topic itself, where the topic can be a name.
        AgentId::new(topic).into_iter().collect()
    }

    fn plan(&self, _: Draft, _: &mut Batch) -> Planned {
        Planned::Dead
    }

    fn release(&self, _: Planned, _: u64) {}

    fn withdraw(&self, _: Planned) {}

    fn doubt(&self, _: Planned) {}

    fn append(&self, draft: Draft, _: Batch) -> Boxed<'static, Result<(), SendError>> {
        let done = match self.send(&draft.to, draft.letter) {
            Sending::Done(done) => done,
            Sending::Wait(_) => Ok(()),
        };
        Box::pin(std::future::ready(done))
    }

    fn dead_letter(&self, _: DeadLetter) {}

    fn ended(&self, _: &Arc<Port>, _: &EndReason) {}

    fn port(&self, id: &AgentId) -> Option<Arc<Port>> {
        let own = self.port.get().and_then(Weak::upgrade);
        own.filter(|port| port.id == *id)
    }

    fn launch(
        self: Arc<Self>,
        _: Box<dyn Launch>,
        _: Option<AgentId>,
    ) -> Boxed<'static, Result<Arc<Port>, SpawnError>> {
        Box::pin(std::future::ready(Err(SpawnError::ShutDown)))
    }

    fn stop(self: Arc<Self>, id: AgentId) -> Boxed<'static, Result<()>> {
        let not_running = RequestError::NotRunning { id };
        Box::pin(std::future::ready(Err(not_running.into())))
    }

    fn discover(&self, _: &Query) -> Vec<AgentRecord> {
        Vec::new()
    }

    fn subscribe(&self, _: &AgentId, _: &str) -> Result<()> {
        Ok(())
    }

    fn unsubscribe(&self, _: &AgentId, _: &str) -> bool {
        true
    }

    fn watch(&self, _: &AgentId, _: &AgentId) -> Result<()> {
        Ok(())
    }

    fn timer_started(
        &self,
        timer: &TimerHandle,
        after: Duration,
        period: Option<Duration>,
        look: &dyn Fn() -> Result<(MessageType, Bytes)>,
    ) {
        if let Ok((message_type, payload)) = look() {
            let own = Timer {
                message_type,
                payload,
                after,
                period,
            };
            self.state().started.push((timer.clone(), own));
        }
    }

    fn timer_cancelled(&self, timer: &TimerHandle) -> bool {
        let mut state = self.state();
        let before = state.started.len();
        state.started.retain(|(own, _)| own != timer);
        if state.started.len() < before {
            return true;
        }
        let runs = state.running.iter().any(|(own, _)| own == timer);
        let cancels = runs && !state.cancelled.contains(timer);
        if cancels {
            state.cancelled.push(timer.clone());
        }
        cancels
    }
}

//! What `tell`, `ask`, `stream` and a typed call return: builders that are futures. Nothing is sent before the first poll.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::agent::{HandlerIndex, Route};
use super::delivery::{Answer, Asker, Deadline, Delivery, Part};
use super::error::{AskError, SendError};
use super::host::{Boxed, Host, Sending};
use super::port::Port;
use super::replies::Replies;
use super::reply_cell::{ReplyReceiver, YOUNG, reply_cell};
use super::turn::Turn;
use super::waiting::Asking;
use crate::model::limits::{ASK_TIMEOUT, OUTBOX_ENTRIES_MAX, STREAM_ITEMS_MAX};
use crate::model::{AgentId, Envelope, MessageType, Moment, Payload, Priority};

/// Where a ref leads.
pub(crate) struct Handle {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) id: AgentId,
    pub(crate) port: Option<Arc<Port>>,
}

/// A message that is not sent yet, with its terms.
pub(crate) struct Draft {
    pub(crate) to: Arc<Handle>,
    pub(crate) letter: Letter,
}

/// A message that is not sent yet, without its address.
pub(crate) struct Letter {
    /// What will be delivered, but for its type.
    pub(crate) delivery: Delivery,
    pub(crate) message_type: MessageType,
    /// The handler, where the sender knows it.
    pub(crate) route: Option<Route>,
    pub(crate) try_now: bool,
    /// The handler that sends it.
    pub(crate) turn: Option<Arc<Turn>>,
    /// What was wrong already when it was built.
    pub(crate) fault: Option<Box<SendError>>,
}

impl Letter {
    /// A message that no handler sends.
    const fn new(message_type: MessageType, delivery: Delivery) -> Self {
        Self {
            delivery,
            message_type,
            route: None,
            try_now: false,
            turn: None,
            fault: None,
        }
    }
}

impl Draft {
    /// A message that was an envelope before.
    pub(crate) fn of(to: Arc<Handle>, envelope: Envelope) -> Self {
        let message_type = envelope.message_type.clone();
        let delivery = Delivery::of(envelope, Route::default());
        let letter = Letter::new(message_type, delivery);
        Self { to, letter }
    }

    /// A message of this type, sent by the handler whose turn it is, if any.
    pub(crate) fn new(
        to: Arc<Handle>,
        turn: Option<Arc<Turn>>,
        message_type: MessageType,
        payload: Payload,
    ) -> Self {
        let mut letter = Letter::new(message_type, Delivery::new(payload));
        letter.turn = turn;
        Self { to, letter }
    }

    /// A message of this type with an encoded payload.
    pub(crate) fn by_type<P: Serialize + ?Sized>(
        to: Arc<Handle>,
        turn: Option<Arc<Turn>>,
        message_type: &str,
        payload: &P,
    ) -> Self {
        let mut fault: Option<SendError> = None;
        let message_type = MessageType::new(message_type).unwrap_or_else(|error| {
            fault = Some(error.into());
            MessageType::declared("-")
        });
        let payload = Payload::encode(payload).unwrap_or_else(|error| {
            fault = Some(error.into());
            Payload::empty()
        });
        let mut draft = Self::new(to, turn, message_type, payload);
        draft.letter.fault = fault.map(Box::new);
        draft
    }

    /// A message for a handler that the compiler knows.
    #[inline(always)]
    pub(crate) fn typed<A: 'static>(
        to: Arc<Handle>,
        handler: HandlerIndex,
        message_type: &'static str,
        delivery: Delivery,
    ) -> Self {
        // Behind the id may be another type of agent, or none here: then the message type decides.
        let route = match &to.port {
            Some(port) if port.agent_type == TypeId::of::<A>() => port.table.at(handler),
            _ => None,
        };
        let letter = Letter {
            delivery,
            message_type: MessageType::declared(message_type),
            route,
            try_now: false,
            turn: Turn::current(),
            fault: None,
        };
        Self { to, letter }
    }

    /// Inherits what the handler that sends it has, and checks what can be checked here.
    fn prepare(&mut self) -> Result<(), SendError> {
        if let Some(fault) = self.letter.fault.take() {
            return Err(*fault);
        }
        let Some(turn) = &self.letter.turn else {
            return Ok(());
        };
        turn.inherit(&mut self.letter.delivery)
    }

    /// Sends it, or stages it with the handler that it belongs to. Gives where it went.
    pub(crate) fn send(mut self) -> (Arc<Handle>, Sending) {
        if let Err(error) = self.prepare() {
            return (self.to, Sending::Done(Err(error)));
        }
        let staged = self.letter.turn.as_ref().is_some_and(|turn| turn.stages)
            && !self.letter.delivery.asker.wants_reply()
            && !self.letter.delivery.asker.wants_stream();
        if staged && let Some(turn) = self.letter.turn.take() {
            let to = Arc::clone(&self.to);
            return (to, Sending::Done(self.stage(&turn)));
        }
        let sending = self.to.host.send(&self.to, self.letter);
        (self.to, sending)
    }

    /// The envelope that it would have been.
    pub(crate) fn into_envelope(mut self) -> Envelope {
        let target = self.to.id.clone();
        self.letter
            .delivery
            .take_envelope(target, self.letter.message_type)
    }

    /// Keeps it with the durable handler that sends it, until that commits.
    fn stage(mut self, turn: &Turn) -> Result<(), SendError> {
        let host = &self.to.host;
        // It is stored as bytes: what is wrong with them is the handler's to hear.
        self.letter
            .delivery
            .settle(host.core().options.payload_bytes_max)?;
        if let Some(port) = host.port(&self.to.id)
            && port.route(&self.letter.message_type).is_none()
        {
            return Err(SendError::UnknownMessageType {
                target: self.to.id.clone(),
                message_type: self.letter.message_type,
                handled: port.table.message_types(),
            });
        }
        if !host.outbox_has_room(turn.agent()) {
            return Err(SendError::OutboxFull {
                sender: turn.agent().clone(),
                entries: OUTBOX_ENTRIES_MAX,
            });
        }
        turn.stage(self)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("target", &self.to.id)
            .field("message_type", &self.letter.message_type)
            .finish_non_exhaustive()
    }
}

/// The options that all builders share.
macro_rules! options {
    () => {
        /// How urgent it is; normal unless said.
        #[must_use = "nothing is sent before it is awaited"]
        pub fn priority(mut self, priority: Priority) -> Self {
            if let Some(draft) = self.draft_mut() {
                draft.letter.delivery.priority = priority;
            }
            self
        }

        /// Gives up on it, unhandled, this long from now. What its handler sends inherits the deadline.
        #[must_use = "nothing is sent before it is awaited"]
        pub fn deadline(mut self, after: Duration) -> Self {
            if let Some(draft) = self.draft_mut() {
                let at = draft.to.host.core().clock.now() + after;
                let delivery = &mut draft.letter.delivery;
                delivery.deadline = delivery.deadline.min(Deadline::at(at));
            }
            self
        }

        /// Fails with [`SendError::MailboxFull`] instead of waiting for room.
        #[must_use = "nothing is sent before it is awaited"]
        pub fn try_now(mut self) -> Self {
            if let Some(draft) = self.draft_mut() {
                draft.letter.try_now = true;
            }
            self
        }
    };
}

/// A message that nobody waits for the answer of. Awaiting it sends it.
///
/// # Cancel safety
/// Dropped before it is ready, the message was not sent, or it was sent whole.
#[must_use = "nothing is sent before it is awaited"]
pub struct Tell(TellState);

enum TellState {
    Draft(Draft, Option<Duration>),
    Sending(Boxed<'static, Result<(), SendError>>),
    Done,
}

impl Tell {
    pub(crate) fn new(draft: Draft) -> Self {
        Self(TellState::Draft(draft, None))
    }

    options!();

    /// Waits at most this long for room, or for the disk.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let TellState::Draft(_, own) = &mut self.0 {
            *own = Some(timeout);
        }
        self
    }

    fn draft_mut(&mut self) -> Option<&mut Draft> {
        match &mut self.0 {
            TellState::Draft(draft, _) => Some(draft),
            TellState::Sending(_) | TellState::Done => None,
        }
    }
}

impl Future for Tell {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, TellState::Done) {
            TellState::Draft(draft, timeout) => match draft.send().1 {
                Sending::Done(done) => return Poll::Ready(done),
                Sending::Wait(wait) => self.0 = TellState::Sending(within(wait, timeout)),
            },
            before => self.0 = before,
        }
        let TellState::Sending(wait) = &mut self.0 else {
            return Poll::Pending;
        };
        let done = std::task::ready!(wait.as_mut().poll(cx));
        self.0 = TellState::Done;
        Poll::Ready(done)
    }
}

/// Gives up waiting after this long, if that is said.
fn within(
    wait: Boxed<'static, Result<(), SendError>>,
    timeout: Option<Duration>,
) -> Boxed<'static, Result<(), SendError>> {
    let Some(timeout) = timeout else {
        return wait;
    };
    Box::pin(async move {
        let waited = tokio::time::timeout(timeout, wait).await;
        waited.unwrap_or(Err(SendError::Expired))
    })
}

/// A message whose one reply is waited for. Awaiting it sends it.
///
/// # Cancel safety
/// Dropped before it is ready, the reply is given up on; the message may have been handled.
#[must_use = "nothing is sent before it is awaited"]
pub struct Ask<R> {
    state: AskState<ReplyReceiver>,
    reply: PhantomData<fn() -> R>,
}

/// What an ask and the asking for a stream have in common.
enum AskState<W> {
    /// With how long to wait, where that was said.
    Draft(Draft, Option<Duration>),
    Sending(Boxed<'static, Result<(), SendError>>, Pending<W>),
    Waiting(Pending<W>),
    Done,
}

/// An ask on its way.
struct Pending<W> {
    answer: W,
    patience: Patience,
    /// Held until the answer is here.
    _wait: Option<Box<OpenWait>>,
}

/// How long an ask waits.
struct Patience {
    to: Arc<Handle>,
    timeout: Duration,
    until: Moment,
    timer: Timer,
}

enum Timer {
    /// It has not waited so far.
    None,
    /// Whoever watches over the young wakes it, who know it by this number.
    Young(usize),
    Own(Pin<Box<Sleep>>),
}

/// Its number in the graph of who waits for whom.
struct OpenWait {
    host: Arc<dyn Host>,
    asker: AgentId,
    number: u64,
}

impl Drop for OpenWait {
    fn drop(&mut self) {
        self.host.core().waits.end(&self.asker, self.number);
    }
}

impl Patience {
    /// Ready when it has waited long enough. A reply that is waited for is young at first.
    fn poll(&mut self, cx: &mut Context<'_>, reply: Option<&ReplyReceiver>) -> Poll<()> {
        let core = self.to.host.core();
        if let (Timer::None, Some(reply)) = (&self.timer, reply)
            && self.timeout > 2 * YOUNG
            && let Some(number) = core.young.note(reply, &core.tasks)
        {
            self.timer = Timer::Young(number);
            return Poll::Pending;
        }
        if let Timer::Young(number) = self.timer {
            // Polled for some other reason, it is still watched over.
            if !core.young.has_grown(number) {
                return Poll::Pending;
            }
            core.young.forget(number);
        }
        if !matches!(self.timer, Timer::Own(_)) {
            let left = self.until.since(core.clock.now());
            self.timer = Timer::Own(Box::pin(tokio::time::sleep(left)));
        }
        match &mut self.timer {
            Timer::Own(timer) => timer.as_mut().poll(cx),
            Timer::None | Timer::Young(_) => Poll::Pending,
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Timer::Young(number) = self.timer {
            self.to.host.core().young.forget(number);
        }
    }
}

impl<W> AskState<W> {
    fn draft_mut(&mut self) -> Option<(&mut Draft, &mut Option<Duration>)> {
        match self {
            Self::Draft(draft, timeout) => Some((draft, timeout)),
            _ => None,
        }
    }

    /// Sends the ask and starts its clock.
    fn begin(&mut self, channel: impl FnOnce() -> (Asker, W)) -> Result<(), AskError> {
        let Self::Draft(mut draft, timeout) = std::mem::replace(self, Self::Done) else {
            return Ok(());
        };
        let timeout = timeout.unwrap_or(ASK_TIMEOUT);
        let now = draft.to.host.core().clock.now();
        let mut until = now + timeout;
        let delivery = &mut draft.letter.delivery;
        delivery.deadline = delivery.deadline.min(Deadline::at(until));
        delivery.expects_reply = true;
        if let Some(turn) = &draft.letter.turn {
            // What the handler inherited may be shorter than its own patience.
            until = turn.deadline().map_or(until, |at| at.min(until));
        }
        let wait = open_wait(&draft)?;
        let (asker, answer) = channel();
        // A stream can't be kept, so another attempt asks for a new one.
        if asker.wants_reply()
            && let Some(id) = draft
                .letter
                .turn
                .as_ref()
                .and_then(|turn| turn.next_ask_id())
        {
            draft.letter.delivery.cover_mut().id = id;
        }
        draft.letter.delivery.asker = asker;
        let (to, sending) = draft.send();
        let pending = Pending {
            answer,
            patience: Patience {
                to,
                timeout: until.since(now),
                until,
                timer: Timer::None,
            },
            _wait: wait.map(Box::new),
        };
        *self = match sending {
            Sending::Done(Ok(())) => Self::Waiting(pending),
            Sending::Done(Err(error)) => return Err(error.into()),
            Sending::Wait(wait) => Self::Sending(wait, pending),
        };
        Ok(())
    }

    /// The same message for nobody who waits. What was said of how long to wait holds for the sending.
    #[inline(always)]
    fn into_tell(self) -> Tell {
        Tell(match self {
            Self::Draft(draft, timeout) => TellState::Draft(draft, timeout),
            _ => TellState::Done,
        })
    }

    /// Moves on from sending to waiting.
    fn sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AskError>> {
        let Self::Sending(sending, pending) = self else {
            return Poll::Ready(Ok(()));
        };
        let sent = match sending.as_mut().poll(cx) {
            Poll::Ready(sent) => sent.map_err(AskError::from),
            Poll::Pending => {
                std::task::ready!(pending.patience.poll(cx, None));
                Err(pending.timed_out())
            }
        };
        let state = std::mem::replace(self, Self::Done);
        if let (Ok(()), Self::Sending(_, pending)) = (&sent, state) {
            *self = Self::Waiting(pending);
        }
        Poll::Ready(sent)
    }
}

impl<W> Pending<W> {
    fn timed_out(&self) -> AskError {
        AskError::TimedOut {
            target: self.patience.to.id.clone(),
            after: self.patience.timeout,
        }
    }
}

/// Notes who waits for whom when a handler asks.
fn open_wait(draft: &Draft) -> Result<Option<OpenWait>, AskError> {
    let Some(turn) = &draft.letter.turn else {
        return Ok(None);
    };
    let needs = match draft.letter.route {
        Some(route) => Some(route),
        None => draft
            .to
            .host
            .port(&draft.to.id)
            .and_then(|port| port.route(&draft.letter.message_type)),
    };
    let own = draft.to.host.port(turn.agent());
    let asking = Asking {
        asker: turn.agent().clone(),
        instance: turn.instance,
        instances: own.map_or(1, |port| port.slots.len() as u32),
        target: draft.to.id.clone(),
        holds: turn.cause.is_exclusive(),
        needs: needs.is_some_and(|route| route.exclusive),
    };
    let asker = asking.asker.clone();
    match turn.host.core().waits.begin(asking) {
        Ok(number) => Ok(Some(OpenWait {
            host: Arc::clone(&turn.host),
            asker,
            number,
        })),
        Err(path) => Err(AskError::Cycle { path }),
    }
}

impl<R> Ask<R> {
    #[inline(always)]
    pub(crate) fn new(draft: Draft) -> Self {
        Self {
            state: AskState::Draft(draft, None),
            reply: PhantomData,
        }
    }

    options!();

    /// How long to wait for the reply; 60 s unless said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Some((_, own)) = self.state.draft_mut() {
            *own = Some(timeout);
        }
        self
    }

    fn draft_mut(&mut self) -> Option<&mut Draft> {
        self.state.draft_mut().map(|(draft, _)| draft)
    }
}

impl<R: DeserializeOwned + 'static> Future for Ask<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(self.state, AskState::Draft(..)) {
            let channel = || {
                let (sender, receiver) = reply_cell();
                (Asker::one_reply(sender), receiver)
            };
            self.state.begin(channel)?;
        }
        if matches!(self.state, AskState::Sending(..)) {
            std::task::ready!(self.state.sent(cx))?;
        }
        let AskState::Waiting(pending) = &mut self.state else {
            return Poll::Pending;
        };
        let answer = match pending.answer.poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                let reply = Some(&pending.answer);
                std::task::ready!(pending.patience.poll(cx, reply));
                let error = pending.timed_out();
                self.state = AskState::Done;
                return Poll::Ready(Err(error));
            }
        };
        let reply = read_answer(answer, &pending.patience.to.id);
        self.state = AskState::Done;
        Poll::Ready(reply)
    }
}

/// What an asker makes of an answer.
pub(crate) fn read_answer<R: DeserializeOwned + 'static>(
    answer: Option<Answer>,
    target: &AgentId,
) -> Result<R, AskError> {
    let answer = answer.unwrap_or_else(|| {
        let text = format!("`{target}` ended before it answered");
        Err(crate::model::Failure::new(
            crate::model::FailureCode::STOPPED,
            text,
        ))
    });
    let payload = answer?;
    payload.take().map_err(|source| AskError::Reply {
        target: target.clone(),
        source,
    })
}

/// A message whose streamed reply is waited for. Awaiting it sends it and gives the stream.
///
/// # Cancel safety
/// Dropped before it is ready, the stream is given up on, and its handler ends.
#[must_use = "nothing is sent before it is awaited"]
pub struct AskStream<T> {
    state: AskState<mpsc::Receiver<Part>>,
    item: PhantomData<fn() -> T>,
}

impl<T> AskStream<T> {
    pub(crate) fn new(draft: Draft) -> Self {
        Self {
            state: AskState::Draft(draft, None),
            item: PhantomData,
        }
    }

    /// Sends it without waiting for the stream: the handler is called, and nobody takes what it yields. Its timeout,
    /// where one was said, is then that of the [`Tell`].
    pub fn tell(self) -> Tell {
        self.state.into_tell()
    }

    options!();

    /// How long to wait for the first item, and then for each next one; 60 s unless said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Some((_, own)) = self.state.draft_mut() {
            *own = Some(timeout);
        }
        self
    }

    fn draft_mut(&mut self) -> Option<&mut Draft> {
        self.state.draft_mut().map(|(draft, _)| draft)
    }
}

impl<T: DeserializeOwned + 'static> Future for AskStream<T> {
    type Output = Result<Replies<T>, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(self.state, AskState::Draft(..)) {
            let channel = || {
                let (sender, receiver) = mpsc::channel(STREAM_ITEMS_MAX);
                (Asker::stream(sender), receiver)
            };
            self.state.begin(channel)?;
        }
        if matches!(self.state, AskState::Sending(..)) {
            std::task::ready!(self.state.sent(cx))?;
        }
        match std::mem::replace(&mut self.state, AskState::Done) {
            AskState::Waiting(pending) => Poll::Ready(Ok(Replies::new(
                pending.answer,
                pending.patience.to.id.clone(),
                pending.patience.timeout,
            ))),
            _ => Poll::Pending,
        }
    }
}

/// A typed call: what a method of an agent's own ref returns. Awaiting it asks.
///
/// # Cancel safety
/// As [`Ask`].
#[must_use = "nothing is sent before it is awaited"]
pub struct Call<R>(Ask<R>);

impl<R> Call<R> {
    #[inline(always)]
    pub(crate) fn new(draft: Draft) -> Self {
        Self(Ask::new(draft))
    }

    /// Sends it without waiting for the reply. Its timeout, where one was said, is then that of the [`Tell`].
    #[inline]
    pub fn tell(self) -> Tell {
        self.0.state.into_tell()
    }

    options!();

    /// How long to wait for the reply; 60 s unless said.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    fn draft_mut(&mut self) -> Option<&mut Draft> {
        self.0.draft_mut()
    }
}

impl<R: DeserializeOwned + 'static> Future for Call<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A typed call of a handler that answers by a stream. Awaiting it gives the stream.
pub type StreamCall<T> = AskStream<T>;

impl<T> fmt::Debug for AskStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskStream").finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Ask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tell").finish_non_exhaustive()
    }
}

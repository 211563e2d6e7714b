//! What `ask`, `stream` and a typed call return: builders that are futures. Nothing is sent before the first poll.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::delivery::{Answer, Asker, Deadline, Part};
use super::draft::{Draft, Handle};
use super::error::{AskError, SendError};
use super::host::{Boxed, Host, Sending};
use super::replies::Replies;
use super::reply_cell::{ReplyReceiver, YOUNG, reply_cell};
use super::send::{Tell, TellState, options};
use super::waiting::Asking;
use crate::model::limits::{ASK_TIMEOUT, STREAM_ITEMS_MAX};
use crate::model::{AgentId, Moment, Priority};

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
            self.timer = Timer::None;
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

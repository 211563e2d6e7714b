//! What `tell` returns, and the options that all such builders share. Nothing is sent before the first poll.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::delivery::Deadline;
use super::draft::Draft;
use super::error::SendError;
use super::host::{Boxed, Sending};
use crate::model::Priority;

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

pub(super) use options;

/// A message that nobody waits for the answer of. Awaiting it sends it.
///
/// # Cancel safety
/// Dropped before it is ready, the message was not sent, or it was sent whole.
#[must_use = "nothing is sent before it is awaited"]
pub struct Tell(pub(super) TellState);

pub(super) enum TellState {
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

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tell").finish_non_exhaustive()
    }
}

//! One call of an engine, under the deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use super::circuit::Circuit;
use crate::store::traits::BoxFuture;
use crate::store::{CommitError, Committed, StoreError};

/// A call, and how long it may take. The engine is polled first: one that answers at once costs no timer.
pub(super) struct Watched<'a, T, E> {
    /// `None` once it is over.
    call: Option<BoxFuture<'a, Result<T, E>>>,
    action: &'static str,
    circuit: Arc<Circuit>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<'a, T, E> Watched<'a, T, E> {
    pub(super) fn new(
        circuit: &Arc<Circuit>,
        action: &'static str,
        call: BoxFuture<'a, Result<T, E>>,
    ) -> Self {
        Self {
            call: Some(call),
            action,
            circuit: Arc::clone(circuit),
            deadline: None,
        }
    }
}

impl<T, E: From<StoreError>> Future for Watched<'_, T, E>
where
    Result<T, E>: Answer,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(call) = &mut this.call else {
            return Poll::Pending;
        };
        if let Poll::Ready(answer) = call.as_mut().poll(cx) {
            this.call = None;
            answer.tell(&this.circuit);
            return Poll::Ready(answer);
        }
        if this.deadline.is_none() {
            this.deadline = this.circuit.timer();
        }
        let Some(deadline) = &mut this.deadline else {
            return Poll::Pending;
        };
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Let go of before the circuit opens: a batch that waits for room only is withdrawn.
        this.call = None;
        let error = this.circuit.timed_out(this.action);
        Poll::Ready(Err(error.into()))
    }
}

/// What an answer says of the engine's medium.
pub(super) trait Answer {
    fn tell(&self, circuit: &Arc<Circuit>);
}

/// A read that fails says nothing: the probe, which is a commit, could not tell when reads work again.
impl<T> Answer for Result<T, StoreError> {
    fn tell(&self, _circuit: &Arc<Circuit>) {}
}

impl Answer for Result<Committed, CommitError> {
    fn tell(&self, circuit: &Arc<Circuit>) {
        match self {
            Ok(_) => circuit.committed(),
            Err(error) if error.is_outage() => circuit.failed(error),
            // A condition that does not hold, or a disk without room: the engine is well enough to say so.
            Err(_) => {}
        }
    }
}

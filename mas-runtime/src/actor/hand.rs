//! A message between its dispatch and its end.

use std::sync::Arc;

use super::agent::Agent;
use super::delivery::{Answer, Asker, Part};
use super::inbox::{Claim, Window};
use super::instance::Instance;
use super::port::Port;
use super::settle::failed;
use super::turn::{Cause, Turn};
use crate::model::{Failure, FailureCode};

/// A message between its dispatch and its end: dropped before it settled, a durable one is tried again, and the asker of
/// another hears that nobody answers.
pub(crate) struct InHand {
    port: Arc<Port>,
    asker: Option<Asker>,
    claim: Option<Box<Claim>>,
    /// The run of its handler, once it has begun.
    turn: Option<Arc<Turn>>,
    wants_reply: bool,
    /// Whether it is this one that keeps other entries of the same message off.
    holds: bool,
}

impl InHand {
    pub(crate) fn new(
        port: Arc<Port>,
        asker: Asker,
        claim: Option<Box<Claim>>,
        expects_reply: bool,
    ) -> Self {
        let holds = match (&port.window, &claim) {
            (Some(window), Some(claim)) => window.take_up(claim.id),
            _ => false,
        };
        // Somebody may wait for the answer to a durable message who has not yet been heard of.
        let wants_reply = asker.wants_reply() || (claim.is_some() && expects_reply);
        Self {
            port,
            asker: Some(asker),
            claim,
            turn: None,
            wants_reply,
            holds,
        }
    }

    /// Its handler begins: from now on a drop is an attempt that failed.
    pub(crate) fn begin(&mut self, turn: &Arc<Turn>) {
        self.turn = Some(Arc::clone(turn));
    }

    /// Whether what the handler sends waits for its commit.
    pub(crate) const fn stages(&self) -> bool {
        self.claim.is_some()
    }

    pub(crate) const fn wants_reply(&self) -> bool {
        self.wants_reply
    }

    pub(crate) fn sink(&self) -> Option<tokio::sync::mpsc::Sender<Part>> {
        match (self.window(), &self.claim) {
            (Some(window), Some(claim)) => window.sink(claim.id),
            _ => self.asker.as_ref()?.sink(),
        }
    }

    pub(crate) fn window(&self) -> Option<&Arc<Window>> {
        self.port.window.as_ref()
    }

    pub(crate) fn claim(&self) -> Option<&Claim> {
        self.claim.as_deref()
    }

    /// Tells whoever asked.
    pub(crate) fn answer<A: Agent>(
        &mut self,
        instance: &Instance<A>,
        cause: &Cause,
        answer: Answer,
    ) {
        if let (Some(window), Some(claim)) = (self.window(), &self.claim) {
            trace_answer(instance, cause, &answer, cause.expects_reply);
            window.answer(claim.id, answer);
        } else if let Some(asker) = self.asker.take() {
            tell(instance, cause, asker, answer);
        }
    }

    /// Nothing is to be done any more when this is dropped.
    pub(crate) fn over(&mut self) -> Option<Box<Claim>> {
        let claim = self.claim.take();
        if let (true, Some(window), Some(claim)) = (self.holds, self.window(), &claim) {
            window.put_down(claim.id);
        }
        claim
    }
}

/// Tells the asker of a message of an agent without an inbox.
pub(crate) fn tell<A: Agent>(instance: &Instance<A>, cause: &Cause, asker: Asker, answer: Answer) {
    let heard = asker.wants_reply() || asker.wants_stream();
    trace_answer(instance, cause, &answer, heard);
    if !asker.answer(answer) {
        instance.host.core().late_reply(&instance.port.id);
    }
}

/// Traces a failure, and a reply that somebody waits for.
fn trace_answer<A: Agent>(instance: &Instance<A>, cause: &Cause, answer: &Answer, heard: bool) {
    let core = instance.host.core();
    if core.trace.get().is_some() && (heard || answer.is_err()) {
        let what = if answer.is_ok() { "reply" } else { "failure" };
        core.trace(
            &instance.port.id,
            format_args!(
                "{what} {} to {}",
                cause.message_type(&instance.port.table),
                cause.sender()
            ),
        );
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let (Some(claim), Some(window)) = (self.over(), self.window().cloned()) else {
            return;
        };
        let Some(turn) = self.turn.take() else {
            // Nobody has begun with it: it waits again, and no attempt is counted.
            window.spawn(|window| async move { window.reload(*claim) });
            return;
        };
        let mut why = Failure::new(FailureCode::PANIC, "the agent ended while it handled this");
        if turn.has_streamed() {
            why = why.lasting();
            window.answer(claim.id, Err(why.clone()));
        }
        let port = Arc::clone(&self.port);
        let commits = turn.close().map(|book| book.commits);
        window.spawn(|window| async move {
            // What it has changed already is on its way: the next attempt must know of it.
            for commit in commits.into_iter().flatten() {
                let _ = commit.await;
            }
            failed(&port, &window, *claim, why).await;
        });
    }
}

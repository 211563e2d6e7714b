//! A message between its dispatch and its end.

use std::sync::Arc;

use super::agent::Agent;
use super::delivery::{Answer, Asker, Part};
use super::inbox::{Claim, Window};
use super::instance::Instance;
use super::port::Port;
use super::settle::failed;
use super::turn::{Cause, Turn};
use crate::model::{Failure, FailureCode, MessageId};

/// An entry that an instance has taken up: no other entry of the same message is taken up before this is dropped.
pub(crate) struct Taken {
    pub(crate) claim: Box<Claim>,
    _hold: Hold,
}

/// Keeps other entries of a message off.
struct Hold {
    window: Arc<Window>,
    id: MessageId,
}

impl Taken {
    /// Takes an entry up. It comes back when another entry of the same message is in hand.
    pub(crate) fn up(window: &Arc<Window>, claim: Box<Claim>) -> Result<Self, Box<Claim>> {
        if !window.take_up(claim.id) {
            return Err(claim);
        }
        let hold = Hold {
            window: Arc::clone(window),
            id: claim.id,
        };
        Ok(Self { claim, _hold: hold })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.window.put_down(self.id);
    }
}

/// A message between its dispatch and its end: dropped before it settled, a durable one is tried again, and the asker of
/// another hears that nobody answers.
pub(crate) struct InHand {
    port: Arc<Port>,
    asker: Option<Asker>,
    taken: Option<Taken>,
    /// The run of its handler, once it has begun.
    turn: Option<Arc<Turn>>,
    wants_reply: bool,
}

impl InHand {
    pub(crate) fn new(
        port: Arc<Port>,
        asker: Asker,
        taken: Option<Taken>,
        expects_reply: bool,
    ) -> Self {
        // Somebody may wait for the answer to a durable message who has not yet been heard of.
        let wants_reply = asker.wants_reply() || (taken.is_some() && expects_reply);
        Self {
            port,
            asker: Some(asker),
            taken,
            turn: None,
            wants_reply,
        }
    }

    /// Its handler begins: from now on a drop is an attempt that failed.
    pub(crate) fn begin(&mut self, turn: &Arc<Turn>) {
        self.turn = Some(Arc::clone(turn));
    }

    /// Whether what the handler sends waits for its commit.
    pub(crate) const fn stages(&self) -> bool {
        self.taken.is_some()
    }

    pub(crate) const fn wants_reply(&self) -> bool {
        self.wants_reply
    }

    pub(crate) fn sink(&self) -> Option<tokio::sync::mpsc::Sender<Part>> {
        match (self.window(), self.claim()) {
            (Some(window), Some(claim)) => window.sink(claim.id),
            _ => self.asker.as_ref()?.sink(),
        }
    }

    pub(crate) fn window(&self) -> Option<&Arc<Window>> {
        self.port.window.as_ref()
    }

    pub(crate) fn claim(&self) -> Option<&Claim> {
        self.taken.as_ref().map(|taken| &*taken.claim)
    }

    /// Tells whoever asked.
    pub(crate) fn answer<A: Agent>(
        &mut self,
        instance: &Instance<A>,
        cause: &Cause,
        answer: Answer,
    ) {
        if let (Some(window), Some(claim)) = (self.window(), self.claim()) {
            trace_answer(instance, cause, &answer, cause.expects_reply);
            window.answer(claim.id, answer);
        } else if let Some(asker) = self.asker.take() {
            tell(instance, cause, asker, answer);
        }
    }

    /// Nothing is to be done any more when this is dropped.
    pub(crate) const fn over(&mut self) -> Option<Taken> {
        self.taken.take()
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
        let (Some(taken), Some(window)) = (self.over(), self.window().cloned()) else {
            return;
        };
        let Some(turn) = self.turn.take() else {
            // Nobody has begun with it: it waits again, and no attempt is counted.
            window.spawn(|window| async move { window.reload(*taken.claim) });
            return;
        };
        let mut why = Failure::new(FailureCode::PANIC, "the agent ended while it handled this");
        if turn.has_streamed() {
            why = why.lasting();
            window.answer(taken.claim.id, Err(why.clone()));
        }
        let port = Arc::clone(&self.port);
        let commits = turn.close().map(|book| book.commits);
        window.spawn(|window| async move {
            // What it has changed already is on its way: the next attempt must know of it.
            for commit in commits.into_iter().flatten() {
                let _ = commit.await;
            }
            failed(&port, &window, taken, why).await;
        });
    }
}

//! The checks before a handler sees a message.

use std::sync::Arc;

use super::agent::Agent;
use super::backoff::REDELIVERY;
use super::delivery::{Asker, Deadline, Delivery};
use super::hand::{InHand, Taken};
use super::host::DeadLetter;
use super::inbox::Window;
use super::instance::Instance;
use super::port::Port;
use super::settle::{ack, bury, engine_failed, failed};
use super::to_its_end::ToItsEnd;
use super::turn::Cause;
use crate::model::{Failure, FailureCode};
use crate::store::{Batch, CommitError};

/// A message that may be handled, and its entry in the durable inbox.
pub(crate) struct Admitted {
    pub(crate) delivery: Delivery,
    pub(crate) taken: Option<Taken>,
}

impl Admitted {
    /// A message that no inbox knows of.
    pub(crate) const fn plain(delivery: Delivery) -> Self {
        Self {
            delivery,
            taken: None,
        }
    }
}

/// Whether [`admit`] has anything to check.
pub(crate) fn needs_admission(delivery: &Delivery) -> bool {
    delivery.claim.is_some() || delivery.deadline != Deadline::NEVER
}

/// Whether a message is still worth handling, was not handled before, and is not in hand: if so it is from now on. What is
/// not comes to its end here.
pub(crate) async fn admit<A: Agent>(
    instance: &Arc<Instance<A>>,
    mut delivery: Delivery,
) -> Option<Admitted> {
    let core = instance.host.core();
    let port = &instance.port;
    let Some(window) = port.window.as_ref().filter(|_| delivery.claim.is_some()) else {
        if is_worth(instance, &delivery) {
            return Some(Admitted::plain(delivery));
        }
        turn_down(instance, delivery);
        return None;
    };
    let mut taken = match Taken::up(window, delivery.claim.take()?) {
        Ok(taken) => taken,
        Err(claim) => {
            // The same message under another entry: it waits until the first has settled, and is a repeat then.
            let wait = REDELIVERY.wait(1, &core.entropy);
            window.again(*claim, wait);
            return None;
        }
    };
    if window.has_doubts() {
        let mut hand = InHand::new(Arc::clone(port), Asker::nobody(), Some(taken), false);
        settle_doubts(port, window, &mut hand).await;
        taken = hand.over()?;
    }
    let claim = &*taken.claim;
    let seen = window.has_seen(claim.id);
    let expired = has_expired(instance, &delivery);
    if !expired && !seen && claim.attempts < port.declaration.max_attempts {
        window.mark(claim);
        return Some(Admitted {
            delivery,
            taken: Some(taken),
        });
    }
    let why = if expired {
        expired_failure(&delivery, port)
    } else {
        // The process died with it in hand as often as it may be tried.
        Failure::new(FailureCode::PANIC, "the process ended while it was handled")
    };
    let work = turn_away(Arc::clone(port), Arc::clone(window), taken, seen, why);
    ToItsEnd::new(&core.tasks, work).await;
    None
}

/// Finds out what became of earlier commits that the engine could not answer for, and what they started of timers. When the
/// engine can't be read the message in hand waits.
async fn settle_doubts(port: &Port, window: &Arc<Window>, hand: &mut InHand) {
    let settled = match window.settle_doubts().await {
        Ok(true) => port.timers.restore().await,
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = settled
        && let Some(taken) = hand.over()
    {
        tracing::warn!(agent = %port.id, %error, "a commit is in doubt: trying again");
        let wait = REDELIVERY.wait(taken.claim.attempts + 3, &window.core().entropy);
        let retry_after = error.retry_after().unwrap_or_default();
        window.again(*taken.claim, retry_after + wait);
    }
}

/// Ends a durable message that is not handled: it had its time or its attempts, or was handled before.
async fn turn_away(port: Arc<Port>, window: Arc<Window>, taken: Taken, seen: bool, why: Failure) {
    if seen {
        repeat(&port, &window, taken).await;
    } else if why.retryable {
        failed(&port, &window, taken, why).await;
    } else {
        bury(&port, &window, taken, why).await;
    }
}

fn expired_failure(delivery: &Delivery, port: &Port) -> Failure {
    let text = format!(
        "the deadline of `{}` passed before it was handled",
        delivery.message_type(&port.table)
    );
    Failure::new(FailureCode::EXPIRED, text).lasting()
}

fn has_expired<A: Agent>(instance: &Instance<A>, delivery: &Delivery) -> bool {
    let deadline = delivery.deadline;
    deadline != Deadline::NEVER && deadline.has_passed(instance.host.core().clock.now())
}

/// Whether a message that no inbox knows of is still worth handling: its deadline has not passed, and whoever asked waits.
pub(crate) fn is_worth<A: Agent>(instance: &Instance<A>, delivery: &Delivery) -> bool {
    !delivery.asker.is_gone() && !has_expired(instance, delivery)
}

/// Ends a message that is not worth handling.
pub(crate) fn turn_down<A: Agent>(instance: &Instance<A>, delivery: Delivery) {
    if delivery.asker.is_gone() {
        // Nobody waits for the answer any more: the work is not begun.
        instance.host.core().late_reply(&instance.port.id);
        return;
    }
    let failure = expired_failure(&delivery, &instance.port);
    let reason = failure.message.clone().into_owned();
    let (envelope, asker) = delivery.open(&instance.port);
    asker.answer(Err(failure));
    instance.host.dead_letter(DeadLetter { envelope, reason });
}

/// The message was handled before: its entry goes, and whoever asks again gets the kept reply.
async fn repeat(port: &Port, window: &Arc<Window>, taken: Taken) {
    let core = window.core();
    let claim = &*taken.claim;
    core.trace(&port.id, format_args!("repeat {}", claim.id));
    let mut batch = Batch::default();
    batch.push(ack(&port.id, claim));
    let done = match core.engine.commit(batch).await {
        Ok(_) | Err(CommitError::Gone { .. }) => {
            let answered = window.answer_again(claim.id).await;
            answered.map_err(|error| error.retry_after())
        }
        Err(error) => Err(error.retry_after()),
    };
    match done {
        Ok(()) => window.settled(claim.seq),
        Err(retry_after) => {
            let wait = REDELIVERY.wait(1, &core.entropy);
            window.again(*taken.claim, retry_after.unwrap_or_default() + wait);
        }
    }
}

/// Makes sure that the handler sees what is stored. False when it can't be read: the message waits.
pub(crate) async fn fresh_state<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand,
    cause: &Cause,
) -> bool {
    let engine = &instance.host.core().engine;
    let Err(error) = instance.cell.refresh(&**engine).await else {
        return true;
    };
    let text = format!("the state can't be read: {error}");
    let failure = Failure::new(FailureCode::STORE, text);
    engine_failed(instance, hand, cause, failure, error.retry_after());
    false
}

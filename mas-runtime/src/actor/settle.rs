//! How a message settles: its commit, its answer, and what happens when it failed.
//!
//! For a durable message everything is one batch: state, ack, dedup with the reply, sends, timers. Nothing of it is
//! released before the batch is durable.

use std::sync::Arc;
use std::time::Duration;

use super::agent::{Agent, Route, StateOf};
use super::backoff::REDELIVERY;
use super::delivery::{Answer, Asker, Delivery, Part};
use super::event::EventKind;
use super::host::{DeadLetter, Planned};
use super::inbox::{Claim, Window, encode_answer};
use super::instance::{Instance, LastCrash};
use super::message::Outcome;
use super::port::Port;
use super::state::{DraftState, PublishError};
use super::turn::{Book, Cause, TimerChange, Turn};
use crate::model::{AgentId, Envelope, Failure, FailureCode, Payload, decode_envelope};
use crate::store::{Batch, CommitError, Committed, Op};

/// A message between its dispatch and its end: dropped before it settled, a durable one is tried again.
pub(crate) struct InHand<'a> {
    port: &'a Arc<Port>,
    asker: Option<Asker>,
    claim: Option<Box<Claim>>,
    wants_reply: bool,
}

/// What a message came to.
pub(crate) enum Settled {
    Done,
    /// Others have moved the state: it must run again.
    Again(Box<Delivery>),
    /// The handler said that the instance can't go on.
    Crash(LastCrash),
}

impl<'a> InHand<'a> {
    pub(crate) fn new(
        port: &'a Arc<Port>,
        asker: Asker,
        claim: Option<Box<Claim>>,
        expects_reply: bool,
    ) -> Self {
        // Somebody may wait for the answer to a durable message who has not yet been heard of.
        let wants_reply = asker.wants_reply() || (claim.is_some() && expects_reply);
        Self {
            port,
            asker: Some(asker),
            claim,
            wants_reply,
        }
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

    fn window(&self) -> Option<&Arc<Window>> {
        self.port.window.as_ref()
    }

    /// Tells whoever asked.
    fn answer<A: Agent>(&mut self, instance: &Instance<A>, cause: &Cause, answer: Answer) {
        let core = instance.host.core();
        if core.trace.get().is_some() {
            let what = if answer.is_ok() { "reply" } else { "failure" };
            core.trace(
                &instance.port.id,
                format_args!("{what} {} to {}", cause.message_type, cause.sender),
            );
        }
        if let (Some(window), Some(claim)) = (self.window(), &self.claim) {
            window.answer(claim.id, answer);
        } else if let Some(asker) = self.asker.take()
            && !asker.answer(answer)
        {
            core.late_reply(&instance.port.id);
        }
    }

    /// Nothing is to be done any more when this is dropped.
    fn over(&mut self) -> Option<Claim> {
        self.claim.take().map(|claim| *claim)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        let Some(window) = self.port.window.clone() else {
            return;
        };
        let claim = *claim;
        let why = Failure::new(FailureCode::PANIC, "the agent ended while it handled this");
        let port = Arc::clone(self.port);
        window.spawn(move |window| async move {
            failed(&port, &window, claim, why).await;
        });
    }
}

/// Whether [`admit`] has anything to check.
pub(crate) fn needs_admission(delivery: &Delivery) -> bool {
    delivery.claim.is_some() || delivery.envelope.meta.deadline.is_some()
}

/// The checks before a handler sees a message: whether it is still worth handling, and whether it was handled before.
pub(crate) async fn admit<A: Agent>(
    instance: &Arc<Instance<A>>,
    delivery: Box<Delivery>,
) -> Option<Box<Delivery>> {
    let core = instance.host.core();
    if delivery.envelope.meta.expects_reply && delivery.claim.is_none() && delivery.asker.is_gone()
    {
        // Nobody waits for the answer any more: the work is not begun.
        core.late_reply(&instance.port.id);
        return None;
    }
    if let Some(deadline) = delivery.envelope.meta.deadline
        && core.clock.now() >= deadline
    {
        expire(instance, delivery).await;
        return None;
    }
    let Some(window) = &instance.port.window else {
        return Some(delivery);
    };
    let Some(claim) = &delivery.claim else {
        return Some(delivery);
    };
    if window.has_seen(claim.id) {
        let claim = (**claim).clone();
        repeat(instance, window, claim).await;
        return None;
    }
    if claim.attempts >= instance.port.declaration.max_attempts {
        // The process died with it in hand as often as it may be tried.
        let why = Failure::new(FailureCode::PANIC, "the process ended while it was handled");
        failed(&instance.port, window, (**claim).clone(), why).await;
        return None;
    }
    window.mark(claim);
    Some(delivery)
}

/// Makes sure that the handler sees what is stored. False when it can't be read: the message waits.
pub(crate) async fn fresh_state<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
) -> bool {
    let core = instance.host.core();
    let Err(error) = instance.cell.refresh(&*core.engine).await else {
        return true;
    };
    let text = format!("the state can't be read: {error}");
    core.event(EventKind::EngineFailed {
        reason: text.clone(),
    });
    engine_failed(
        instance,
        hand,
        cause,
        Failure::new(FailureCode::STORE, text),
    );
    false
}

/// The message had its deadline.
async fn expire<A: Agent>(instance: &Instance<A>, delivery: Box<Delivery>) {
    let text = format!(
        "the deadline of `{}` passed before it was handled",
        delivery.envelope.message_type
    );
    let failure = Failure::new(FailureCode::EXPIRED, text.clone()).lasting();
    if let (Some(window), Some(claim)) = (&instance.port.window, delivery.claim) {
        bury(&instance.port, window, *claim, failure).await;
        return;
    }
    delivery.asker.answer(Err(failure));
    instance.host.dead_letter(DeadLetter {
        envelope: delivery.envelope,
        reason: text,
    });
}

/// The message was handled before: its entry goes, and whoever asks again gets the kept reply.
async fn repeat<A: Agent>(instance: &Instance<A>, window: &Arc<Window>, claim: Claim) {
    let core = instance.host.core();
    core.trace(&instance.port.id, format_args!("repeat {}", claim.id));
    let mut batch = Batch::default();
    batch.push(ack(&instance.port.id, &claim));
    let done = match core.engine.commit(batch).await {
        Ok(_) | Err(CommitError::Gone { .. }) => window.answer_again(claim.id).await.is_ok(),
        Err(_) => false,
    };
    if done {
        window.settled(claim.seq);
    } else {
        let wait = REDELIVERY.wait(1, &core.entropy);
        window.again(claim, wait);
    }
}

fn ack(agent: &AgentId, claim: &Claim) -> Op {
    Op::InboxAck {
        agent: agent.clone(),
        lane: claim.lane,
        seq: claim.seq,
    }
}

/// Ends a message: commits what its handler did, or deals with its failure.
pub(crate) async fn settle<A: Agent>(
    instance: &Arc<Instance<A>>,
    hand: &mut InHand<'_>,
    turn: &Turn,
    outcome: Outcome,
    draft: Option<DraftState<StateOf<A>>>,
    route: Route,
) -> Settled {
    let mut book = turn.close().unwrap_or_default();
    for commit in std::mem::take(&mut book.commits) {
        if let Err(failure) = commit.await {
            book.failure.get_or_insert(failure);
        }
    }
    let crash = book.crash.take().map(|reason| LastCrash {
        reason,
        message: turn.cause.message_id(),
    });
    let outcome = match (book.failure.take(), outcome) {
        (Some(failure), Outcome::Value(_) | Outcome::Streamed) => Outcome::Failed(failure),
        (_, outcome) => outcome,
    };
    let settled = match outcome {
        Outcome::Failed(failure) => {
            fail(instance, hand, &turn.cause, failure).await;
            Settled::Done
        }
        Outcome::Value(value) => {
            let reply = book.reply.take().unwrap_or(value);
            succeed(instance, hand, *book, reply, draft, turn, route).await
        }
        Outcome::Streamed => {
            succeed(instance, hand, *book, Payload::empty(), draft, turn, route).await
        }
    };
    match (crash, settled) {
        (Some(crash), Settled::Done) => Settled::Crash(crash),
        (_, settled) => settled,
    }
}

async fn succeed<A: Agent>(
    instance: &Arc<Instance<A>>,
    hand: &mut InHand<'_>,
    book: Book,
    reply: Payload,
    draft: Option<DraftState<StateOf<A>>>,
    turn: &Turn,
    route: Route,
) -> Settled {
    let mut batch = Batch::default();
    if let Some(draft) = draft {
        match instance.cell.publish(&draft) {
            Ok(None) => {}
            Ok(Some(op)) => batch.push(op),
            Err(PublishError::Moved) => return conflict(instance, hand, &turn.cause, route),
            Err(PublishError::Codec(error)) => {
                let text = format!("the state can't be kept: {error}");
                let failure = Failure::new(FailureCode::STORE, text).lasting();
                fail(instance, hand, &turn.cause, failure).await;
                return Settled::Done;
            }
        }
    }
    let Some((window, claim)) = hand.window().cloned().zip(hand.claim.as_deref().cloned()) else {
        return succeed_volatile(instance, hand, batch, reply, turn).await;
    };
    let answer = Ok(reply);
    batch.push(ack(&instance.port.id, &claim));
    let kept = turn
        .cause
        .meta
        .expects_reply
        .then(|| encode_answer(&answer));
    window.remember(claim.id, kept, &mut batch);
    let share = turn.budget_left() / u32::try_from(book.sends.len().max(1)).unwrap_or(u32::MAX);
    let mut planned = Vec::with_capacity(book.sends.len());
    for mut send in book.sends {
        send.letter.envelope.meta.budget = share;
        send.letter.pool = None;
        planned.push(instance.host.plan(send, &mut batch));
    }
    for change in &book.timers {
        batch.push(timer_op(&instance.port.id, change));
    }
    trace_commit(instance, &batch);
    match instance.host.core().engine.commit(batch).await {
        Ok(committed) => {
            hand.answer(instance, &turn.cause, answer);
            hand.over();
            released(instance, &window, &claim, committed, planned);
            instance.port.timers.committed(book.timers);
            Settled::Done
        }
        Err(error) => {
            for planned in planned {
                instance.host.withdraw(planned);
            }
            undone(instance, hand, &turn.cause, route, &error)
        }
    }
}

/// The commit of a durable message did not come about: nothing of this attempt counts.
fn undone<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    route: Route,
    error: &CommitError,
) -> Settled {
    instance.cell.invalidate();
    match error {
        CommitError::Conflict { .. } => conflict(instance, hand, cause, route),
        CommitError::Gone { .. } => {
            // Somebody else settled it, or an earlier commit of this one did after all: what was kept is the answer.
            if let (Some(window), Some(claim)) = (hand.window().cloned(), hand.over()) {
                window.settled(claim.seq);
                window.spawn(move |window| async move {
                    if let Err(error) = window.answer_again(claim.id).await {
                        tracing::warn!(%error, "a kept reply can't be read");
                    }
                });
            }
            Settled::Done
        }
        error => {
            not_committed(instance, hand, cause, error);
            Settled::Done
        }
    }
}

/// What a durable commit releases.
fn released<A: Agent>(
    instance: &Instance<A>,
    window: &Arc<Window>,
    claim: &Claim,
    committed: Committed,
    planned: Vec<Planned>,
) {
    window.remembered(claim.id);
    window.settled(claim.seq);
    for (planned, seq) in planned.into_iter().zip(committed.seqs) {
        instance.host.release(planned, seq);
    }
}

/// A message to an agent without an inbox: only its state has to be kept.
async fn succeed_volatile<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    batch: Batch,
    reply: Payload,
    turn: &Turn,
) -> Settled {
    if !batch.is_empty() {
        trace_commit(instance, &batch);
        if let Err(error) = instance.host.core().engine.commit(batch).await {
            instance.cell.invalidate();
            not_committed(instance, hand, &turn.cause, &error);
            return Settled::Done;
        }
    }
    hand.answer(instance, &turn.cause, Ok(reply));
    Settled::Done
}

fn trace_commit<A: Agent>(instance: &Instance<A>, batch: &Batch) {
    instance.host.core().trace(
        &instance.port.id,
        format_args!("commit {} operations", batch.ops().len()),
    );
}

fn timer_op(agent: &AgentId, change: &TimerChange) -> Op {
    match change {
        TimerChange::Put {
            timer,
            due_unix_ms,
            record,
        } => Op::TimerPut {
            agent: agent.clone(),
            timer: *timer,
            due_unix_ms: *due_unix_ms,
            record: record.clone(),
        },
        TimerChange::Remove { timer } => Op::TimerRemove {
            agent: agent.clone(),
            timer: *timer,
        },
    }
}

/// Others have moved the state since the handler saw it.
fn conflict<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    route: Route,
) -> Settled {
    let core = instance.host.core();
    let Some(mut claim) = hand.claim.take() else {
        let failure = Failure::new(
            FailureCode::CONFLICT,
            "another instance moved the state meanwhile",
        );
        hand.answer(instance, cause, Err(failure));
        return Settled::Done;
    };
    claim.conflicts += 1;
    core.trace(&instance.port.id, format_args!("conflict {}", claim.id));
    match envelope_of(&claim, core) {
        Ok(envelope) => Settled::Again(Box::new(Delivery {
            envelope,
            route,
            pool: None,
            asker: Asker::nobody(),
            claim: Some(claim),
        })),
        Err(_) => Settled::Done,
    }
}

fn envelope_of(
    claim: &Claim,
    core: &super::host::Core,
) -> Result<Envelope, crate::model::RecordError> {
    decode_envelope(&claim.stored, &*core.clock)
}

fn not_committed<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    error: &CommitError,
) {
    let text = format!("what the handler did was not kept: {error}");
    instance.host.core().event(EventKind::EngineFailed {
        reason: text.clone(),
    });
    engine_failed(
        instance,
        hand,
        cause,
        Failure::new(FailureCode::STORE, text),
    );
}

/// The engine failed, not the message: a durable one waits and is tried again, without an attempt being counted.
fn engine_failed<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    failure: Failure,
) {
    match (hand.window().cloned(), hand.over()) {
        (Some(window), Some(claim)) => {
            let wait = REDELIVERY.wait(claim.attempts + 3, &instance.host.core().entropy);
            window.again(claim, wait);
        }
        _ => hand.answer(instance, cause, Err(failure)),
    }
}

/// The handler failed.
async fn fail<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    failure: Failure,
) {
    let (Some(window), Some(claim)) = (hand.window().cloned(), hand.over()) else {
        fail_volatile(instance, hand, cause, failure);
        return;
    };
    let core = instance.host.core();
    core.trace(
        &instance.port.id,
        format_args!("failure {} attempt {}", claim.id, claim.attempts + 1),
    );
    failed(&instance.port, &window, claim, failure).await;
}

fn fail_volatile<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    cause: &Cause,
    failure: Failure,
) {
    if !cause.meta.expects_reply {
        tracing::warn!(
            agent = %instance.port.id,
            message_type = %cause.message_type,
            sender = %cause.sender,
            %failure,
            "a message failed that nobody waits for"
        );
    }
    hand.answer(instance, cause, Err(failure));
}

/// Ends a message of an agent that keeps nothing: there is nothing to wait for.
pub(crate) fn settle_at_once<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand<'_>,
    turn: &Turn,
    outcome: Outcome,
    draft: Option<DraftState<StateOf<A>>>,
) -> Settled {
    let book = turn.close();
    let (reply, failure, crash) = match book {
        None => (None, None, None),
        Some(book) => (book.reply, book.failure, book.crash),
    };
    let answer = match (failure, outcome) {
        (Some(failure), _) | (None, Outcome::Failed(failure)) => Err(failure),
        (None, Outcome::Value(value)) => Ok(reply.unwrap_or(value)),
        (None, Outcome::Streamed) => Ok(Payload::empty()),
    };
    match answer {
        Ok(reply) => {
            if let Some(draft) = draft {
                // Nobody else moves the state of an agent that keeps nothing while a `&mut self` handler runs.
                let _ = instance.cell.publish(&draft);
            }
            hand.answer(instance, &turn.cause, Ok(reply));
        }
        Err(failure) => fail_volatile(instance, hand, &turn.cause, failure),
    }
    match crash {
        None => Settled::Done,
        Some(reason) => Settled::Crash(LastCrash {
            reason,
            message: turn.cause.message_id(),
        }),
    }
}

/// An attempt of a durable message failed: it is tried again while that makes sense, then it becomes a dead letter.
async fn failed(port: &Arc<Port>, window: &Arc<Window>, mut claim: Claim, failure: Failure) {
    let core = window.core();
    claim.attempts += 1;
    if !failure.retryable || claim.attempts >= port.declaration.max_attempts {
        bury(port, window, claim, failure).await;
        return;
    }
    let wait = REDELIVERY.wait(claim.attempts, &core.entropy);
    let not_before = core.unix_ms() + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let mut batch = Batch::default();
    batch.push(Op::InboxNack {
        agent: port.id.clone(),
        lane: claim.lane,
        seq: claim.seq,
        attempts: claim.attempts,
        not_before_unix_ms: not_before,
        reason: failure.to_string(),
    });
    core.event(EventKind::Retried {
        agent: port.id.clone(),
        message: claim.id,
        attempts: claim.attempts,
        reason: failure.to_string(),
    });
    // A count that is not kept is no reason not to try again.
    if let Err(error) = core.engine.commit(batch).await {
        tracing::warn!(agent = %port.id, %error, "an attempt was not counted on disk");
    }
    window.again(claim, wait);
}

/// Gives up on a durable message: into the dead letters, and its asker hears why.
async fn bury(port: &Arc<Port>, window: &Arc<Window>, claim: Claim, failure: Failure) {
    let core = window.core();
    let mut batch = Batch::default();
    batch.push(Op::InboxBury {
        agent: port.id.clone(),
        lane: claim.lane,
        seq: claim.seq,
        reason: failure.to_string(),
        at_unix_ms: core.unix_ms(),
    });
    let answer: Answer = Err(failure.clone());
    window.remember(claim.id, Some(encode_answer(&answer)), &mut batch);
    match core.engine.commit(batch).await {
        Ok(_) | Err(CommitError::Gone { .. }) => {
            core.trace(&port.id, format_args!("dead letter {}", claim.id));
            core.event(EventKind::DeadLetter {
                target: port.id.clone(),
                message_type: envelope_of(&claim, core)
                    .map(|envelope| envelope.message_type)
                    .unwrap_or(crate::model::MessageType::declared("-")),
                reason: failure.to_string(),
            });
            window.remembered(claim.id);
            window.answer(claim.id, answer);
            window.settled(claim.seq);
        }
        Err(error) => {
            tracing::warn!(agent = %port.id, %error, "a dead letter was not kept: trying again");
            window.again(claim, Duration::from_secs(1));
        }
    }
}

/// The handler of this turn takes longer than half of its timeout.
pub(crate) fn slow<A: Agent>(instance: &Instance<A>, turn: &Turn, after: Duration) {
    let message_type = turn.cause.message_type.clone();
    tracing::warn!(agent = %instance.port.id, %message_type, ?after, "slow handler");
    instance.host.core().event(EventKind::SlowHandler {
        agent: instance.port.id.clone(),
        message_type,
        after,
    });
}

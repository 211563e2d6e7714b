//! How a message settles: its commit, its answer, and what happens when it failed.
//!
//! For a durable message everything is one batch: state, ack, dedup with the reply, sends, timers. Nothing of it is
//! released before the batch is durable. Once its handler has returned, a message that something is kept for settles
//! [to its end](super::to_its_end), also when its instance is killed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::admit::Admitted;
use super::agent::{Agent, Route, StateOf};
use super::backoff::REDELIVERY;
use super::delivery::{Answer, Asker, Delivery};
use super::event::EventKind;
use super::guard;
use super::hand::{InHand, Taken, tell};
use super::host::Planned;
use super::inbox::{Claim, Window};
use super::instance::{Instance, LastCrash};
use super::kept::{encode_failure, encode_reply};
use super::message::Outcome;
use super::port::Port;
use super::state::{DraftState, PublishError};
use super::to_its_end::ToItsEnd;
use super::turn::{Book, Cause, TimerChange, Turn};
use crate::model::{
    AgentId, Codec, CodecError, Envelope, Failure, FailureCode, Payload, decode_envelope,
};
use crate::store::{Batch, CommitError, Committed, Op};

/// What a message came to.
pub(crate) enum Settled {
    Done,
    /// Others have moved the state: it must run again.
    Again(Admitted),
    /// The handler said that the instance can't go on.
    Crash(LastCrash),
}

/// What a handler did for others, as operations of one batch and as what follows when it is durable.
pub(crate) struct Effects {
    pub(crate) batch: Batch,
    planned: Vec<Planned>,
    timers: Vec<TimerChange>,
}

impl Effects {
    /// Adds to a batch what a handler has sent and which timers it has changed.
    pub(crate) fn gather<A: Agent>(
        instance: &Instance<A>,
        mut batch: Batch,
        book: Book,
        turn: &Turn,
    ) -> Self {
        let share = turn.budget_left() / u32::try_from(book.sends.len().max(1)).unwrap_or(u32::MAX);
        let mut planned = Vec::with_capacity(book.sends.len());
        for mut send in book.sends {
            let cover = send.letter.delivery.cover_mut();
            cover.budget = share;
            cover.pool = None;
            planned.push(instance.host.plan(send, &mut batch));
        }
        for change in &book.timers {
            batch.push(timer_op(&instance.port.id, change));
        }
        Self {
            batch,
            planned,
            timers: book.timers,
        }
    }

    /// Takes the batch out, to be committed.
    pub(crate) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// The batch is durable: what was sent goes its way.
    pub(crate) fn release<A: Agent>(self, instance: &Instance<A>, committed: Committed) {
        for (planned, seq) in self.planned.into_iter().zip(committed.seqs) {
            instance.host.release(planned, seq);
        }
        instance.port.timers.committed(self.timers);
    }

    /// The batch did not come about, as far as one can tell.
    pub(crate) fn withdraw<A: Agent>(self, instance: &Instance<A>, error: &CommitError) {
        for planned in self.planned {
            if error.may_be_stored() {
                instance.host.doubt(planned);
            } else {
                instance.host.withdraw(planned);
            }
        }
    }
}

/// Ends a message that something is kept for: commits what its handler did, or deals with its failure.
pub(crate) async fn settle<A: Agent>(
    instance: &Arc<Instance<A>>,
    hand: InHand,
    turn: Arc<Turn>,
    outcome: Outcome,
    draft: Option<DraftState<StateOf<A>>>,
    route: Route,
) -> Settled {
    let own = Arc::clone(instance);
    let work = async move {
        let window = hand.window().cloned();
        let settled = settling(&own, hand, &turn, outcome, draft, route).await;
        (settled, window)
    };
    let tasks = &instance.host.core().tasks;
    let to_the_end = ToItsEnd::or_else(tasks, work, |(settled, window)| {
        // The instance that would run it again has been killed: the next one does.
        if let (Settled::Again(admitted), Some(window)) = (settled, window)
            && let Some(taken) = admitted.taken
        {
            window.reload(*taken.claim);
        }
    });
    to_the_end.await.0
}

async fn settling<A: Agent>(
    instance: &Arc<Instance<A>>,
    mut hand: InHand,
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
    let reply = match outcome {
        Outcome::Failed(failure) => {
            fail(instance, &mut hand, turn, failure).await;
            return crash.map_or(Settled::Done, Settled::Crash);
        }
        Outcome::Value(value) => book.reply.take().unwrap_or(value),
        Outcome::Streamed => Payload::empty(),
    };
    let settled = succeed(instance, &mut hand, *book, reply, draft, turn, route).await;
    match (crash, settled) {
        (Some(crash), Settled::Done) => Settled::Crash(crash),
        (_, settled) => settled,
    }
}

async fn succeed<A: Agent>(
    instance: &Arc<Instance<A>>,
    hand: &mut InHand,
    book: Book,
    reply: Payload,
    draft: Option<DraftState<StateOf<A>>>,
    turn: &Turn,
    route: Route,
) -> Settled {
    let kept = match kept_reply(instance, hand, turn, &reply) {
        Ok(kept) => kept,
        Err(failure) => {
            fail(instance, hand, turn, failure).await;
            return Settled::Done;
        }
    };
    let answer = Ok(reply);
    let mut batch = Batch::default();
    if let Some(draft) = draft {
        match publish(instance, &draft) {
            Ok(None) => {}
            Ok(Some(op)) => batch.push(op),
            Err(PublishError::Moved) => return conflict(instance, hand, turn, route),
            Err(PublishError::Codec(error)) => {
                let text = format!("the state can't be kept: {error}");
                let failure = Failure::new(FailureCode::STORE, text).lasting();
                fail(instance, hand, turn, failure).await;
                return Settled::Done;
            }
        }
    }
    let Some((window, claim)) = hand.window().cloned().zip(hand.claim().cloned()) else {
        return succeed_volatile(instance, hand, batch, answer, turn).await;
    };
    batch.push(ack(&instance.port.id, &claim));
    window.remember(claim.id, kept, &mut batch);
    let mut effects = Effects::gather(instance, batch, book, turn);
    let batch = effects.take_batch();
    trace_commit(instance, &batch);
    match instance.host.core().engine.commit(batch).await {
        Ok(committed) => {
            window.remembered(claim.id);
            hand.answer(instance, &turn.cause, answer);
            hand.over();
            window.settled(claim.seq);
            effects.release(instance, committed);
            Settled::Done
        }
        Err(error) => {
            effects.withdraw(instance, &error);
            undone(instance, hand, turn, route, &error).await
        }
    }
}

/// The bytes of a reply that is kept for a repeated ask.
///
/// # Errors
/// A lasting [`Failure`] when the reply can't be encoded, or is too large.
fn kept_reply<A: Agent>(
    instance: &Instance<A>,
    hand: &InHand,
    turn: &Turn,
    reply: &Payload,
) -> Result<Option<Bytes>, Failure> {
    if hand.claim().is_none() || !turn.cause.expects_reply {
        return Ok(None);
    }
    let bytes_max = instance.host.core().options.payload_bytes_max;
    let bad = |reason: String| {
        let text = format!("reply to `{}`: {reason}", turn.message_type());
        Failure::new(FailureCode::BAD_REPLY, text).lasting()
    };
    // Its author may have written how it is encoded.
    match guard::call(|| encode_reply(reply, bytes_max)) {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        Ok(Err(error)) => Err(bad(error.to_string())),
        Err(panic) => Err(bad(format!("it panicked as it was encoded: {panic}"))),
    }
}

/// Makes a draft current. A state whose encoding panics can't be encoded.
fn publish<A: Agent>(
    instance: &Instance<A>,
    draft: &DraftState<StateOf<A>>,
) -> Result<Option<Op>, PublishError> {
    guard::call(|| instance.cell.publish(draft)).unwrap_or_else(|panic| {
        Err(PublishError::Codec(CodecError::Encode {
            codec: Codec::MessagePack,
            reason: format!("it panicked: {panic}"),
        }))
    })
}

/// The commit of a durable message did not come about: nothing of this attempt counts.
async fn undone<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand,
    turn: &Turn,
    route: Route,
    error: &CommitError,
) -> Settled {
    instance.cell.invalidate();
    match error {
        CommitError::Conflict { .. } => return conflict(instance, hand, turn, route),
        CommitError::Gone { .. } => already_settled(instance, hand).await,
        CommitError::TooLarge { .. } | CommitError::Misuse { .. } => {
            // It would be the same the next time.
            let text = format!("what the handler did can't be kept: {error}");
            let failure = Failure::new(FailureCode::STORE, text).lasting();
            fail(instance, hand, turn, failure).await;
        }
        error => {
            if let (Some(window), Some(claim)) = (hand.window(), hand.claim())
                && error.may_be_stored()
            {
                window.doubt(claim.id);
            }
            not_committed(instance, hand, turn, error);
        }
    }
    Settled::Done
}

/// Whoever has items of a streamed reply would get them once more from another attempt: it hears now that its stream is cut
/// off, and the attempt streams to nobody.
fn cut_off(hand: &InHand, turn: &Turn, failure: &Failure) {
    if let (true, Some(window), Some(claim)) = (turn.has_streamed(), hand.window(), hand.claim()) {
        window.answer(claim.id, Err(failure.clone()));
    }
}

/// Somebody else settled the message, or an earlier commit of this one did after all: what was kept is the answer.
async fn already_settled<A: Agent>(instance: &Instance<A>, hand: &mut InHand) {
    let (Some(window), Some(taken)) = (hand.window().cloned(), hand.over()) else {
        return;
    };
    let claim = &*taken.claim;
    window.remembered(claim.id);
    window.settled(claim.seq);
    if let Err(error) = window.answer_again(claim.id).await {
        tracing::warn!(agent = %instance.port.id, %error, "a kept reply can't be read");
    }
    // What that commit started of timers nobody has begun.
    if let Err(error) = instance.port.timers.restore().await {
        tracing::warn!(agent = %instance.port.id, %error, "the timers can't be read");
    }
}

/// A message to an agent without an inbox: only its state has to be kept.
async fn succeed_volatile<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand,
    batch: Batch,
    answer: Answer,
    turn: &Turn,
) -> Settled {
    if !batch.is_empty() {
        trace_commit(instance, &batch);
        if let Err(error) = instance.host.core().engine.commit(batch).await {
            instance.cell.invalidate();
            not_committed(instance, hand, turn, &error);
            return Settled::Done;
        }
    }
    hand.answer(instance, &turn.cause, answer);
    Settled::Done
}

pub(crate) fn ack(agent: &AgentId, claim: &Claim) -> Op {
    Op::InboxAck {
        agent: agent.clone(),
        lane: claim.lane,
        seq: claim.seq,
    }
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
    hand: &mut InHand,
    turn: &Turn,
    route: Route,
) -> Settled {
    let core = instance.host.core();
    let failure = Failure::new(
        FailureCode::CONFLICT,
        "another instance moved the state meanwhile",
    );
    cut_off(hand, turn, &failure);
    let Some(mut taken) = hand.over() else {
        hand.answer(instance, &turn.cause, Err(failure));
        return Settled::Done;
    };
    let claim = &mut *taken.claim;
    claim.conflicts += 1;
    core.trace(&instance.port.id, format_args!("conflict {}", claim.id));
    match envelope_of(claim, core) {
        // It stays in hand: no other entry of this message comes between.
        Ok(envelope) => Settled::Again(Admitted {
            delivery: Delivery::of(envelope, route),
            taken: Some(taken),
        }),
        Err(_) => {
            // Reloading finds out what is wrong with it, and buries it.
            if let Some(window) = hand.window() {
                window.reload(*taken.claim);
            }
            Settled::Done
        }
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
    hand: &mut InHand,
    turn: &Turn,
    error: &CommitError,
) {
    let text = format!("what the handler did was not kept: {error}");
    let failure = Failure::new(FailureCode::STORE, text);
    cut_off(hand, turn, &failure);
    engine_failed(instance, hand, &turn.cause, failure, error.retry_after());
}

/// The engine failed, not the message: a durable one waits and is tried again, without an attempt being counted. An engine
/// that was not even asked has been told of, and says how long it is not worth trying.
pub(crate) fn engine_failed<A: Agent>(
    instance: &Instance<A>,
    hand: &mut InHand,
    cause: &Cause,
    failure: Failure,
    retry_after: Option<Duration>,
) {
    let core = instance.host.core();
    if retry_after.is_none() {
        core.event(EventKind::EngineFailed {
            reason: failure.message.clone().into_owned(),
        });
    }
    match (hand.window().cloned(), hand.over()) {
        (Some(window), Some(taken)) => {
            let wait = REDELIVERY.wait(taken.claim.attempts + 3, &core.entropy);
            window.again(*taken.claim, retry_after.unwrap_or_default() + wait);
        }
        _ => hand.answer(instance, cause, Err(failure)),
    }
}

/// The handler failed.
async fn fail<A: Agent>(instance: &Instance<A>, hand: &mut InHand, turn: &Turn, failure: Failure) {
    cut_off(hand, turn, &failure);
    let (Some(window), Some(taken)) = (hand.window().cloned(), hand.over()) else {
        warn_if_unheard(instance, &turn.cause, &failure);
        hand.answer(instance, &turn.cause, Err(failure));
        return;
    };
    // Another attempt would stream its first items once more.
    let failure = if turn.has_streamed() {
        failure.lasting()
    } else {
        failure
    };
    let core = instance.host.core();
    core.trace(
        &instance.port.id,
        format_args!(
            "failure {} attempt {}",
            taken.claim.id,
            taken.claim.attempts + 1
        ),
    );
    failed(&instance.port, &window, taken, failure).await;
}

fn warn_if_unheard<A: Agent>(instance: &Instance<A>, cause: &Cause, failure: &Failure) {
    if !cause.expects_reply {
        tracing::warn!(
            agent = %instance.port.id,
            message_type = %cause.message_type(&instance.port.table),
            sender = %cause.sender(),
            %failure,
            "a message failed that nobody waits for"
        );
    }
}

/// Ends a message of an agent that keeps nothing: there is nothing to wait for.
pub(crate) fn settle_at_once<A: Agent>(
    instance: &Instance<A>,
    asker: Asker,
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
            tell(instance, &turn.cause, asker, Ok(reply));
        }
        Err(failure) => {
            warn_if_unheard(instance, &turn.cause, &failure);
            tell(instance, &turn.cause, asker, Err(failure));
        }
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
pub(crate) async fn failed(port: &Port, window: &Arc<Window>, mut taken: Taken, failure: Failure) {
    let core = window.core();
    let claim = &mut *taken.claim;
    claim.attempts += 1;
    if !failure.retryable || claim.attempts >= port.declaration.max_attempts {
        bury(port, window, taken, failure).await;
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
    window.again(*taken.claim, wait);
}

/// Gives up on a durable message: into the dead letters, and its asker hears why.
pub(crate) async fn bury(port: &Port, window: &Arc<Window>, taken: Taken, failure: Failure) {
    let core = window.core();
    let claim = &*taken.claim;
    let mut batch = Batch::default();
    batch.push(Op::InboxBury {
        agent: port.id.clone(),
        lane: claim.lane,
        seq: claim.seq,
        reason: failure.to_string(),
        at_unix_ms: core.unix_ms(),
    });
    let answer: Answer = Err(failure.clone());
    window.remember(claim.id, Some(encode_failure(&failure)), &mut batch);
    match core.engine.commit(batch).await {
        Ok(_) | Err(CommitError::Gone { .. }) => {
            core.trace(&port.id, format_args!("dead letter {}", claim.id));
            core.event(EventKind::DeadLetter {
                target: port.id.clone(),
                message_type: envelope_of(claim, core)
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
            if error.may_be_stored() {
                window.doubt(claim.id);
            }
            // It is the burial that is tried again, not the message: its handler has had its say.
            window.bury_later(taken, failure);
        }
    }
}

/// The handler of this turn takes longer than half of its timeout.
pub(crate) fn slow<A: Agent>(instance: &Instance<A>, turn: &Turn, after: Duration) {
    let message_type = turn.message_type().clone();
    tracing::warn!(agent = %instance.port.id, %message_type, ?after, "slow handler");
    instance.host.core().event(EventKind::SlowHandler {
        agent: instance.port.id.clone(),
        message_type,
        after,
    });
}

//! Dispatch: what an actor does when it is woken.
//!
//! It takes envelopes out of the mailbox in batches and runs their handlers: `&mut self` handlers one at a time, `&self`
//! handlers side by side, in the order in which they came. A `&mut self` handler waits until the `&self` handlers that run
//! have ended, and none starts meanwhile.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::agent::Agent;
use super::delivery::{Asker, Delivery};
use super::guard::{self, Ran};
use super::instance::{Instance, LastCrash, Seat, timed_out};
use super::message::{Message, Outcome};
use super::port::{Order, Port};
use super::settle::{self, InHand, Settled};
use super::turn::{Cause, Turn};
use crate::model::limits::{BATCH_MAX, CONFLICTS_MAX, TURNS_BEFORE_YIELD};
use crate::model::{Failure, FailureCode, Payload};

/// How often a pump that finds nothing lets others run before it sleeps: waking it costs more than that.
const YIELDS_BEFORE_SLEEP: u32 = 2;

/// Why an actor stops pumping.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Nothing waits: whoever puts something in wakes it.
    Idle,
    Stop,
    Crash(LastCrash),
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), LastCrash>> + Send + 'a>>;

/// Runs handlers until nothing waits, or the instance must end.
pub(crate) async fn run<A: Agent>(instance: &Arc<Instance<A>>, seat: &mut Seat<A>) -> Exit {
    let mut turns = 0;
    let mut idle = 0;
    loop {
        if let Some(exit) = ordered(instance) {
            return exit;
        }
        if seat.batch.is_empty() {
            instance.mailbox.take(BATCH_MAX, &mut seat.batch);
        }
        let Some(delivery) = seat.batch.pop_front() else {
            if idle < YIELDS_BEFORE_SLEEP {
                idle += 1;
                tokio::task::yield_now().await;
                continue;
            }
            let wake = instance.mailbox.wake();
            wake.sleep();
            if instance.mailbox.is_empty() && instance.slot().order() == Order::Run {
                return Exit::Idle;
            }
            wake.rise();
            continue;
        };
        idle = 0;
        let ran = if delivery.route.exclusive {
            alone(instance, seat, delivery).await
        } else {
            side_by_side(instance, seat, delivery).await
        };
        if let Err(crash) = ran {
            return Exit::Crash(crash);
        }
        turns += 1;
        if turns % TURNS_BEFORE_YIELD == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// What the instance was told to do, if anything.
fn ordered<A: Agent>(instance: &Instance<A>) -> Option<Exit> {
    match instance.slot().order() {
        Order::Run => None,
        Order::Stop | Order::Quit => Some(Exit::Stop),
        Order::Restart => Some(Exit::Crash(LastCrash {
            reason: "started again with a sibling".to_owned(),
            message: None,
        })),
    }
}

/// Runs one `&mut self` handler.
async fn alone<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    mut delivery: Box<Delivery>,
) -> Result<(), LastCrash> {
    if settle::needs_admission(&delivery) {
        delivery = match settle::admit(instance, delivery).await {
            Some(admitted) => admitted,
            None => return Ok(()),
        };
    }
    loop {
        let turn_alone = if must_be_alone(instance, &delivery) {
            Some(instance.port.turns.write().await)
        } else {
            None
        };
        let again = one_turn(instance, seat, delivery).await?;
        drop(turn_alone);
        match again {
            None => return Ok(()),
            Some(same) => delivery = same,
        }
    }
}

/// Whether other instances must be held off: after too many conflicts, and for messages that can't run again.
fn must_be_alone<A: Agent>(instance: &Instance<A>, delivery: &Delivery) -> bool {
    let shares_state = instance.port.slots.len() > 1 && instance.cell.is_kept();
    let claim = delivery.claim.as_ref();
    shares_state && claim.is_none_or(|claim| claim.conflicts >= CONFLICTS_MAX)
}

/// One try of a `&mut self` handler. Gives the delivery back when it must run again on a newer state.
async fn one_turn<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    delivery: Box<Delivery>,
) -> Result<Option<Box<Delivery>>, LastCrash> {
    let route = delivery.route;
    let (cause, mut hand, payload, pool) = take_apart(&instance.port, delivery);
    if instance.cell.is_stale() && !settle::fresh_state(instance, &mut hand, &cause).await {
        return Ok(None);
    }
    let context = &mut seat.context;
    match Arc::get_mut(&mut context.turn) {
        Some(turn) => turn.reset(cause, pool, hand.stages()),
        // Something of the turn before lives on, in a task that its handler spawned, for one.
        None => {
            let mut turn = instance.new_turn(Cause::lifecycle("-"));
            turn.reset(cause, pool, hand.stages());
            context.turn = Arc::new(turn);
        }
    }
    let timeout = instance.port.declaration.timeout;
    let message = Message::new(payload, hand.wants_reply(), hand.sink(), timeout);
    trace(instance, &context.turn);
    let slow = |turn: &Turn, after| settle::slow(instance, turn, after);
    let turn = Arc::clone(&context.turn);
    // Called when it is polled: a trait written by hand may do its work in the call.
    let agent = &mut seat.agent;
    let handler = async { A::handle_exclusive(agent, route.handler, message, context).await };
    let ran = guard::run(turn, handler, timeout, slow).await;
    let draft = seat.context.take_draft();
    let turn = &*seat.context.turn;
    let (outcome, crash) = judge(instance, turn, ran);
    let settled = if hand.stages() || instance.cell.is_kept() {
        settle::settle(instance, &mut hand, turn, outcome, draft, route).await
    } else {
        settle::settle_at_once(instance, &mut hand, turn, outcome, draft)
    };
    match (crash, settled) {
        (Some(crash), _) | (None, Settled::Crash(crash)) => Err(crash),
        (None, Settled::Done) => Ok(None),
        (None, Settled::Again(delivery)) => Ok(Some(delivery)),
    }
}

/// Takes a delivery apart: what its handler inherits, what must not be lost, the payload, and the budget.
fn take_apart(
    port: &Arc<Port>,
    mut delivery: Box<Delivery>,
) -> (Cause, InHand<'_>, Payload, Option<Arc<AtomicU32>>) {
    let payload = std::mem::take(&mut delivery.envelope.payload);
    let asker = std::mem::replace(&mut delivery.asker, Asker::nobody());
    let claim = delivery.claim.take();
    let pool = delivery.pool.take();
    let hand = InHand::new(port, asker, claim, delivery.envelope.meta.expects_reply);
    (Cause::of(delivery), hand, payload, pool)
}

/// What a run comes to: its outcome, and whether the instance survives it.
fn judge<A: Agent>(
    instance: &Instance<A>,
    turn: &Turn,
    ran: Ran<super::message::Reply>,
) -> (Outcome, Option<LastCrash>) {
    let message_type = &turn.cause.message_type;
    match ran {
        Ran::Done(reply) => (reply.0, None),
        Ran::TimedOut => {
            let timeout = instance.port.declaration.timeout;
            (
                Outcome::Failed(timed_out(message_type.as_str(), timeout)),
                None,
            )
        }
        Ran::Panicked(text) => {
            let reason = format!("the handler of `{message_type}` panicked: {text}");
            let crash = LastCrash {
                reason: reason.clone(),
                message: turn.cause.message_id(),
            };
            let failure = Failure::new(FailureCode::PANIC, reason);
            (Outcome::Failed(failure), Some(crash))
        }
    }
}

/// Runs `&self` handlers until none runs, or until a `&mut self` one is next and none runs.
async fn side_by_side<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    first: Box<Delivery>,
) -> Result<(), LastCrash> {
    let Seat { agent, batch, .. } = seat;
    let agent: &A = agent;
    let limit = instance.port.declaration.concurrency;
    let mut running: FuturesUnordered<Running<'_>> = FuturesUnordered::new();
    let mut next = Some(first);
    let mut crash = None;
    let mut turns = 0;
    loop {
        while let Some(delivery) = next.take() {
            let mut task: Running<'_> = Box::pin(shared_turn(instance, agent, delivery));
            match poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await {
                Poll::Ready(ended) => crash = crash.or(ended.err()),
                Poll::Pending => running.push(task),
            }
            turns += 1;
            let goes_on = crash.is_none() && running.len() < limit && turns < TURNS_BEFORE_YIELD;
            if goes_on {
                next = next_shared(instance, batch);
            }
        }
        if running.is_empty() {
            return crash.map_or(Ok(()), Err);
        }
        turns = 0;
        let takes_more = crash.is_none() && running.len() < limit;
        if let Some(ended) = wait(instance, &mut running, takes_more && !blocked(batch)).await {
            crash = crash.or(ended.err());
        }
        if crash.is_none() && running.len() < limit {
            next = next_shared(instance, batch);
        }
    }
}

/// Whether what comes next must wait until nothing runs.
fn blocked(batch: &std::collections::VecDeque<Box<Delivery>>) -> bool {
    batch.front().is_some_and(|next| next.route.exclusive)
}

/// The next delivery, if it is for a `&self` handler and the instance goes on.
fn next_shared<A: Agent>(
    instance: &Instance<A>,
    batch: &mut std::collections::VecDeque<Box<Delivery>>,
) -> Option<Box<Delivery>> {
    if instance.slot().order() != Order::Run {
        return None;
    }
    if batch.is_empty() {
        instance.mailbox.take(BATCH_MAX, batch);
    }
    if blocked(batch) {
        return None;
    }
    batch.pop_front()
}

/// Waits until a handler has ended, or, where more may start, until something may be in the mailbox.
async fn wait<A: Agent>(
    instance: &Instance<A>,
    running: &mut FuturesUnordered<Running<'_>>,
    takes_more: bool,
) -> Option<Result<(), LastCrash>> {
    let wake = instance.mailbox.wake();
    poll_fn(|cx| {
        if let Poll::Ready(ended) = running.poll_next_unpin(cx) {
            wake.rise();
            return Poll::Ready(ended);
        }
        if takes_more {
            wake.park(cx.waker());
            if !instance.mailbox.is_empty() {
                wake.rise();
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await
}

/// Runs one `&self` handler.
async fn shared_turn<A: Agent>(
    instance: &Arc<Instance<A>>,
    agent: &A,
    mut delivery: Box<Delivery>,
) -> Result<(), LastCrash> {
    if settle::needs_admission(&delivery) {
        delivery = match settle::admit(instance, delivery).await {
            Some(admitted) => admitted,
            None => return Ok(()),
        };
    }
    let route = delivery.route;
    let (cause, mut hand, payload, pool) = take_apart(&instance.port, delivery);
    if instance.cell.is_stale() && !settle::fresh_state(instance, &mut hand, &cause).await {
        return Ok(());
    }
    let mut turn = instance.new_turn(Cause::lifecycle("-"));
    turn.reset(cause, pool, hand.stages());
    let context = instance.new_context(turn);
    let turn = Arc::clone(&context.turn);
    let own = instance.port.declaration.timeout;
    let message = Message::new(payload, hand.wants_reply(), hand.sink(), own);
    trace(instance, &turn);
    // A stream may run for as long as its asker listens: the message's own stall time watches it.
    let timeout = if route.streams {
        Duration::MAX / 4
    } else {
        own
    };
    let slow = |turn: &Turn, after| settle::slow(instance, turn, after);
    let handler = async { A::handle_shared(agent, route.handler, message, &context).await };
    let ran = guard::run(Arc::clone(&turn), handler, timeout, slow).await;
    let (outcome, crash) = judge(instance, &turn, ran);
    let settled = settle::settle(instance, &mut hand, &turn, outcome, None, route).await;
    match (crash, settled) {
        (Some(crash), _) | (None, Settled::Crash(crash)) => Err(crash),
        (None, Settled::Done | Settled::Again(_)) => Ok(()),
    }
}

fn trace<A: Agent>(instance: &Instance<A>, turn: &Turn) {
    let core = instance.host.core();
    if core.trace.get().is_some() {
        core.trace(
            &instance.port.id,
            format_args!(
                "dispatch {} {} from {}",
                instance.number, turn.cause.message_type, turn.cause.sender
            ),
        );
    }
}

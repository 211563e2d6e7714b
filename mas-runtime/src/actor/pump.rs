//! Dispatch: what an actor does when it is woken.
//!
//! It takes envelopes out of the mailbox in batches and runs their handlers: `&mut self` handlers one at a time, `&self`
//! handlers side by side, in the order in which they came. A `&mut self` handler waits until the `&self` handlers that run
//! have ended, and none starts meanwhile.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::admit::{self, Admitted};
use super::agent::{Agent, Route};
use super::delivery::Delivery;
use super::guard::{self, Ran};
use super::hand::{InHand, Taken};
use super::instance::{Instance, LastCrash, Seat, timed_out};
use super::mailbox::Order;
use super::message::{Message, Outcome, Reply};
use super::settle::{self, Settled};
use super::turn::{Cause, Turn};
use crate::model::limits::{ALONE_WAIT_MAX, BATCH_MAX, CONFLICTS_MAX, TURNS_BEFORE_YIELD};
use crate::model::{Failure, FailureCode};

/// Why an actor stops pumping.
#[derive(Debug)]
pub(crate) enum Exit {
    Stop,
    Crash(LastCrash),
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), LastCrash>> + Send + 'a>>;

/// Runs handlers, and waits for more, until the instance must end.
pub(crate) async fn run<A: Agent>(instance: &Arc<Instance<A>>, seat: &mut Seat<A>) -> Exit {
    let mut turns: u32 = 0;
    loop {
        if let Some(exit) = ordered(instance) {
            return exit;
        }
        let next = seat.batch.pop_front();
        let Some(next) = next.or_else(|| refill(instance, &mut seat.batch)) else {
            idle(instance).await;
            continue;
        };
        // Those that are boxed would make this future large, which an idle agent keeps.
        let ran = if !next.route.exclusive {
            Box::pin(side_by_side(instance, seat, next)).await
        } else if keeps_nothing(instance, &next) {
            quick_turn(instance, seat, next).await
        } else {
            Box::pin(alone(instance, seat, next)).await
        };
        if let Err(crash) = ran {
            return Exit::Crash(crash);
        }
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_BEFORE_YIELD) {
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until something may be in the mailbox, or an order was given. It waits in its task, inside the one message that its
/// actor got: each further message of ractor's would cost more than the envelope.
async fn idle<A: Agent>(instance: &Instance<A>) {
    let wake = instance.mailbox.wake();
    let mut waits = false;
    poll_fn(|cx| {
        if waits && wake.has_rung() {
            return Poll::Ready(());
        }
        waits = true;
        wake.idle(cx.waker());
        if instance.mailbox.is_empty() && instance.mailbox.order() == Order::Run {
            return Poll::Pending;
        }
        wake.rise();
        Poll::Ready(())
    })
    .await;
}

/// Takes envelopes out of the mailbox. An instance of a pool takes one at a time, so that what waits is there for whichever
/// is free next; one that has nothing takes from the one that has most.
fn refill<A: Agent>(instance: &Instance<A>, batch: &mut VecDeque<Delivery>) -> Option<Delivery> {
    if !instance.pooled {
        return instance.mailbox.take(BATCH_MAX, batch);
    }
    let own = instance.mailbox.take(1, batch);
    own.or_else(|| instance.port.steal())
}

/// What the instance was told to do, if anything.
fn ordered<A: Agent>(instance: &Instance<A>) -> Option<Exit> {
    match instance.mailbox.order() {
        Order::Run => None,
        Order::Stop | Order::Quit => Some(Exit::Stop),
        Order::Restart => Some(Exit::Crash(LastCrash {
            reason: "started again with a sibling".to_owned(),
            message: None,
        })),
    }
}

/// Runs one `&mut self` handler of an agent that keeps something.
async fn alone<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    delivery: Delivery,
) -> Result<(), LastCrash> {
    let mut next = admit::admit(instance, delivery).await;
    while let Some(admitted) = next {
        next = kept_turn(instance, seat, admitted).await?;
    }
    Ok(())
}

/// Whether nothing of this message outlives it: no state, no inbox entry.
fn keeps_nothing<A: Agent>(instance: &Instance<A>, delivery: &Delivery) -> bool {
    delivery.claim.is_none() && !instance.keeps
}

/// Runs a `&mut self` handler of an agent that keeps nothing.
async fn quick_turn<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    mut delivery: Delivery,
) -> Result<(), LastCrash> {
    if admit::needs_admission(&delivery) && !admit::is_worth(instance, &delivery) {
        admit::turn_down(instance, delivery);
        return Ok(());
    }
    let route = delivery.route;
    let asker = std::mem::take(&mut delivery.asker);
    if is_as_before(&seat.context.turn, &delivery) {
        seat.context.turn.go_on_with(&delivery);
    } else {
        prepare(instance, seat, Cause::of(&mut delivery), false);
    }
    let message = Message::new(delivery, asker.wants_reply(), asker.sink());
    let ran = run_prepared(instance, seat, route, message).await;
    let draft = seat.context.take_draft();
    let turn = &*seat.context.turn;
    let ran = match ran {
        Ran::Done(Reply(Outcome::Value(reply)))
            if draft.is_none() && !turn.is_noted() && !is_traced(instance) =>
        {
            if !asker.answer(Ok(reply)) {
                instance.host.core().late_reply(&instance.port.id);
            }
            return Ok(());
        }
        ran => ran,
    };
    let (outcome, crash) = judge(instance, turn, ran);
    let settled = settle::settle_at_once(instance, asker, turn, outcome, draft);
    after(crash, settled).map(drop)
}

/// Whether a turn serves for this message as it is: the one before was the same plain message, did nothing with it, and
/// nothing of it lives on.
fn is_as_before(turn: &Arc<Turn>, delivery: &Delivery) -> bool {
    // The context's own and the one that is lent.
    if Arc::strong_count(turn) != 2 {
        return false;
    }
    // What others did before they let go of it is seen from here on.
    fence(Ordering::Acquire);
    turn.is_as_new_for(delivery)
}

fn is_traced<A: Agent>(instance: &Instance<A>) -> bool {
    instance.host.core().trace.get().is_some()
}

/// One try of a `&mut self` handler of an agent that keeps something. Gives the message back when it must run again on a
/// newer state.
async fn kept_turn<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    Admitted {
        mut delivery,
        taken,
    }: Admitted,
) -> Result<Option<Admitted>, LastCrash> {
    let route = delivery.route;
    let (cause, mut hand) = take_in_hand(instance, &mut delivery, taken);
    let alone = hand
        .claim()
        .is_none_or(|claim| claim.conflicts >= CONFLICTS_MAX);
    let turns = instance
        .take_turn(alone, patience(instance, &hand, &cause))
        .await;
    if instance.cell.is_stale() && !admit::fresh_state(instance, &mut hand, &cause).await {
        return Ok(None);
    }
    let message = Message::new(delivery, hand.wants_reply(), hand.sink());
    prepare(instance, seat, cause, hand.stages());
    hand.begin(&seat.context.turn);
    let ran = run_prepared(instance, seat, route, message).await;
    let draft = seat.context.take_draft();
    let turn = Arc::clone(&seat.context.turn);
    let (outcome, crash) = judge(instance, &turn, ran);
    let settled = settle::settle(instance, hand, turn, outcome, draft, route).await;
    drop(turns);
    after(crash, settled)
}

/// How long a message waits for its turn among the instances of a pool: not long where it can run again, or where another
/// handler may wait for it that holds its turn meanwhile.
fn patience<A: Agent>(instance: &Instance<A>, hand: &InHand, cause: &Cause) -> Duration {
    if hand.claim().is_some() || cause.hops() > 0 {
        ALONE_WAIT_MAX
    } else {
        instance.port.declaration.timeout
    }
}

/// What follows a turn: the crash of the instance, another try, or nothing.
fn after(crash: Option<LastCrash>, settled: Settled) -> Result<Option<Admitted>, LastCrash> {
    match (crash, settled) {
        (Some(crash), _) | (None, Settled::Crash(crash)) => Err(crash),
        (None, Settled::Done) => Ok(None),
        (None, Settled::Again(admitted)) => Ok(Some(admitted)),
    }
}

/// How long a handler may run. A stream may for as long as its asker listens: the message's own stall time watches it.
fn timeout_of<A: Agent>(instance: &Instance<A>, route: Route) -> Duration {
    if route.streams {
        Duration::MAX / 4
    } else {
        instance.port.declaration.timeout
    }
}

/// Makes the seat's context that of another message.
fn prepare<A: Agent>(instance: &Arc<Instance<A>>, seat: &mut Seat<A>, cause: Cause, stages: bool) {
    seat.lent = None;
    let context = &mut seat.context;
    if let Some(turn) = Arc::get_mut(&mut context.turn) {
        turn.reset(cause, stages);
    } else {
        // Something of the turn before lives on, in a task that its handler spawned, for one.
        let mut turn = instance.new_turn(Cause::default());
        turn.reset(cause, stages);
        context.turn = Arc::new(turn);
    }
    seat.lent = Some(Arc::clone(&context.turn));
}

async fn run_prepared<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    route: Route,
    message: Message,
) -> Ran<Reply> {
    let Seat {
        agent,
        context,
        lent,
        ..
    } = seat;
    trace(instance, &context.turn);
    let timeout = || timeout_of(instance, route);
    let slow = |turn: &Turn, after| settle::slow(instance, turn, after);
    // Called when it is polled: a trait written by hand may do its work in the call.
    let handler = pin!(async { A::handle_exclusive(agent, route.handler, message, context).await });
    guard::run(lent, handler, timeout, slow).await
}

/// Takes a delivery apart: what its handler inherits, and what must not be lost of it. The payload stays in it.
fn take_in_hand<A: Agent>(
    instance: &Instance<A>,
    delivery: &mut Delivery,
    taken: Option<Taken>,
) -> (Cause, InHand) {
    let asker = std::mem::take(&mut delivery.asker);
    let port = Arc::clone(&instance.port);
    let hand = InHand::new(port, asker, taken, delivery.expects_reply);
    (Cause::of(delivery), hand)
}

/// What a run comes to: its outcome, and whether the instance survives it.
fn judge<A: Agent>(
    instance: &Instance<A>,
    turn: &Turn,
    ran: Ran<Reply>,
) -> (Outcome, Option<LastCrash>) {
    let message_type = turn.message_type();
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
    first: Delivery,
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
fn blocked(batch: &VecDeque<Delivery>) -> bool {
    batch.front().is_some_and(|next| next.route.exclusive)
}

/// The next delivery, if it is for a `&self` handler and the instance goes on.
fn next_shared<A: Agent>(
    instance: &Instance<A>,
    batch: &mut VecDeque<Delivery>,
) -> Option<Delivery> {
    if instance.mailbox.order() != Order::Run {
        return None;
    }
    if batch.is_empty() {
        let first = refill(instance, batch)?;
        batch.push_front(first);
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
    delivery: Delivery,
) -> Result<(), LastCrash> {
    let admitted = if admit::needs_admission(&delivery) {
        admit::admit(instance, delivery).await
    } else {
        Some(Admitted::plain(delivery))
    };
    let Some(Admitted {
        mut delivery,
        taken,
    }) = admitted
    else {
        return Ok(());
    };
    let route = delivery.route;
    if taken.is_none() && !instance.keeps {
        let asker = std::mem::take(&mut delivery.asker);
        let cause = Cause::of(&mut delivery);
        let message = Message::new(delivery, asker.wants_reply(), asker.sink());
        let (turn, ran) = run_shared(instance, agent, cause, None, route, message).await;
        let (outcome, crash) = judge(instance, &turn, ran);
        let settled = settle::settle_at_once(instance, asker, &turn, outcome, None);
        return after(crash, settled).map(drop);
    }
    let (cause, mut hand) = take_in_hand(instance, &mut delivery, taken);
    let turns = instance
        .take_turn(false, patience(instance, &hand, &cause))
        .await;
    if instance.cell.is_stale() && !admit::fresh_state(instance, &mut hand, &cause).await {
        return Ok(());
    }
    let message = Message::new(delivery, hand.wants_reply(), hand.sink());
    let (turn, ran) = run_shared(instance, agent, cause, Some(&mut hand), route, message).await;
    let (outcome, crash) = judge(instance, &turn, ran);
    let settled = settle::settle(instance, hand, turn, outcome, None, route).await;
    drop(turns);
    after(crash, settled).map(drop)
}

async fn run_shared<A: Agent>(
    instance: &Arc<Instance<A>>,
    agent: &A,
    cause: Cause,
    hand: Option<&mut InHand>,
    route: Route,
    message: Message,
) -> (Arc<Turn>, Ran<Reply>) {
    let mut turn = instance.new_turn(Cause::default());
    turn.reset(cause, hand.as_ref().is_some_and(|hand| hand.stages()));
    let context = instance.new_context(turn);
    let turn = Arc::clone(&context.turn);
    if let Some(hand) = hand {
        hand.begin(&turn);
    }
    trace(instance, &turn);
    let timeout = || timeout_of(instance, route);
    let slow = |turn: &Turn, after| settle::slow(instance, turn, after);
    let handler = pin!(async { A::handle_shared(agent, route.handler, message, &context).await });
    let ran = guard::run(&mut Some(Arc::clone(&turn)), handler, timeout, slow).await;
    (turn, ran)
}

fn trace<A: Agent>(instance: &Instance<A>, turn: &Turn) {
    if is_traced(instance) {
        instance.host.core().trace(
            &instance.port.id,
            format_args!(
                "dispatch {} {} from {}",
                instance.number,
                turn.message_type(),
                turn.cause.sender()
            ),
        );
    }
}

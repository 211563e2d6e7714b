//! Dispatch: what an actor does from its start to its end.
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
use tokio::time::Sleep;

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
use crate::model::limits::{
    ALONE_WAIT_MAX, BATCH_MAX, CONFLICTS_MAX, SLICE_MAX, TURNS_BEFORE_YIELD,
};
use crate::model::{Failure, FailureCode, Moment};

/// Why an actor stops pumping.
#[derive(Debug)]
pub(crate) enum Exit {
    Stop,
    Crash(LastCrash),
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), LastCrash>> + Send + 'a>>;

/// Runs handlers, and waits for more, until the instance must end.
pub(crate) async fn run<A: Agent>(instance: &Arc<Instance<A>>, seat: &mut Seat<A>) -> Exit {
    let mut slice = Slice::default();
    loop {
        // Boxed, so that an idle agent keeps no room for what its handlers need while they run.
        if let Some(exit) = Box::pin(work(instance, seat, &mut slice)).await {
            return exit;
        }
        if idle(instance).await {
            slice = Slice::default();
        }
    }
}

/// What an instance has done since it last let other tasks of its thread run.
#[derive(Default)]
struct Slice {
    turns: u32,
    /// When the clock was first looked at, which is done every [`BATCH_MAX`] turns: a look costs as much as a turn.
    begun: Option<Moment>,
}

impl Slice {
    /// Lets other tasks run when it is over.
    async fn give_way<A: Agent>(&mut self, instance: &Instance<A>) {
        if self.is_over(instance) {
            *self = Self::default();
            tokio::task::yield_now().await;
        }
    }

    /// Whether it is over, which is looked at after each turn.
    fn is_over<A: Agent>(&mut self, instance: &Instance<A>) -> bool {
        if self.turns >= TURNS_BEFORE_YIELD {
            return true;
        }
        if self.turns == 0 || !(self.turns as usize).is_multiple_of(BATCH_MAX) {
            return false;
        }
        let now = instance.host.core().clock.now();
        now.since(*self.begun.get_or_insert(now)) >= SLICE_MAX
    }
}

/// Runs handlers until nothing waits, or the instance must end: then it says why. It lets other tasks run when its slice is
/// over, also where it found nothing in between.
async fn work<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    slice: &mut Slice,
) -> Option<Exit> {
    loop {
        if let Some(exit) = ordered(instance) {
            return Some(exit);
        }
        let next = seat.batch.pop_front();
        let next = next.or_else(|| refill(instance, &mut seat.batch))?;
        slice.turns += 1;
        // Boxed are those that are large and less frequent.
        let ran = if !next.route.exclusive {
            Box::pin(side_by_side(instance, seat, next, slice)).await
        } else if next.route.streams {
            Box::pin(stream_alone(instance, seat, next)).await
        } else if keeps_nothing(instance, &next) {
            quick_turn(instance, seat, next).await
        } else {
            Box::pin(alone(instance, seat, next)).await
        };
        if let Err(crash) = ran {
            return Some(Exit::Crash(crash));
        }
        slice.give_way(instance).await;
    }
}

/// Waits until something may be in the mailbox, or an order was given. It waits in its task, inside the one message that its
/// actor got: each further message of ractor's would cost more than the envelope.
/// True when it had to wait.
async fn idle<A: Agent>(instance: &Instance<A>) -> bool {
    let wake = instance.mailbox.wake();
    let mut waits = false;
    let mut has_waited = false;
    poll_fn(|cx| {
        if waits && wake.has_rung() {
            return Poll::Ready(());
        }
        waits = true;
        wake.idle(cx.waker());
        if instance.mailbox.is_empty() && !is_to_end(instance.mailbox.order()) {
            has_waited = true;
            return Poll::Pending;
        }
        wake.rise();
        Poll::Ready(())
    })
    .await;
    has_waited
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

/// Runs one `&mut self` handler that streams. Once the instance was told something, it gets the agent's timeout.
async fn stream_alone<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    delivery: Delivery,
) -> Result<(), LastCrash> {
    let out_of_time = async {
        instance.slot().told(is_to_end).await;
        tokio::time::sleep(instance.port.declaration.timeout).await;
    };
    let stream = async {
        if keeps_nothing(instance, &delivery) {
            quick_turn(instance, seat, delivery).await
        } else {
            alone(instance, seat, delivery).await
        }
    };
    tokio::select! {
        biased;
        // Losing it is safe: it tells whoever waits for it, as when the instance is killed.
        ran = stream => ran,
        () = out_of_time => {
            warn_of_cut(instance, 1);
            Ok(())
        }
    }
}

/// Whether an order lets nothing more begin.
fn is_to_end(order: Order) -> bool {
    order != Order::Run
}

fn warn_of_cut<A: Agent>(instance: &Instance<A>, handlers: usize) {
    let (agent, number) = (&instance.port.id, instance.number);
    tracing::warn!(%agent, instance = number, handlers, "handlers hold up the end of their instance: they are cut off");
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

/// Runs `&self` handlers until none runs, or until a `&mut self` one is next and none runs. Once one has crashed, or the
/// instance was told something, what still runs gets the agent's timeout: a stream would run for as long as it is read.
async fn side_by_side<A: Agent>(
    instance: &Arc<Instance<A>>,
    seat: &mut Seat<A>,
    first: Delivery,
    slice: &mut Slice,
) -> Result<(), LastCrash> {
    let Seat { agent, batch, .. } = seat;
    let agent: &A = agent;
    let limit = instance.port.declaration.concurrency;
    let mut running: FuturesUnordered<Running<'_>> = FuturesUnordered::new();
    let mut next = Some(first);
    let mut crash = None;
    let mut last_moment: Option<Pin<Box<Sleep>>> = None;
    loop {
        while let Some(delivery) = next.take() {
            let mut task: Running<'_> = Box::pin(shared_turn(instance, agent, delivery));
            match poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await {
                Poll::Ready(ended) => crash = crash.or(ended.err()),
                Poll::Pending => running.push(task),
            }
            let goes_on = crash.is_none() && running.len() < limit && !slice.is_over(instance);
            if goes_on {
                next = next_shared(instance, batch, slice);
            }
        }
        if running.is_empty() {
            return crash.map_or(Ok(()), Err);
        }
        slice.give_way(instance).await;
        let woken = if crash.is_some() || is_to_end(instance.mailbox.order()) {
            let timeout = instance.port.declaration.timeout;
            let at = last_moment.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
            wait_until(&mut running, at.as_mut()).await
        } else {
            let takes_more = running.len() < limit && !blocked(batch);
            wait(instance, &mut running, takes_more).await
        };
        match woken {
            Woken::Ended(ended) => crash = crash.or(ended.err()),
            Woken::Look => {}
            Woken::OutOfTime => {
                warn_of_cut(instance, running.len());
                running.clear();
            }
        }
        if crash.is_none() && running.len() < limit {
            next = next_shared(instance, batch, slice);
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
    slice: &mut Slice,
) -> Option<Delivery> {
    if is_to_end(instance.mailbox.order()) {
        return None;
    }
    if batch.is_empty() {
        let first = refill(instance, batch)?;
        batch.push_front(first);
    }
    if blocked(batch) {
        return None;
    }
    slice.turns += 1;
    batch.pop_front()
}

/// Why those that wait for handlers are awake again.
enum Woken {
    Ended(Result<(), LastCrash>),
    /// Something may be in the mailbox, or an order was given.
    Look,
    OutOfTime,
}

/// Waits until a handler has ended, or an order was given, or, where more may start, until something may be in the mailbox.
async fn wait<A: Agent>(
    instance: &Instance<A>,
    running: &mut FuturesUnordered<Running<'_>>,
    takes_more: bool,
) -> Woken {
    let wake = instance.mailbox.wake();
    // Where nothing more is taken, envelopes need not wake it: only an order does.
    let mut told = pin!(instance.slot().told(is_to_end));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = running.poll_next_unpin(cx) {
            wake.rise();
            return Poll::Ready(ended.map_or(Woken::Look, Woken::Ended));
        }
        if !takes_more {
            return told.as_mut().poll(cx).map(|()| Woken::Look);
        }
        wake.park(cx.waker());
        if instance.mailbox.is_empty() && !is_to_end(instance.mailbox.order()) {
            return Poll::Pending;
        }
        wake.rise();
        Poll::Ready(Woken::Look)
    })
    .await
}

/// Waits until a handler has ended, at most until the last moment.
async fn wait_until(
    running: &mut FuturesUnordered<Running<'_>>,
    mut last_moment: Pin<&mut Sleep>,
) -> Woken {
    poll_fn(|cx| match running.poll_next_unpin(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map_or(Woken::Look, Woken::Ended)),
        Poll::Pending => last_moment.as_mut().poll(cx).map(|()| Woken::OutOfTime),
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

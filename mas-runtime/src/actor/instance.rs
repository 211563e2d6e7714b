//! One running copy of an agent: its seat, which outlives the actors that sit in it, and what runs there.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, RwLockReadGuard, RwLockWriteGuard};

use super::agent::{Agent, StateOf};
use super::context::Context;
use super::delivery::Delivery;
use super::guard::{self, Ran};
use super::host::{Boxed, Host};
use super::launch::Source;
use super::mailbox::Mailbox;
use super::port::{Port, Slot};
use super::settle::Effects;
use super::shell::{self, ActorHandle};
use super::state::{DraftState, PublishError, StateCell};
use super::supervisor::{Member, Supervisor};
use super::to_its_end::ToItsEnd;
use super::turn::{Book, Cause, Turn};
use crate::model::limits::ALONE_WAIT_MAX;
use crate::model::{Failure, FailureCode, MessageId};
use crate::store::Batch;

const ON_START: &str = "on_start";

/// One running copy of an agent.
pub(crate) struct Instance<A: Agent> {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) port: Arc<Port>,
    pub(crate) number: u32,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) cell: Arc<StateCell<StateOf<A>>>,
    /// Whether the engine keeps the state.
    pub(crate) keeps: bool,
    /// Whether there are several of it.
    pub(crate) pooled: bool,
    source: Source<A>,
    seat: Mutex<SeatState<A>>,
    vacated: Notify,
    actor: Mutex<Option<ActorHandle>>,
    /// Tells an actor that is starting, which can't be told in any other way.
    killed: Notify,
    crash: Mutex<Option<LastCrash>>,
    starts: AtomicU32,
}

enum SeatState<A: Agent> {
    /// Nobody has sat here yet.
    New,
    Taken,
    Vacant(Box<Seat<A>>),
}

/// What an actor works with, and leaves behind for the next.
pub(crate) struct Seat<A: Agent> {
    pub(crate) agent: A,
    /// Taken out of the mailbox, not begun.
    pub(crate) batch: VecDeque<Delivery>,
    /// The context of `&mut self` handlers, used again and again.
    pub(crate) context: Context<A>,
    /// The context's turn once more, to be lent to whoever asks during a poll.
    pub(crate) lent: Option<Arc<Turn>>,
}

/// Why the last actor crashed, and over which message.
#[derive(Clone, Debug)]
pub(crate) struct LastCrash {
    pub(crate) reason: String,
    pub(crate) message: Option<MessageId>,
}

/// Held by an instance while it takes its turn, among others or alone.
pub(crate) type TurnTaken<'a> = (
    Option<RwLockReadGuard<'a, ()>>,
    Option<RwLockWriteGuard<'a, ()>>,
);

/// An actor in its seat. Dropped, it leaves the seat to the next.
pub(crate) struct Seated<A: Agent> {
    pub(crate) instance: Arc<Instance<A>>,
    pub(crate) seat: Option<Box<Seat<A>>>,
}

impl<A: Agent> Instance<A> {
    pub(crate) fn new(
        host: Arc<dyn Host>,
        port: Arc<Port>,
        number: usize,
        cell: Arc<StateCell<StateOf<A>>>,
        source: Source<A>,
    ) -> Arc<Self> {
        Arc::new(Self {
            mailbox: Arc::clone(&port.slots[number].mailbox),
            number: u32::try_from(number).unwrap_or(u32::MAX),
            host,
            pooled: port.slots.len() > 1,
            port,
            keeps: cell.is_kept(),
            cell,
            source,
            seat: Mutex::new(SeatState::New),
            vacated: Notify::new(),
            actor: Mutex::new(None),
            killed: Notify::new(),
            crash: Mutex::new(None),
            starts: AtomicU32::new(0),
        })
    }

    /// Where several instances share a state: waits until nobody takes a turn alone, or until nobody else takes one. After
    /// `patience` it goes on without: two that wait for each other are only late, and a conflict is noticed still.
    pub(crate) async fn take_turn(&self, alone: bool, patience: Duration) -> TurnTaken<'_> {
        if !self.pooled || !self.keeps {
            return (None, None);
        }
        let turns = &self.port.turns;
        if !alone {
            if let Ok(taken) = turns.try_read() {
                return (Some(taken), None);
            }
            let taken = tokio::time::timeout(patience, turns.read()).await;
            return (taken.ok(), None);
        }
        let mut left = patience;
        loop {
            // Whoever waits in line to be alone holds off others, and one of these may be what it waits for.
            let wait = left.min(ALONE_WAIT_MAX);
            if let Ok(taken) = tokio::time::timeout(wait, turns.write()).await {
                return (None, Some(taken));
            }
            left = left.saturating_sub(wait);
            if left.is_zero() {
                return (None, None);
            }
        }
    }

    /// Its place at the port.
    pub(crate) fn slot(&self) -> &Slot {
        &self.port.slots[self.number as usize]
    }

    pub(crate) fn new_turn(&self, cause: Cause) -> Turn {
        Turn::new(
            Arc::clone(&self.host),
            Arc::clone(&self.port),
            self.number,
            cause,
        )
    }

    pub(crate) fn new_context(&self, turn: Turn) -> Context<A> {
        Context::new(turn, Arc::clone(&self.cell), self.port.window.clone())
    }

    /// Takes the seat and runs `#[on_start]`, unless it is killed meanwhile.
    pub(crate) async fn begin(self: Arc<Self>) -> Result<Seated<A>, Failure> {
        let instance = Arc::clone(&self);
        let mut killed = pin!(instance.killed.notified());
        // From now on: nobody polls it before the start waits for something.
        killed.as_mut().enable();
        let start = async {
            let mut seated = self.sit().await?;
            seated.start().await?;
            Ok(seated)
        };
        tokio::select! {
            biased;
            // Losing the start is safe: its seat is left to the next, as after a crash.
            () = killed => Err(Failure::retryable("it was killed while it started")),
            started = start => started,
        }
    }

    /// Takes the seat once the actor before has left it, with a fresh agent where there is a factory.
    pub(crate) async fn sit(self: Arc<Self>) -> Result<Seated<A>, Failure> {
        // Before the seat is taken: a factory that panics leaves it to the next try.
        let value = match &self.source {
            Source::Factory(make) => Some(guard::call(|| make()).map_err(panicked)?),
            Source::Value(value) => value.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        let left = self.vacant_seat().await;
        let seat = match (left, value) {
            (None, None) => {
                return Err(Failure::permanent(
                    "the agent's value is gone: it was spawned as a value and taken before",
                ));
            }
            (Some(mut seat), None) => {
                seat.context.take_draft();
                seat
            }
            (left, Some(agent)) => Box::new(Seat {
                agent,
                batch: left.map(|seat| leave(*seat)).unwrap_or_default(),
                context: self.new_context(self.new_turn(Cause::lifecycle(ON_START))),
                lent: None,
            }),
        };
        Ok(Seated {
            instance: self,
            seat: Some(seat),
        })
    }

    async fn vacant_seat(&self) -> Option<Box<Seat<A>>> {
        loop {
            let vacated = self.vacated.notified();
            match std::mem::replace(&mut *self.seat(), SeatState::Taken) {
                SeatState::New => return None,
                SeatState::Vacant(seat) => return Some(seat),
                SeatState::Taken => {}
            }
            vacated.await;
        }
    }

    pub(crate) fn note_crash(&self, crash: LastCrash) {
        *lock(&self.crash) = Some(crash);
    }

    fn seat(&self) -> MutexGuard<'_, SeatState<A>> {
        lock(&self.seat)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panicked(text: String) -> Failure {
    Failure::new(FailureCode::PANIC, text)
}

impl<A: Agent> Seated<A> {
    /// Runs `#[on_start]` on the stored state, and commits what it changed.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        let instance = Arc::clone(&self.instance);
        let engine = &instance.host.core().engine;
        instance.cell.refresh(&**engine).await.map_err(|error| {
            Failure::new(
                FailureCode::STORE,
                format!("the state can't be read: {error}"),
            )
        })?;
        let timers = instance.port.timers.settle_doubts().await;
        timers.map_err(|error| Failure::new(FailureCode::STORE, error.to_string()))?;
        instance.starts.fetch_add(1, Ordering::Relaxed);
        self.lifecycle(ON_START).await
    }

    /// Runs `#[on_stop]`.
    async fn stop(&mut self) -> Result<(), Failure> {
        self.lifecycle("on_stop").await
    }

    async fn lifecycle(&mut self, name: &'static str) -> Result<(), Failure> {
        let instance = Arc::clone(&self.instance);
        let Some(seat) = self.seat.as_deref_mut() else {
            return Ok(());
        };
        let core = instance.host.core();
        core.trace(
            &instance.port.id,
            format_args!("{name} {}", instance.number),
        );
        // What several instances make of one state on their start must not collide.
        let patience = instance.port.declaration.timeout;
        let turns = instance.take_turn(true, patience).await;
        let mut turn = instance.new_turn(Cause::lifecycle(name));
        turn.stages = instance.port.declaration.durable;
        turn.starts = name == ON_START;
        let mut context = instance.new_context(turn);
        let turn = Arc::clone(&context.turn);
        let mut own = Some(Arc::clone(&turn));
        let agent = &mut seat.agent;
        let mut timeout = instance.port.declaration.timeout;
        let ran = if turn.starts {
            guard::run(
                &mut own,
                pin!(A::on_start(agent, &mut context)),
                || timeout,
                |_, _| (),
            )
            .await
        } else {
            // Nobody waits longer for the end of an agent.
            timeout = timeout.min(core.options.shutdown_grace);
            guard::run(
                &mut own,
                pin!(A::on_stop(agent, &mut context)),
                || timeout,
                |_, _| (),
            )
            .await
        };
        let result = match ran {
            Ran::Done(result) => result,
            Ran::TimedOut => Err(timed_out(name, timeout)),
            Ran::Panicked(text) => Err(panicked(format!("`#[{name}]` panicked: {text}"))),
        };
        drop(own);
        let mut book = turn.close().unwrap_or_default();
        result?;
        if let Some(reason) = book.crash.take() {
            return Err(Failure::retryable(reason));
        }
        if let Some(failure) = book.failure.take() {
            return Err(failure);
        }
        let draft = context.take_draft();
        let work = commit_lifecycle(Arc::clone(&instance), draft, *book, turn);
        let committed = ToItsEnd::new(&core.tasks, work).await;
        drop(turns);
        committed
    }
}

/// Commits what `#[on_start]` or `#[on_stop]` made of the state, and what it sent.
async fn commit_lifecycle<A: Agent>(
    instance: Arc<Instance<A>>,
    draft: Option<DraftState<StateOf<A>>>,
    book: Book,
    turn: Arc<Turn>,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    if let Some(draft) = draft {
        let op = instance.cell.publish(&draft).map_err(|error| match error {
            PublishError::Moved => Failure::new(
                FailureCode::CONFLICT,
                "another instance moved the state meanwhile",
            ),
            PublishError::Codec(error) => Failure::new(FailureCode::STORE, error.to_string()),
        })?;
        if let Some(op) = op {
            batch.push(op);
        }
    }
    let mut effects = Effects::gather(&instance, batch, book, &turn);
    let batch = effects.take_batch();
    if batch.is_empty() {
        return Ok(());
    }
    match instance.host.core().engine.commit(batch).await {
        Ok(committed) => {
            effects.release(&instance, committed);
            Ok(())
        }
        Err(error) => {
            instance.cell.invalidate();
            if error.may_be_stored() {
                instance.port.timers.doubt();
            }
            effects.withdraw(&instance, &error);
            Err(Failure::new(FailureCode::STORE, error.to_string()))
        }
    }
}

/// Lets an agent's value go, whose author may have written how, and gives what it had not begun.
fn leave<A: Agent>(seat: Seat<A>) -> VecDeque<Delivery> {
    let Seat { agent, batch, .. } = seat;
    if let Err(text) = guard::call(move || drop(agent)) {
        tracing::error!(%text, "an agent panicked as it was dropped");
    }
    batch
}

pub(crate) fn timed_out(what: &str, timeout: Duration) -> Failure {
    let text = format!("`{what}` took longer than {timeout:?}");
    Failure::new(FailureCode::TIMEOUT, text)
}

impl<A: Agent> Drop for Seated<A> {
    fn drop(&mut self) {
        let Some(mut seat) = self.seat.take() else {
            return;
        };
        // What was taken and not begun waits in the mailbox again, in its order.
        self.instance.mailbox.put_back(seat.batch.drain(..));
        *self.instance.seat() = SeatState::Vacant(seat);
        self.instance.vacated.notify_one();
    }
}

impl<A: Agent> Member for Instance<A> {
    fn port(&self) -> &Arc<Port> {
        &self.port
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn start(self: Arc<Self>, supervisor: Arc<Supervisor>) -> Boxed<'static, Result<(), Failure>> {
        Box::pin(async move {
            let actor = shell::spawn(Arc::clone(&self), &supervisor).await?;
            *lock(&self.actor) = Some(actor);
            Ok(())
        })
    }

    fn kill(&self) {
        self.killed.notify_waiters();
        if let Some(actor) = &*lock(&self.actor) {
            actor.kill();
        }
    }

    fn take_crash(&self) -> Option<LastCrash> {
        lock(&self.crash).take()
    }

    fn finish(self: Arc<Self>) -> Boxed<'static, ()> {
        Box::pin(async move {
            let Ok(mut seated) = Arc::clone(&self).sit_again().await else {
                return;
            };
            if let Err(failure) = seated.stop().await {
                tracing::warn!(agent = %self.port.id, %failure, "`#[on_stop]` failed");
            }
            // The agent's value goes with its seat.
            if let Some(seat) = seated.seat.take() {
                leave(*seat);
            }
        })
    }
}

impl<A: Agent> Instance<A> {
    /// Takes the seat that a start has left, whoever's value it holds.
    async fn sit_again(self: Arc<Self>) -> Result<Seated<A>, ()> {
        if self.starts.load(Ordering::Relaxed) == 0 {
            return Err(());
        }
        let seat = self.vacant_seat().await.ok_or(())?;
        Ok(Seated {
            instance: self,
            seat: Some(seat),
        })
    }
}

impl<A: Agent> fmt::Debug for Instance<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("agent", &self.port.id)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

//! The only module that knows ractor: an actor's life cycle, and the supervisor's ear.
//!
//! ractor spawns, links, stops, kills, and reports how an actor ended. Its mailbox carries one message without content, with
//! which the actor begins, and inside which it waits for more: envelopes wait in our own mailbox, which is bounded and outlives
//! the actor. None of its names, groups, calls or supervision defaults are used.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::agent::Agent;
use super::instance::{Instance, LastCrash, Seated};
use super::pump::{self, Exit};
use super::supervisor::{Member, Supervisor};
use crate::model::{Failure, FailureCode};

/// With this an actor begins. It has no size, so sending it allocates nothing.
struct Begin;

/// An actor that runs an instance.
pub(crate) struct ActorHandle(ActorCell);

/// What an actor is known by while it lives.
pub(crate) type ActorNumber = u64;

/// How an actor ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was told to, or wanted to.
    Stopped,
    Killed,
    Crashed(String),
}

impl ActorHandle {
    /// Ends the actor at its next await, whatever it does.
    pub(crate) fn kill(&self) {
        self.0.kill();
    }
}

impl fmt::Debug for ActorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorHandle")
            .field(&self.0.get_id())
            .finish()
    }
}

/// Starts an actor for an instance, under the supervisor: returns when its `#[on_start]` is over.
pub(crate) async fn spawn<A: Agent>(
    instance: Arc<Instance<A>>,
    supervisor: &Arc<Supervisor>,
) -> Result<ActorHandle, Failure> {
    let shell = Shell::<A> {
        supervisor: Arc::clone(supervisor),
        agent: PhantomData,
    };
    let root = supervisor.root();
    match Actor::spawn_linked(None, shell, instance, root.0.clone()).await {
        Ok((actor, _)) => Ok(ActorHandle(actor.get_cell())),
        Err(SpawnErr::StartupFailed(error)) => Err(Failure::from_error(error)),
        Err(error) => Err(Failure::new(FailureCode::STOPPED, error.to_string())),
    }
}

struct Shell<A> {
    supervisor: Arc<Supervisor>,
    agent: PhantomData<fn() -> A>,
}

impl<A: Agent> Actor for Shell<A> {
    type Msg = Begin;
    type State = Seated<A>;
    type Arguments = Arc<Instance<A>>;

    async fn pre_start(
        &self,
        myself: ActorRef<Begin>,
        instance: Arc<Instance<A>>,
    ) -> Result<Seated<A>, ActorProcessingErr> {
        let member: Arc<dyn Member> = Arc::clone(&instance) as _;
        let mailbox = Arc::clone(&instance.mailbox);
        let seated = instance.begin().await?;
        self.supervisor.sits(number(&myself), member);
        mailbox.begin();
        // An actor that has ended meanwhile needs no waking.
        let _ = myself.cast(Begin);
        Ok(seated)
    }

    async fn handle(
        &self,
        myself: ActorRef<Begin>,
        _: Begin,
        seated: &mut Seated<A>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(seat) = seated.seat.as_deref_mut() else {
            return Ok(());
        };
        match Box::pin(pump::run(&seated.instance, seat)).await {
            Exit::Stop => {
                seated.leave();
                myself.stop(None);
                Ok(())
            }
            Exit::Crash(LastCrash { reason, message }) => {
                let instance = Arc::clone(&seated.instance);
                instance.note_crash(LastCrash {
                    reason: reason.clone(),
                    message,
                });
                seated.leave();
                Err(reason.into())
            }
        }
    }
}

impl<A: Agent> Seated<A> {
    /// Leaves the seat to the next before anybody hears that this actor has ended.
    fn leave(&mut self) {
        let instance = Arc::clone(&self.instance);
        drop(Self {
            instance,
            seat: self.seat.take(),
        });
    }
}

fn number<M: ractor::Message>(actor: &ActorRef<M>) -> ActorNumber {
    actor.get_id().pid()
}

/// The actor that hears how the others end. It runs nobody's code, so nothing keeps it from hearing.
pub(crate) struct Root(ActorCell);

impl Root {
    pub(crate) async fn start(supervisor: Weak<Supervisor>) -> Result<Self, Failure> {
        match Actor::spawn(None, Ear, supervisor).await {
            Ok((actor, _)) => Ok(Self(actor.get_cell())),
            Err(error) => Err(Failure::new(FailureCode::STOPPED, error.to_string())),
        }
    }

    /// Ends it, after everybody else.
    pub(crate) fn stop(&self) {
        self.0.stop(None);
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.0.get_id()).finish()
    }
}

struct Ear;

impl Actor for Ear {
    type Msg = Begin;
    type State = Weak<Supervisor>;
    type Arguments = Weak<Supervisor>;

    async fn pre_start(
        &self,
        _: ActorRef<Begin>,
        supervisor: Weak<Supervisor>,
    ) -> Result<Weak<Supervisor>, ActorProcessingErr> {
        Ok(supervisor)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Begin>,
        event: SupervisionEvent,
        supervisor: &mut Weak<Supervisor>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, ended) = match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => match reason.as_deref() {
                None => (actor, Ended::Stopped),
                Some(_) => (actor, Ended::Killed),
            },
            SupervisionEvent::ActorFailed(actor, error) => {
                (actor, Ended::Crashed(error.to_string()))
            }
            _ => return Ok(()),
        };
        if let Some(supervisor) = supervisor.upgrade() {
            supervisor.heard(actor.get_id().pid(), ended);
        }
        Ok(())
    }
}

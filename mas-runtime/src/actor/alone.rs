//! An instance without an actor: what the test harness drives by hand.

use std::any::TypeId;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use super::agent::{Agent, AgentState, Declare, HandlerTable, StateOf};
use super::delivery::{Answer, Asker, Delivery};
use super::error::SendError;
use super::host::Host;
use super::instance::{Instance, Seated};
use super::launch::Source;
use super::mailbox::{Order, Pushed};
use super::port::Port;
use super::pump::{self, Exit};
use super::reply_cell::{ReplyReceiver, reply_cell};
use super::state::StateCell;
use super::timers::Timers;
use crate::model::{AgentId, Failure, IdError, MessageType, Payload};

/// An instance in its seat, without an actor.
pub(crate) struct Seat<A: Agent> {
    instance: Arc<Instance<A>>,
    seated: Option<Seated<A>>,
    durable: bool,
}

/// Seats an agent. Nothing of it is kept by the engine.
pub(crate) fn alone<A: Agent>(agent: A, host: Arc<dyn Host>) -> Result<Seat<A>, IdError> {
    let mut declaration = <A::Ref as Declare<A>>::declaration();
    let durable = declaration.durable;
    declaration.durable = false;
    declaration.stateful = false;
    let id = AgentId::new(declaration.id)?;
    let cell = StateCell::<StateOf<A>>::new(id.clone(), &declaration);
    let table = Arc::new(HandlerTable::new(A::HANDLERS));
    let timers = Arc::new(Timers::new(id.clone(), Arc::clone(&host), false));
    // No time passes here: no timer runs, and the host keeps those that are started.
    timers.close();
    let port = Port::new(
        id,
        declaration,
        (TypeId::of::<A>(), table),
        1,
        None,
        timers,
        None,
    );
    let source = Source::value(agent);
    let instance = Instance::new(host, Arc::new(port), 0, Arc::new(cell), source);
    Ok(Seat {
        instance,
        seated: None,
        durable,
    })
}

impl<A: Agent> Seat<A> {
    pub(crate) const fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.instance.port
    }

    /// Whether the agent has told itself to stop since it was last asked. It goes on.
    pub(crate) fn take_stop(&self) -> bool {
        let mailbox = &self.instance.mailbox;
        let stops = mailbox.order() == Order::Quit;
        mailbox.clear_order(Order::Quit);
        stops
    }

    /// Replaces the state.
    pub(crate) fn set_state(&self, state: StateOf<A>) {
        // Nothing is kept, and a harness may start from a state that `validate` would refuse.
        let _ = self.instance.cell.update_now(|own| *own = state, drop);
    }

    /// A copy of the state.
    pub(crate) fn copy_state(&self) -> StateOf<A> {
        let state = self.instance.cell.snapshot();
        let copy = state
            .encode()
            .and_then(|bytes| StateOf::<A>::decode(&bytes));
        copy.unwrap_or_else(|_| StateOf::<A>::fresh())
    }

    pub(crate) async fn on_start(&mut self) -> Result<(), Failure> {
        self.seated().await?.start().await
    }

    /// Runs one message to its end.
    pub(crate) async fn handle(&mut self, message_type: MessageType, payload: Payload) -> Answer {
        let port = Arc::clone(&self.instance.port);
        let Some(route) = port.route(&message_type) else {
            return Err(Failure::from_error(SendError::UnknownMessageType {
                target: port.id.clone(),
                handled: port.table.message_types(),
                message_type,
            })
            .lasting());
        };
        let (asker, answer) = reply_cell();
        let mut delivery = Delivery::new(payload);
        delivery.asker = Asker::one_reply(asker);
        delivery.route = route;
        delivery.expects_reply = true;
        let cover = delivery.cover_mut();
        cover.id = self.instance.host.core().new_id();
        cover.message_type = Some(message_type);
        let pushed = port.slots[0].mailbox.push(delivery);
        if !matches!(pushed, Pushed::Accepted) {
            return Err(Failure::permanent("the harness's mailbox is full"));
        }
        let instance = Arc::clone(&self.instance);
        let seated = self.seated().await?;
        let answer = match seated.seat.as_deref_mut() {
            Some(seat) => until_answered(pump::run(&instance, seat), answer).await,
            None => None,
        };
        answer.unwrap_or_else(|| Err(Failure::permanent("the handler gave no answer")))
    }

    async fn seated(&mut self) -> Result<&mut Seated<A>, Failure> {
        if self.seated.is_none() {
            self.seated = Some(Arc::clone(&self.instance).sit().await?);
        }
        self.seated
            .as_mut()
            .ok_or_else(|| Failure::permanent("the agent has no seat"))
    }
}

/// Lets an instance run until a message is answered: then it waits for the next one.
async fn until_answered(
    pump: impl Future<Output = Exit>,
    mut answer: ReplyReceiver,
) -> Option<Answer> {
    let mut pump = Box::pin(pump);
    poll_fn(|cx| {
        let ended = pump.as_mut().poll(cx).is_ready();
        match answer.poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending if ended => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

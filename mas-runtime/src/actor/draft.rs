//! A message before it is sent: its address, and what it will be delivered as.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::agent::{HandlerIndex, Route};
use super::delivery::Delivery;
use super::error::SendError;
use super::host::{Host, Sending};
use super::port::Port;
use super::turn::Turn;
use crate::model::limits::OUTBOX_ENTRIES_MAX;
use crate::model::{AgentId, Envelope, MessageType, Payload};

/// Where a ref leads.
pub(crate) struct Handle {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) id: AgentId,
    pub(crate) port: Option<Arc<Port>>,
}

/// A message that is not sent yet, with its terms.
pub(crate) struct Draft {
    pub(crate) to: Arc<Handle>,
    pub(crate) letter: Letter,
}

/// A message that is not sent yet, without its address.
pub(crate) struct Letter {
    /// What will be delivered, but for its type.
    pub(crate) delivery: Delivery,
    pub(crate) message_type: MessageType,
    /// The handler, where the sender knows it.
    pub(crate) route: Option<Route>,
    pub(crate) try_now: bool,
    /// The handler that sends it.
    pub(crate) turn: Option<Arc<Turn>>,
    /// What was wrong already when it was built.
    pub(crate) fault: Option<Box<SendError>>,
}

impl Letter {
    /// A message that no handler sends.
    const fn new(message_type: MessageType, delivery: Delivery) -> Self {
        Self {
            delivery,
            message_type,
            route: None,
            try_now: false,
            turn: None,
            fault: None,
        }
    }
}

impl Draft {
    /// A message that was an envelope before.
    pub(crate) fn of(to: Arc<Handle>, envelope: Envelope) -> Self {
        let message_type = envelope.message_type.clone();
        let delivery = Delivery::of(envelope, Route::default());
        let letter = Letter::new(message_type, delivery);
        Self { to, letter }
    }

    /// A message of this type, sent by the handler whose turn it is, if any.
    pub(crate) fn new(
        to: Arc<Handle>,
        turn: Option<Arc<Turn>>,
        message_type: MessageType,
        payload: Payload,
    ) -> Self {
        let mut letter = Letter::new(message_type, Delivery::new(payload));
        letter.turn = turn;
        Self { to, letter }
    }

    /// A message of this type with an encoded payload.
    pub(crate) fn by_type<P: Serialize + ?Sized>(
        to: Arc<Handle>,
        turn: Option<Arc<Turn>>,
        message_type: &str,
        payload: &P,
    ) -> Self {
        let mut fault: Option<SendError> = None;
        let message_type = MessageType::new(message_type).unwrap_or_else(|error| {
            fault = Some(error.into());
            MessageType::declared("-")
        });
        let payload = Payload::encode(payload).unwrap_or_else(|error| {
            fault = Some(error.into());
            Payload::empty()
        });
        let mut draft = Self::new(to, turn, message_type, payload);
        draft.letter.fault = fault.map(Box::new);
        draft
    }

    /// A message for a handler that the compiler knows.
    #[inline(always)]
    pub(crate) fn typed<A: 'static>(
        to: Arc<Handle>,
        handler: HandlerIndex,
        message_type: &'static str,
        delivery: Delivery,
    ) -> Self {
        // Behind the id may be another type of agent, or none here: then the message type decides.
        let route = match &to.port {
            Some(port) if port.agent_type == TypeId::of::<A>() => port.table.at(handler),
            _ => None,
        };
        let letter = Letter {
            delivery,
            message_type: MessageType::declared(message_type),
            route,
            try_now: false,
            turn: Turn::current(),
            fault: None,
        };
        Self { to, letter }
    }

    /// Inherits what the handler that sends it has, and checks what can be checked here.
    fn prepare(&mut self) -> Result<(), SendError> {
        if let Some(fault) = self.letter.fault.take() {
            return Err(*fault);
        }
        let Some(turn) = &self.letter.turn else {
            return Ok(());
        };
        turn.inherit(&mut self.letter.delivery)
    }

    /// Sends it, or stages it with the handler that it belongs to. Gives where it went.
    pub(crate) fn send(mut self) -> (Arc<Handle>, Sending) {
        if let Err(error) = self.prepare() {
            return (self.to, Sending::Done(Err(error)));
        }
        let staged = self.letter.turn.as_ref().is_some_and(|turn| turn.stages)
            && !self.letter.delivery.asker.wants_reply()
            && !self.letter.delivery.asker.wants_stream();
        if staged && let Some(turn) = self.letter.turn.take() {
            let to = Arc::clone(&self.to);
            return (to, Sending::Done(self.stage(&turn)));
        }
        let sending = self.to.host.send(&self.to, self.letter);
        (self.to, sending)
    }

    /// The envelope that it would have been.
    pub(crate) fn into_envelope(mut self) -> Envelope {
        let target = self.to.id.clone();
        self.letter
            .delivery
            .take_envelope(target, self.letter.message_type)
    }

    /// Keeps it with the durable handler that sends it, until that commits.
    fn stage(mut self, turn: &Turn) -> Result<(), SendError> {
        let host = &self.to.host;
        // It is stored as bytes: what is wrong with them is the handler's to hear.
        self.letter
            .delivery
            .settle(host.core().options.payload_bytes_max)?;
        if let Some(port) = host.port(&self.to.id)
            && port.route(&self.letter.message_type).is_none()
        {
            return Err(SendError::UnknownMessageType {
                target: self.to.id.clone(),
                message_type: self.letter.message_type,
                handled: port.table.message_types(),
            });
        }
        if !host.outbox_has_room(turn.agent(), turn.staged_sends()) {
            return Err(SendError::OutboxFull {
                sender: turn.agent().clone(),
                entries: OUTBOX_ENTRIES_MAX,
            });
        }
        turn.stage(self)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("target", &self.to.id)
            .field("message_type", &self.letter.message_type)
            .finish_non_exhaustive()
    }
}

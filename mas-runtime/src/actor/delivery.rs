//! An envelope on its way through a mailbox, with what ties it to its asker and to its inbox entry.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::agent::{HandlerTable, Route};
use super::inbox::Claim;
use super::port::Port;
use super::reply_cell::ReplySender;
use super::turn::NO_ID;
use crate::model::limits::BUDGET_DEFAULT;
use crate::model::{
    AgentId, Envelope, Extra, Failure, FailureCode, MessageId, MessageType, Meta, Moment, Payload,
    PayloadError, Priority,
};

/// What an asker gets.
pub(crate) type Answer = Result<Payload, Failure>;

/// A piece of a streamed reply. A stream without its end was cut off.
#[derive(Debug)]
pub(crate) enum Part {
    Item(Payload),
    Failed(Failure),
    End,
}

/// A message on its way to a handler, and everything that must not be lost with it.
///
/// It is one box, filled where the message is made: through drafts, mailboxes and hands only its address moves, and a typed
/// payload stays where its sender has put it until the handler takes it.
pub(crate) struct Delivery(Box<Parcel<dyn Content>>);

struct Parcel<C: ?Sized> {
    head: Head,
    content: C,
}

/// What stands on a parcel.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) terms: Terms,
    pub(crate) asker: Asker,
    /// Its entry in the durable inbox.
    pub(crate) claim: Option<Box<Claim>>,
}

/// What a handler needs to know of its message besides the payload.
///
/// It is small: what its route and its target's handler table tell is not repeated, and what a plain message of a program
/// has not got stands in a [`Cover`] of its own.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) cover: Option<Box<Cover>>,
    pub(crate) deadline: Deadline,
    /// The handler that takes it.
    pub(crate) route: Route,
    pub(crate) priority: Priority,
    pub(crate) expects_reply: bool,
}

/// When a message stops being worth handling, if ever, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Moment);

impl Deadline {
    pub(crate) const NEVER: Self = Self(Moment::LAST);

    pub(crate) const fn at(moment: Moment) -> Self {
        Self(moment)
    }

    pub(crate) fn of(moment: Option<Moment>) -> Self {
        moment.map_or(Self::NEVER, Self)
    }

    pub(crate) fn moment(self) -> Option<Moment> {
        (self != Self::NEVER).then_some(self.0)
    }

    pub(crate) fn has_passed(self, now: Moment) -> bool {
        self != Self::NEVER && now >= self.0
    }

    /// What [`Deadline::nanos`] gave.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(Moment::from_nanos(nanos))
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0.nanos()
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::NEVER
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.moment().fmt(f)
    }
}

/// What a parcel holds: a value of its own type, or a payload whose type is not known where it was packed.
trait Content: Send {
    fn as_any(&mut self) -> &mut dyn Any;

    /// Takes it out.
    fn take(&mut self) -> Payload;

    /// How many bytes it has, where it is bytes already.
    fn encoded_len(&self) -> Option<usize>;
}

/// A typed payload, until it is taken.
struct Value<T>(Option<T>);

impl<T: Serialize + Send + 'static> Content for Value<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn take(&mut self) -> Payload {
        self.0.take().map_or_else(Payload::empty, Payload::typed)
    }

    fn encoded_len(&self) -> Option<usize> {
        None
    }
}

impl Content for Payload {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn take(&mut self) -> Payload {
        std::mem::take(self)
    }

    fn encoded_len(&self) -> Option<usize> {
        Self::encoded_len(self)
    }
}

/// What an envelope says that a plain message from outside any handler leaves out.
#[derive(Debug)]
pub(crate) struct Cover {
    pub(crate) id: MessageId,
    pub(crate) sender: AgentId,
    /// Where the handler takes any.
    pub(crate) message_type: Option<MessageType>,
    pub(crate) correlation_id: Option<MessageId>,
    pub(crate) is_reply: bool,
    pub(crate) hops: u8,
    pub(crate) budget: u32,
    pub(crate) extra: Option<Box<Extra>>,
    /// What is left of the root message's budget, shared by all that it causes in this process.
    pub(crate) pool: Option<Arc<AtomicU32>>,
}

impl Default for Cover {
    fn default() -> Self {
        Self {
            id: NO_ID,
            sender: AgentId::RUNTIME,
            message_type: None,
            correlation_id: None,
            is_reply: false,
            hops: 0,
            budget: BUDGET_DEFAULT,
            extra: None,
            pool: None,
        }
    }
}

impl Delivery {
    /// A message with this payload, under the terms of a root message.
    pub(crate) fn new(payload: Payload) -> Self {
        let head = Head::default();
        Self(Box::new(Parcel {
            head,
            content: payload,
        }))
    }

    /// A message with a payload that stays what it is, under the terms of a root message.
    #[inline(always)]
    pub(crate) fn typed<T: Serialize + Send + 'static>(value: T) -> Self {
        let head = Head::default();
        Self(Box::new(Parcel {
            head,
            content: Value(Some(value)),
        }))
    }

    /// An envelope for this handler.
    pub(crate) fn of(envelope: Envelope, route: Route) -> Self {
        let meta = envelope.meta;
        let cover = Cover {
            id: envelope.id,
            sender: envelope.sender,
            message_type: route.any.then_some(envelope.message_type),
            correlation_id: meta.correlation_id,
            is_reply: meta.is_reply,
            hops: meta.hops,
            budget: meta.budget,
            extra: meta.extra,
            pool: None,
        };
        let mut delivery = Self::new(envelope.payload);
        let terms = &mut delivery.terms;
        terms.cover = Some(Box::new(cover));
        terms.deadline = Deadline::of(meta.deadline);
        terms.route = route;
        terms.priority = meta.priority;
        terms.expects_reply = meta.expects_reply;
        delivery
    }

    /// Takes the payload as a `T`.
    ///
    /// # Errors
    /// As [`Payload::take`].
    pub(crate) fn take_value<T: DeserializeOwned + 'static>(&mut self) -> Result<T, PayloadError> {
        let own = self.0.content.as_any().downcast_mut::<Value<T>>();
        match own.and_then(|own| own.0.take()) {
            Some(value) => Ok(value),
            None => self.take_payload().take(),
        }
    }

    /// Takes the payload.
    pub(crate) fn take_payload(&mut self) -> Payload {
        self.0.content.take()
    }

    /// Gives it another payload.
    pub(crate) fn set_payload(&mut self, payload: Payload) {
        if let Some(own) = self.0.content.as_any().downcast_mut::<Payload>() {
            *own = payload;
            return;
        }
        let head = std::mem::take(&mut **self);
        self.0 = Box::new(Parcel {
            head,
            content: payload,
        });
    }

    /// The bytes of the payload, where it is bytes already.
    pub(crate) fn encoded_len(&self) -> Option<usize> {
        self.0.content.encoded_len()
    }

    /// Makes the payload bytes.
    ///
    /// # Errors
    /// As [`Payload::settle`].
    pub(crate) fn settle(&mut self, bytes_max: usize) -> Result<(), PayloadError> {
        let mut payload = self.take_payload();
        let settled = payload.settle(bytes_max);
        self.set_payload(payload);
        settled
    }

    /// The envelope that it stands for, with its payload, which is gone from here.
    pub(crate) fn take_envelope(&mut self, target: AgentId, message_type: MessageType) -> Envelope {
        let payload = self.take_payload();
        let mut envelope = Envelope::new(
            self.id(),
            self.sender().clone(),
            target,
            message_type,
            payload,
        );
        envelope.meta = self.meta();
        envelope
    }

    /// The envelope of a delivery for this port, and who waits for its answer.
    pub(crate) fn open(mut self, port: &Port) -> (Envelope, Asker) {
        let message_type = self.message_type(&port.table).clone();
        let envelope = self.take_envelope(port.id.clone(), message_type);
        (envelope, std::mem::take(&mut self.asker))
    }
}

impl Deref for Delivery {
    type Target = Head;

    #[inline]
    fn deref(&self) -> &Head {
        &self.0.head
    }
}

impl DerefMut for Delivery {
    #[inline]
    fn deref_mut(&mut self) -> &mut Head {
        &mut self.0.head
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Deref for Head {
    type Target = Terms;

    #[inline]
    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl DerefMut for Head {
    #[inline]
    fn deref_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }
}

impl Terms {
    pub(crate) fn cover_mut(&mut self) -> &mut Cover {
        self.cover.get_or_insert_default()
    }

    pub(crate) fn id(&self) -> MessageId {
        self.cover.as_ref().map_or(NO_ID, |cover| cover.id)
    }

    pub(crate) fn sender(&self) -> &AgentId {
        self.cover.as_ref().map_or(&RUNTIME, |cover| &cover.sender)
    }

    /// The message's type, by the handler table of its target.
    pub(crate) fn message_type<'a>(&'a self, table: &'a HandlerTable) -> &'a MessageType {
        let own = self.cover.as_ref();
        let own = own.and_then(|cover| cover.message_type.as_ref());
        own.unwrap_or_else(|| table.name(self.route))
    }

    /// The terms as an envelope has them.
    pub(crate) fn meta(&self) -> Meta {
        let mut meta = Meta {
            priority: self.priority,
            deadline: self.deadline.moment(),
            expects_reply: self.expects_reply,
            ..Meta::default()
        };
        if let Some(cover) = &self.cover {
            meta.correlation_id = cover.correlation_id;
            meta.is_reply = cover.is_reply;
            meta.hops = cover.hops;
            meta.budget = cover.budget;
            meta.extra.clone_from(&cover.extra);
        }
        meta
    }
}

static RUNTIME: AgentId = AgentId::RUNTIME;

/// Who waits for the answer. Dropped without one, it tells the asker so: nobody waits for what can't come.
#[derive(Default)]
pub(crate) struct Asker(Waiting);

#[derive(Default)]
enum Waiting {
    #[default]
    Nobody,
    OneReply(ReplySender),
    Stream(mpsc::Sender<Part>),
}

impl Asker {
    pub(crate) const fn nobody() -> Self {
        Self(Waiting::Nobody)
    }

    pub(crate) const fn one_reply(sender: ReplySender) -> Self {
        Self(Waiting::OneReply(sender))
    }

    pub(crate) const fn stream(sender: mpsc::Sender<Part>) -> Self {
        Self(Waiting::Stream(sender))
    }

    pub(crate) const fn wants_reply(&self) -> bool {
        matches!(self.0, Waiting::OneReply(_))
    }

    pub(crate) const fn wants_stream(&self) -> bool {
        matches!(self.0, Waiting::Stream(_))
    }

    /// The asker learns what happened in another way.
    pub(crate) fn disarm(mut self) {
        self.0 = Waiting::Nobody;
    }

    /// Whether the one who asked has gone.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.0 {
            Waiting::Nobody => false,
            Waiting::OneReply(sender) => sender.is_closed(),
            Waiting::Stream(sender) => sender.is_closed(),
        }
    }

    /// Where the items of a streamed reply go.
    pub(crate) fn sink(&self) -> Option<mpsc::Sender<Part>> {
        match &self.0 {
            Waiting::Stream(sender) => Some(sender.clone()),
            Waiting::Nobody | Waiting::OneReply(_) => None,
        }
    }

    /// Answers. False when the asker has gone: the answer is late.
    pub(crate) fn answer(mut self, answer: Answer) -> bool {
        match std::mem::replace(&mut self.0, Waiting::Nobody) {
            Waiting::Nobody => true,
            Waiting::OneReply(sender) => sender.send(answer),
            Waiting::Stream(sender) => {
                // The items went their own way. The handler has waited for room for the end; where there is none because it
                // ended otherwise, the asker sees that the stream was cut off.
                let last = answer.map_or_else(Part::Failed, |_| Part::End);
                let told = sender.try_send(last);
                !matches!(told, Err(mpsc::error::TrySendError::Closed(_)))
            }
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if matches!(self.0, Waiting::Nobody) {
            return;
        }
        let lost = Failure::new(FailureCode::STOPPED, "the agent ended before it answered");
        let waiting = Self(std::mem::replace(&mut self.0, Waiting::Nobody));
        waiting.answer(Err(lost));
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Waiting::Nobody => "nobody",
            Waiting::OneReply(_) => "one reply",
            Waiting::Stream(_) => "stream",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply_cell::reply_cell;
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn an_asker_that_is_dropped_is_told() {
        let (sender, mut receiver) = reply_cell();
        drop(Asker::one_reply(sender));
        let answer = poll_fn(|cx| receiver.poll(cx)).await;
        let failure = answer.unwrap().unwrap_err();
        assert_eq!(failure.code, FailureCode::STOPPED);
    }

    #[tokio::test]
    async fn an_answered_asker_hears_once() {
        let (sender, mut receiver) = reply_cell();
        assert!(Asker::one_reply(sender).answer(Ok(Payload::empty())));
        let answer = poll_fn(|cx| receiver.poll(cx)).await;
        assert!(answer.unwrap().is_ok());
        let (sender, receiver) = reply_cell();
        drop(receiver);
        assert!(!Asker::one_reply(sender).answer(Ok(Payload::empty())));
    }
}

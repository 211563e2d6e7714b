//! One delivery as a handler's arm sees it, and what the arm makes of it.

use std::error::Error as StdError;
use std::pin::pin;

use futures_core::Stream;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::delivery::{Delivery, Part};
use super::host::Boxed;
use super::turn::{NO_ID, Turn};
use crate::model::limits::HANDLER_TIMEOUT;
use crate::model::{AgentId, Envelope, Failure, FailureCode, MessageType, Payload};

/// A type that a handler may take as its payload.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's payload: a payload is `Deserialize`, `Send` and `'static`",
    label = "this payload cannot be received",
    note = "if `{Self}` is yours, add `#[derive(Serialize, Deserialize)]` to it"
)]
pub trait Receive: DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + 'static> Receive for T {}

/// A type that a handler may reply.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's reply: a reply is `Serialize`, `Send` and `'static`",
    label = "this reply cannot be sent",
    note = "a handler that can fail writes its return type as `Result<..>`",
    note = "if `{Self}` is yours, add `#[derive(Serialize, Deserialize)]` to it"
)]
pub trait Answer: Serialize + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send + 'static> Answer for T {}

/// An error that a handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's error: it must turn into `Box<dyn Error + Send + Sync>`",
    label = "not an error type",
    note = "implement `std::error::Error` for it, or return `mas::Result<..>`, whose error takes any other with `?`"
)]
pub trait Fault {
    /// What the asker hears of it.
    fn into_failure(self) -> Failure;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn StdError + Send + Sync>>> Fault for E {
    fn into_failure(self) -> Failure {
        Failure::from_error(self)
    }
}

/// A type that a typed call may send.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent by a typed call: the payload of a typed call is also `Serialize`",
    label = "this handler's payload is not `Serialize`",
    note = "if `{Self}` is yours, add `#[derive(Serialize)]` to it; or send a value that has the same shape with `ask` or `tell`"
)]
pub trait Post: Serialize + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send + 'static> Post for T {}

/// A type that a typed call may receive.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be received from a typed call: the reply of a typed call is also `Deserialize`",
    label = "this handler's reply is not `Deserialize`",
    note = "if `{Self}` is yours, add `#[derive(Deserialize)]` to it; or receive a value that has the same shape with `ask`"
)]
pub trait Expect: DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + 'static> Expect for T {}

/// One delivery, as a handler's arm sees it.
#[derive(Debug)]
pub struct Message {
    /// It holds the payload; who asked, and what else its handler must not lose, have been taken out.
    delivery: Delivery,
    wants_reply: bool,
    sink: Option<mpsc::Sender<Part>>,
}

impl Message {
    pub(crate) fn new(
        delivery: Delivery,
        wants_reply: bool,
        sink: Option<mpsc::Sender<Part>>,
    ) -> Self {
        Self {
            delivery,
            wants_reply,
            sink,
        }
    }

    /// Takes the payload as a `T`.
    ///
    /// # Errors
    /// A lasting [`Failure`] that names the field, what was expected there and what came.
    pub fn payload<T: Receive>(&mut self) -> Result<T, Failure> {
        self.delivery.take_value().map_err(|error| {
            let text = format!("payload of `{}`: {error}", message_type());
            Failure::new(FailureCode::BAD_PAYLOAD, text).lasting()
        })
    }

    /// The handler takes no payload: whatever came is dropped.
    pub fn no_payload(&mut self) {
        drop(self.delivery.take_payload());
    }

    /// The whole envelope, with a payload of its own: call it before [`Message::payload`].
    pub fn envelope(&mut self) -> Envelope {
        // A payload that can't be encoded stays with the handler, which takes it as the value that it is.
        let mut own = self.delivery.take_payload();
        let payload = own.share().unwrap_or_default();
        self.delivery.set_payload(own);
        Turn::with_current(|turn| match turn {
            Some(turn) => turn.envelope(payload),
            // Only code that is not a handler gets here.
            None => Envelope::new(
                NO_ID,
                AgentId::RUNTIME,
                AgentId::RUNTIME,
                MessageType::declared("-"),
                payload,
            ),
        })
    }

    /// The handler returned a value.
    pub fn reply<T: Answer>(self, value: T) -> Reply {
        Reply(Outcome::Value(if self.wants_reply {
            Payload::typed(value)
        } else {
            Payload::empty()
        }))
    }

    /// The handler returned a result.
    pub fn reply_result<T: Answer, E: Fault>(self, result: Result<T, E>) -> Reply {
        match result {
            Ok(value) => self.reply(value),
            Err(error) => Reply(Outcome::Failed(error.into_failure())),
        }
    }

    /// The handler returned a stream: sends its items as fast as the asker takes them, until it ends or nobody listens.
    ///
    /// The future is boxed, since an opaque one would repeat the error of its bounds wherever it is used.
    pub fn reply_stream<'a, T, S>(self, stream: S) -> Boxed<'a, Reply>
    where
        T: Answer,
        S: Stream<Item = T> + Send + 'a,
    {
        Box::pin(self.drive(stream.map(|item| Ok(Payload::typed(item)))))
    }

    /// The handler returned a stream of results: the first error ends it.
    pub fn reply_try_stream<'a, T, E, S>(self, stream: S) -> Boxed<'a, Reply>
    where
        T: Answer,
        E: Fault,
        S: Stream<Item = Result<T, E>> + Send + 'a,
    {
        Box::pin(self.drive(stream.map(|item| match item {
            Ok(item) => Ok(Payload::typed(item)),
            Err(error) => Err(error.into_failure()),
        })))
    }

    async fn drive<S: Stream<Item = Result<Payload, Failure>> + Send>(self, stream: S) -> Reply {
        let Some(sink) = self.sink else {
            return Reply(Outcome::Streamed);
        };
        let mut stream = pin!(stream);
        let stall = Turn::with_current(|turn| {
            turn.map_or(HANDLER_TIMEOUT, |turn| turn.port.declaration.timeout)
        });
        loop {
            // Losing either branch is safe: an item is taken only when it will be sent, and a closed sink ends the stream.
            let item = tokio::select! {
                biased;
                () = sink.closed() => return Reply(Outcome::Streamed),
                item = stream.next() => item,
            };
            let room = tokio::time::timeout(stall, sink.reserve()).await;
            let (item, room) = match (item, room) {
                (Some(Ok(item)), Ok(Ok(room))) => (item, room),
                // The room stays free for the failure: nobody else sends here.
                (Some(Err(failure)), _) => return Reply(Outcome::Failed(failure)),
                // It is over, the asker has gone, or it has taken nothing for the agent's timeout.
                _ => return Reply(Outcome::Streamed),
            };
            Turn::with_current(|turn| {
                if let Some(turn) = turn {
                    turn.streams();
                }
            });
            room.send(Part::Item(item));
        }
    }

    /// The table and the arms disagree: a message type that has no arm.
    pub fn unknown(self) -> Reply {
        let text = format!("no handler for `{}`", message_type());
        Reply(Outcome::Failed(
            Failure::new(FailureCode::UNKNOWN_MESSAGE_TYPE, text).lasting(),
        ))
    }
}

/// The type of the message that the handler on this thread has in hand.
fn message_type() -> MessageType {
    Turn::with_current(|turn| {
        turn.map_or(MessageType::declared("-"), |turn| {
            turn.message_type().clone()
        })
    })
}

/// What a handler's arm made of its message.
#[derive(Debug)]
pub struct Reply(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Outcome {
    Value(Payload),
    Failed(Failure),
    Streamed,
}

impl Reply {
    /// The message could not be given to its handler.
    pub fn failed(message: Message, failure: Failure) -> Self {
        drop(message);
        Self(Outcome::Failed(failure))
    }
}

/// The end of an `#[on_start]` or `#[on_stop]` that returns nothing.
///
/// # Errors
/// None: it has the shape of [`lifecycle`].
pub fn lifecycle_unit((): ()) -> Result<(), Failure> {
    Ok(())
}

/// The end of an `#[on_start]` or `#[on_stop]` that returns a result.
///
/// # Errors
/// Its error, as a [`Failure`].
pub fn lifecycle<E: Fault>(result: Result<(), E>) -> Result<(), Failure> {
    result.map_err(Fault::into_failure)
}

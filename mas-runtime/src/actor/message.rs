//! One delivery as a handler's arm sees it, and what the arm makes of it.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::delivery::Part;
use super::turn::{NO_ID, Turn};
use crate::model::{Envelope, Failure, FailureCode, Payload};

/// A type that a handler may take as its payload.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a handler's payload",
    label = "not a payload",
    note = "a payload derives `serde::Deserialize`, and is `Send + 'static`"
)]
pub trait Receive: DeserializeOwned + Send + 'static {}

impl<T: DeserializeOwned + Send + 'static> Receive for T {}

/// A type that a handler may reply.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a handler's reply",
    label = "not a reply",
    note = "a reply derives `serde::Serialize`, and is `Send + 'static`; a fallible handler's return type is written `Result<..>`"
)]
pub trait Answer: Serialize + Send + 'static {}

impl<T: Serialize + Send + 'static> Answer for T {}

/// An error that a handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a handler's error",
    label = "not an error",
    note = "any `E: Into<Box<dyn std::error::Error + Send + Sync>>` will do: `mas::Error`, `Failure`, or an error type of yours"
)]
pub trait Fault: Into<Box<dyn StdError + Send + Sync>> {}

impl<E: Into<Box<dyn StdError + Send + Sync>>> Fault for E {}

/// One delivery, as a handler's arm sees it.
#[derive(Debug)]
pub struct Message {
    envelope: Envelope,
    wants_reply: bool,
    sink: Option<mpsc::Sender<Part>>,
    turn: Arc<Turn>,
    stall: std::time::Duration,
}

impl Message {
    pub(crate) fn new(
        envelope: Envelope,
        wants_reply: bool,
        sink: Option<mpsc::Sender<Part>>,
        turn: Arc<Turn>,
        stall: std::time::Duration,
    ) -> Self {
        Self {
            envelope,
            wants_reply,
            sink,
            turn,
            stall,
        }
    }

    /// Takes the payload as a `T`.
    ///
    /// # Errors
    /// A lasting [`Failure`] that names the field, what was expected there and what came.
    pub fn payload<T: Receive>(&mut self) -> Result<T, Failure> {
        let payload = std::mem::take(&mut self.envelope.payload);
        payload.take().map_err(|error| {
            let message_type = &self.envelope.message_type;
            let text = format!("payload of `{message_type}`: {error}");
            Failure::new(FailureCode::BAD_PAYLOAD, text).lasting()
        })
    }

    /// The handler takes no payload: whatever came is dropped.
    pub fn no_payload(&mut self) {
        self.envelope.payload = Payload::empty();
    }

    /// The whole envelope, with a payload of its own: call it before [`Message::payload`].
    pub fn envelope(&mut self) -> Envelope {
        let core = self.turn.host.core();
        if self.envelope.id == NO_ID {
            self.envelope.id = core.new_id();
        }
        // A payload that can't be encoded stays with the handler, which takes it as the value that it is.
        let payload = self.envelope.payload.share().unwrap_or_default();
        let mut meta = self.envelope.meta.clone();
        meta.budget = self.turn.budget_left();
        Envelope {
            id: self.envelope.id,
            sender: self.envelope.sender.clone(),
            target: self.turn.agent.clone(),
            message_type: self.envelope.message_type.clone(),
            payload,
            meta,
        }
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
            Err(error) => Reply(Outcome::Failed(Failure::from_error(error))),
        }
    }

    /// The handler returned a stream: sends its items as fast as the asker takes them, until it ends or nobody listens.
    pub async fn reply_stream<S>(self, stream: S) -> Reply
    where
        S: Stream + Send,
        S::Item: Answer,
    {
        self.drive(stream.map(|item| Part::Item(Payload::typed(item))))
            .await
    }

    /// The handler returned a stream of results: the first error ends it.
    pub async fn reply_try_stream<S, T, E>(self, stream: S) -> Reply
    where
        S: Stream<Item = Result<T, E>> + Send,
        T: Answer,
        E: Fault,
    {
        self.drive(stream.map(|item| match item {
            Ok(item) => Part::Item(Payload::typed(item)),
            Err(error) => Part::Failed(Failure::from_error(error)),
        }))
        .await
    }

    async fn drive<S: Stream<Item = Part> + Send>(self, stream: S) -> Reply {
        let Some(sink) = self.sink else {
            return Reply(Outcome::Streamed);
        };
        let mut stream = pin!(stream);
        loop {
            // Losing either branch is safe: an item is taken only when it will be sent, and a closed sink ends the stream.
            let item = tokio::select! {
                biased;
                () = sink.closed() => break,
                item = stream.next() => item.unwrap_or(Part::End),
            };
            let last = !matches!(item, Part::Item(_));
            match tokio::time::timeout(self.stall, sink.send(item)).await {
                Ok(Ok(())) if !last => {}
                // It is over, the asker has gone, or it has taken nothing for the agent's timeout.
                _ => break,
            }
        }
        Reply(Outcome::Streamed)
    }

    /// The table and the arms disagree: a message type that has no arm.
    pub fn unknown(self) -> Reply {
        let text = format!("no handler for `{}`", self.envelope.message_type);
        Reply(Outcome::Failed(
            Failure::new(FailureCode::UNKNOWN_MESSAGE_TYPE, text).lasting(),
        ))
    }
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
    result.map_err(Failure::from_error)
}

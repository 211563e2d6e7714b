//! An envelope on its way through a mailbox, with what ties it to its asker and to its inbox entry.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::{mpsc, oneshot};

use super::agent::Route;
use super::inbox::Claim;
use crate::model::{Envelope, Failure, FailureCode, Payload};

/// What an asker gets.
pub(crate) type Answer = Result<Payload, Failure>;

/// A piece of a streamed reply. A stream without its end was cut off.
#[derive(Debug)]
pub(crate) enum Part {
    Item(Payload),
    Failed(Failure),
    End,
}

/// An envelope and everything that must not be lost with it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) envelope: Envelope,
    /// The handler that takes it.
    pub(crate) route: Route,
    /// What is left of the root message's budget, shared by all that it causes in this process.
    pub(crate) pool: Option<Arc<AtomicU32>>,
    pub(crate) asker: Asker,
    /// Its entry in the durable inbox.
    pub(crate) claim: Option<Box<Claim>>,
}

/// Who waits for the answer. Dropped without one, it tells the asker so: nobody waits for what can't come.
pub(crate) struct Asker(Waiting);

enum Waiting {
    Nobody,
    OneReply(oneshot::Sender<Answer>),
    Stream(mpsc::Sender<Part>),
}

impl Asker {
    pub(crate) const fn nobody() -> Self {
        Self(Waiting::Nobody)
    }

    pub(crate) const fn one_reply(sender: oneshot::Sender<Answer>) -> Self {
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
            Waiting::OneReply(sender) => sender.send(answer).is_ok(),
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
    use super::*;

    #[tokio::test]
    async fn an_asker_that_is_dropped_is_told() {
        let (sender, receiver) = oneshot::channel();
        drop(Asker::one_reply(sender));
        let failure = receiver.await.unwrap().unwrap_err();
        assert_eq!(failure.code, FailureCode::STOPPED);
    }

    #[tokio::test]
    async fn an_answered_asker_hears_once() {
        let (sender, receiver) = oneshot::channel();
        assert!(Asker::one_reply(sender).answer(Ok(Payload::empty())));
        assert!(receiver.await.unwrap().is_ok());
        let (sender, receiver) = oneshot::channel();
        drop(receiver);
        assert!(!Asker::one_reply(sender).answer(Ok(Payload::empty())));
    }
}

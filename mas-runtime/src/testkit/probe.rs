//! An agent that records what it gets.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::actor::{
    Agent, AgentRef, Context, Declaration, Declare, HandlerIndex, HandlerSpec, Message, Reply,
};
use crate::model::{Envelope, Error, Result};

/// How long [`Probe::next`] waits, in virtual time, before it says that nothing came.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that records what it gets, and replies nothing.
#[derive(Clone, Debug)]
pub struct Probe {
    agent: AgentRef,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    envelopes: Mutex<Vec<Envelope>>,
    /// How many `next` has given out.
    read: Mutex<usize>,
    came: Notify,
}

/// The agent behind a probe.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) record: Arc<Record>,
}

impl Probe {
    pub(super) const fn new(agent: AgentRef, record: Arc<Record>) -> Self {
        Self { agent, record }
    }

    /// How many messages it has got.
    pub fn count(&self) -> usize {
        self.record.envelopes().len()
    }

    /// Looks at all that it has got, in order.
    pub fn with<R>(&self, look: impl FnOnce(&[Envelope]) -> R) -> R {
        look(&self.record.envelopes())
    }

    /// The payload of the next message that was not read yet, which must be of this type.
    ///
    /// # Errors
    /// When nothing comes within a minute of virtual time, or something else does, which is then read.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is read.
    pub async fn next<T: DeserializeOwned + 'static>(&self, message_type: &str) -> Result<T> {
        let Ok(number) = tokio::time::timeout(PATIENCE, self.unread()).await else {
            let text = format!("no `{message_type}` came to `{}`", self.agent.id());
            return Err(Error::msg(text));
        };
        let envelopes = self.record.envelopes();
        let envelope = &envelopes[number];
        if envelope.message_type != message_type {
            let text = format!("expected `{message_type}`, got `{}`", envelope.message_type);
            return Err(Error::msg(text));
        }
        Ok(envelope.payload.decode()?)
    }

    /// Waits for a message that was not read yet, and notes that it is.
    async fn unread(&self) -> usize {
        loop {
            let came = self.record.came.notified();
            if let Some(number) = self.record.read_one() {
                return number;
            }
            came.await;
        }
    }

    /// Waits until it has got this many messages.
    pub async fn arrives(&self, count: usize) {
        loop {
            let came = self.record.came.notified();
            if self.count() >= count {
                return;
            }
            came.await;
        }
    }
}

impl std::ops::Deref for Probe {
    type Target = AgentRef;

    fn deref(&self) -> &Self::Target {
        &self.agent
    }
}

impl Record {
    /// The number of the next message that was not read yet, if it is here: it is read now.
    fn read_one(&self) -> Option<usize> {
        let here = self.envelopes().len();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *read;
        (number < here).then(|| {
            *read += 1;
            number
        })
    }

    fn envelopes(&self) -> MutexGuard<'_, Vec<Envelope>> {
        self.envelopes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Declare<Recorder> for AgentRef<Recorder> {
    type State = ();

    fn declaration() -> Declaration {
        Declaration::new("probe")
    }

    fn from_ref(of: Self) -> Self {
        of
    }
}

impl Agent for Recorder {
    type Ref = AgentRef<Self>;

    const HANDLERS: &'static [HandlerSpec] = &[HandlerSpec::any(0, true)];

    fn handle_exclusive(
        &mut self,
        _: HandlerIndex,
        mut message: Message,
        _: &mut Context<Self>,
    ) -> impl Future<Output = Reply> + Send {
        self.record.envelopes().push(message.envelope());
        self.record.came.notify_waiters();
        ready(message.reply(()))
    }
}

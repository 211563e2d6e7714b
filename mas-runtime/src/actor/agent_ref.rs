//! A cheap handle to send to an agent, local or remote alike.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::agent::HandlerIndex;
use super::ask::{Ask, AskStream};
use super::delivery::Delivery;
use super::draft::{Draft, Handle};
use super::host::Host;
use super::port::Port;
use super::send::Tell;
use super::turn::Turn;
use crate::model::{AgentId, Result};

/// A cheap handle to send to an agent. Its type parameter says which agent it is, where that is known.
///
/// It stays good across restarts, and across a stop and a new spawn of the same id. Used inside a handler it inherits
/// that handler's deadline, hops and budget, and joins its outbox.
pub struct AgentRef<A = ()> {
    // Each clone of a ref has a handle of its own: what is sent through it counts references where no other core does.
    handle: Arc<Handle>,
    agent: PhantomData<fn() -> A>,
}

impl<A> AgentRef<A> {
    pub(crate) fn new(host: Arc<dyn Host>, id: AgentId, port: Option<Arc<Port>>) -> Self {
        let handle = Arc::new(Handle { host, id, port });
        Self {
            handle,
            agent: PhantomData,
        }
    }

    /// The agent's id.
    pub fn id(&self) -> &AgentId {
        &self.handle.id
    }

    /// Sends a message that nobody waits for the answer of. `payload` is encoded now.
    ///
    /// # Errors
    /// [`SendError`](super::SendError) when awaited. A message to nobody is a dead letter, not an error.
    pub fn tell<P: Serialize + ?Sized>(&self, message_type: &str, payload: &P) -> Tell {
        Tell::new(self.draft(message_type, payload))
    }

    /// Sends a message and waits for its one reply, 60 s unless [`Ask::timeout`] says otherwise.
    ///
    /// # Errors
    /// [`AskError`](super::AskError) when awaited.
    pub fn ask<R>(&self, message_type: &str, payload: &(impl Serialize + ?Sized)) -> Ask<R> {
        Ask::new(self.draft(message_type, payload))
    }

    /// Sends a message and gives the stream of its replies.
    ///
    /// # Errors
    /// [`AskError`](super::AskError) when awaited.
    pub fn stream<T>(
        &self,
        message_type: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> AskStream<T> {
        AskStream::new(self.draft(message_type, payload))
    }

    /// Stops the agent and its children: what runs ends, `#[on_stop]` runs, what waits becomes dead letters, or stays in
    /// its durable inbox.
    ///
    /// It waits for their end, except in a handler of that agent, or of one below it: the handler ends first, and its
    /// message settles. For that it has the grace period.
    ///
    /// # Errors
    /// When no such agent runs here.
    ///
    /// # Cancel safety
    /// The stop goes on when the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        let host = Arc::clone(&self.handle.host);
        host.stop(self.id().clone()).await
    }

    /// The same handle without the agent's type.
    pub fn untyped(&self) -> AgentRef {
        AgentRef {
            handle: Arc::new(self.handle.copy()),
            agent: PhantomData,
        }
    }

    fn draft<P: Serialize + ?Sized>(&self, message_type: &str, payload: &P) -> Draft {
        let to = Arc::clone(&self.handle);
        Draft::by_type(to, Turn::current(), message_type, payload)
    }

    /// A message for one of the agent's own handlers.
    #[inline(always)]
    pub(crate) fn typed_draft(
        &self,
        handler: HandlerIndex,
        message_type: &'static str,
        delivery: Delivery,
    ) -> Draft
    where
        A: 'static,
    {
        Draft::typed::<A>(Arc::clone(&self.handle), handler, message_type, delivery)
    }
}

impl Handle {
    fn copy(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            id: self.id.clone(),
            port: self.port.clone(),
        }
    }
}

impl<A> Clone for AgentRef<A> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::new(self.handle.copy()),
            agent: PhantomData,
        }
    }
}

impl<A> fmt::Debug for AgentRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentRef").field(&self.handle.id).finish()
    }
}

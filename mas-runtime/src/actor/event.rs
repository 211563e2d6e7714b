//! What happens in a runtime, for whoever wants to watch.

use std::time::Duration;

use crate::model::{AgentId, MessageId, MessageType, Moment};
use crate::store::Recovery;

/// Something that happened, and when.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When, on the runtime's monotonic clock.
    pub at: Moment,
    /// What.
    pub kind: EventKind,
}

/// Why an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It was stopped, by itself or by others.
    Stopped,
    /// It restarted too often, or may not restart: what it said last.
    Failed(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// An agent runs.
    Started {
        /// Who.
        agent: AgentId,
    },
    /// An agent was stopped.
    Stopped {
        /// Who.
        agent: AgentId,
    },
    /// An instance panicked, failed to start or asked for it: it starts again after a while.
    Restarted {
        /// Who.
        agent: AgentId,
        /// Which of its instances.
        instance: u32,
        /// What it said.
        reason: String,
        /// How long it waits before it starts again.
        backoff: Duration,
    },
    /// An instance was given up on.
    Failed {
        /// Who.
        agent: AgentId,
        /// Which of its instances.
        instance: u32,
        /// What it said last.
        reason: String,
    },
    /// A handler takes longer than half of its timeout.
    SlowHandler {
        /// Whose.
        agent: AgentId,
        /// What it handles.
        message_type: MessageType,
        /// How long it has taken so far.
        after: Duration,
    },
    /// A message was given up on.
    DeadLetter {
        /// Who it was for.
        target: AgentId,
        /// What it was.
        message_type: MessageType,
        /// Why.
        reason: String,
    },
    /// A durable message failed and is tried again.
    Retried {
        /// Who handles it.
        agent: AgentId,
        /// Which message.
        message: MessageId,
        /// How many attempts it has had.
        attempts: u32,
        /// What the last one said.
        reason: String,
    },
    /// A reply came after its asker had gone.
    LateReply {
        /// Who replied.
        agent: AgentId,
    },
    /// An agent's lease lapsed: discovery calls it inactive.
    Inactive {
        /// Who.
        agent: AgentId,
    },
    /// The engine refused or failed.
    EngineFailed {
        /// What it said.
        reason: String,
    },
    /// The engine does not answer, or fails again and again: from now on calls of it fail at once.
    EngineUnavailable {
        /// What it did last.
        reason: String,
    },
    /// The store did not open as it was closed: what was found, and what was done about it. Nothing that was acknowledged is
    /// lost.
    StoreRecovered(Recovery),
    /// The engine works again, and calls reach it.
    EngineResumed {
        /// How long it was unavailable.
        after: Duration,
    },
}

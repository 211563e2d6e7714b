//! Why a message was not sent, and why an ask got no reply.

use std::time::Duration;

use super::event::EndReason;
use crate::model::limits::HOPS_MAX;
use crate::model::{AgentId, Envelope, Failure, IdError, MessageType, PayloadError};
use crate::store::{CommitError, StoreError};

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The text is no agent id or no message type.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Nobody here has this id.
    #[error("no agent `{target}` is known here: spawn it first, or look at its spelling")]
    UnknownAgent {
        /// The id asked for.
        target: AgentId,
    },
    /// The target has no handler for this message type.
    #[error(
        "`{target}` has no handler for `{message_type}`: it handles {}",
        list(handled)
    )]
    UnknownMessageType {
        /// Who was asked.
        target: AgentId,
        /// What it was asked.
        message_type: MessageType,
        /// What it handles.
        handled: Vec<String>,
    },
    /// The handler answers by a stream and one reply was asked for.
    #[error("`{target}` answers `{message_type}` by a stream: use `stream`, not `ask`")]
    AnswersByStream {
        /// Who was asked.
        target: AgentId,
        /// What it was asked.
        message_type: MessageType,
    },
    /// The handler gives one reply and a stream was asked for.
    #[error("`{target}` answers `{message_type}` by one reply: use `ask`, not `stream`")]
    AnswersOnce {
        /// Who was asked.
        target: AgentId,
        /// What it was asked.
        message_type: MessageType,
    },
    /// The payload can't be encoded or is too large.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// There is no room, and the sender does not want to wait or the target does not let it.
    #[error("the mailbox of `{}` is full", .0.target)]
    MailboxFull(Box<Envelope>),
    /// The durable inbox holds as many entries as it may.
    #[error("the inbox of `{target}` is full: it holds {entries} entries")]
    InboxFull {
        /// Whose inbox.
        target: AgentId,
        /// Its limit.
        entries: usize,
    },
    /// The target has been stopped.
    #[error("`{target}` has been stopped")]
    Stopped {
        /// Who.
        target: AgentId,
    },
    /// The target restarted too often and was given up on.
    #[error("`{target}` has failed for good: spawn it again")]
    Failed {
        /// Who.
        target: AgentId,
    },
    /// The trail of handlers that led here is too long.
    #[error("the message would be number {} of a chain of handlers: the limit is {HOPS_MAX}", u32::from(HOPS_MAX) + 1)]
    TooManyHops,
    /// The root message has caused as many messages as it may.
    #[error("the message that started this has caused as many messages as its budget allows")]
    BudgetSpent,
    /// The deadline passed before it was sent.
    #[error("the deadline passed before the message was sent")]
    Expired,
    /// The handler that sends it is over, and its effects are settled.
    #[error("the handler that this message belongs to is over: send from inside it")]
    TurnOver,
    /// The runtime is shut down.
    #[error("the runtime is shut down")]
    ShutDown,
    /// The target names another node and no link leads there.
    #[error("no link to the node of `{target}`")]
    NoLink {
        /// The id asked for.
        target: AgentId,
    },
    /// The durable handler that sends it has sent as much as one batch can hold.
    #[error(
        "the handler has sent {bytes_max} bytes, the most that one durable handler may: split the work"
    )]
    TooMuchStaged {
        /// The limit, in bytes of encoded payloads.
        bytes_max: usize,
    },
    /// The outbox of the durable agent that sends holds as many entries as it may.
    #[error("the outbox of `{sender}` is full: it holds {entries} entries")]
    OutboxFull {
        /// Whose outbox.
        sender: AgentId,
        /// Its limit.
        entries: usize,
    },
    /// The engine could not keep it.
    #[error("the message could not be made durable")]
    Commit(#[from] CommitError),
    /// The engine could not be read.
    #[error("the engine could not be read")]
    Store(#[from] StoreError),
}

impl SendError {
    /// The envelope that was not sent, where there is one to give back.
    pub fn into_envelope(self) -> Option<Envelope> {
        match self {
            Self::MailboxFull(envelope) => Some(*envelope),
            _ => None,
        }
    }
}

/// Why an ask or a stream got no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The handler failed, or its agent did.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// No reply came in time.
    #[error("no reply from `{target}` within {after:?}")]
    TimedOut {
        /// Who was asked.
        target: AgentId,
        /// How long the asker waited.
        after: Duration,
    },
    /// The reply has another shape than the one asked for.
    #[error("the reply of `{target}` is not what was asked for")]
    Reply {
        /// Who was asked.
        target: AgentId,
        /// What was expected and what came.
        source: PayloadError,
    },
    /// The agents would wait for each other for ever.
    #[error("asking would close a circle of waiting agents: {}", path.iter().map(AgentId::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// Who waits for whom, from the asker back to it.
        path: Vec<AgentId>,
    },
}

/// Why an agent, or a program, did not get what it asked the runtime for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No agent of this id runs here.
    #[error("no agent `{id}` runs here")]
    NotRunning {
        /// The id asked for.
        id: AgentId,
    },
    /// The agent has as many timers as it may.
    #[error("`{agent}` has {timers_max} timers: cancel one first")]
    TooManyTimers {
        /// Who.
        agent: AgentId,
        /// How many it may have.
        timers_max: usize,
    },
    /// A timer that would fire without pause.
    #[error("a timer's period must be longer than zero")]
    ZeroPeriod,
    /// The agent watches as many agents as it may.
    #[error("`{agent}` watches {watches_max} agents: that is the limit")]
    TooManyWatches {
        /// Who.
        agent: AgentId,
        /// How many it may watch.
        watches_max: usize,
    },
    /// The agent subscribes to as many patterns as it may.
    #[error("`{agent}` has {subscriptions_max} subscriptions: take one back first")]
    TooManySubscriptions {
        /// Who.
        agent: AgentId,
        /// How many it may have.
        subscriptions_max: usize,
    },
    /// The text is no pattern of topics.
    #[error("`{pattern}` is no topic pattern: {reason}")]
    TopicPattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no dead letter of this number.
    #[error("there is no dead letter {number}")]
    NoDeadLetter {
        /// The number asked for.
        number: u64,
    },
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The id is no id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The id names another node: an agent starts here.
    #[error("`{id}` names a node: an agent is spawned under the part before @")]
    NamesANode {
        /// The id asked for.
        id: AgentId,
    },
    /// The id stands for the program itself.
    #[error("`{id}` is reserved: it stands for the program outside any handler")]
    Reserved {
        /// The id asked for.
        id: AgentId,
    },
    /// An agent of this id runs already.
    #[error("an agent `{id}` runs already: stop it first, or use `spawn_as` with another id")]
    Duplicate {
        /// The id asked for.
        id: AgentId,
    },
    /// A capability is empty or too many are declared.
    #[error("{reason}")]
    Declaration {
        /// What is wrong with the declaration.
        reason: String,
    },
    /// The agent that spawns it as its child has ended meanwhile.
    #[error("`{id}` can't be a child of `{parent}`, which has ended")]
    ParentEnded {
        /// The id asked for.
        id: AgentId,
        /// Whose child it would have been.
        parent: AgentId,
    },
    /// A pool of no instances.
    #[error("a pool of `{id}` takes 1 to {instances_max} instances: {instances} were asked for")]
    PoolSize {
        /// The pool's id.
        id: AgentId,
        /// How many were asked for.
        instances: usize,
        /// The limit.
        instances_max: usize,
    },
    /// Its stored state can't be read.
    #[error("the state of `{id}` can't be read: {reason}")]
    State {
        /// Whose state.
        id: AgentId,
        /// What was expected and what came.
        reason: String,
    },
    /// Its `#[on_start]` failed or panicked.
    #[error("`{id}` failed to start")]
    Start {
        /// Who.
        id: AgentId,
        /// What it said.
        source: Failure,
    },
    /// The engine could not be used.
    #[error("the engine could not be used for `{id}`")]
    Store {
        /// Who.
        id: AgentId,
        /// Why not.
        source: StoreError,
    },
    /// The engine did not take it.
    #[error("the engine did not take `{id}`")]
    Commit {
        /// Who.
        id: AgentId,
        /// Why not.
        source: CommitError,
    },
    /// The runtime is shut down.
    #[error("the runtime is shut down")]
    ShutDown,
}

fn list(handled: &[String]) -> String {
    if handled.is_empty() {
        return "no message type".to_owned();
    }
    handled
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What an asker hears of an agent that ended before it answered.
pub(crate) fn ended(target: &AgentId, reason: &EndReason) -> Failure {
    use crate::model::FailureCode;
    match reason {
        EndReason::Failed(why) => Failure::new(
            FailureCode::FAILED,
            format!("`{target}` failed for good: {why}"),
        )
        .lasting(),
        EndReason::Stopped => Failure::new(FailureCode::STOPPED, format!("`{target}` was stopped")),
    }
}

//! An agent at work: its mailbox, the dispatch of its handlers, its state, its supervision.
//!
//! It knows nothing of routers, registries or wires: what it needs of the runtime around it stands in `host`, a trait
//! that `runtime` implements, and the test harness, too.
//!
//! | file | holds |
//! |---|---|
//! | `agent` | what the macros write: [`Declare`], [`Agent`], [`Declaration`], the handler table |
//! | `message` | one delivery as a handler's arm sees it, and its [`Reply`] |
//! | `context` | [`Context`]: what a handler may do besides its own fields |
//! | `agent_ref`, `draft`, `send`, `ask` | [`AgentRef`], a message before it is sent, the builders that tell and ask |
//! | `reply_cell`, `replies` | how one reply is waited for, streamed replies |
//! | `publish` | one message to every subscriber of a topic |
//! | `lanes`, `wake`, `mailbox` | bounded lanes by priority, the wake flag; senders in line, and orders |
//! | `inbox`, `flights`, `kept` | the durable inbox's part in memory; what is on its way into it; what it remembers of the handled |
//! | `delivery` | a message on its way, with its asker and its entry |
//! | `turn` | what one run of a handler inherits and stages |
//! | `guard`, `pump` | running user code safely, dispatch |
//! | `admit`, `hand`, `settle`, `to_its_end` | what a message goes through before its handler, meanwhile, and after |
//! | `state` | the state cell, drafts, [`Snapshot`]s |
//! | `timers` | messages that an agent sends itself later |
//! | `instance`, `launch`, `port` | one running copy, how it is started, where its envelopes go in |
//! | `supervisor`, `backoff` | restarts, strategies, limits |
//! | `failures` | the record of instances that were given up on |
//! | `waiting`, `tasks` | who waits for whom; where a runtime's tasks run |
//! | `shell` | the only module that knows ractor |

mod admit;
mod agent;
mod agent_ref;
#[cfg(any(test, feature = "testkit"))]
mod alone;
mod ask;
mod backoff;
mod calls;
mod context;
mod delivery;
mod draft;
mod error;
mod event;
mod failures;
mod flights;
mod guard;
mod hand;
mod host;
mod inbox;
mod instance;
mod kept;
mod lanes;
mod launch;
mod mailbox;
mod message;
mod port;
mod publish;
mod pump;
mod query;
mod replies;
mod reply_cell;
mod send;
mod settle;
mod shell;
mod state;
mod supervisor;
mod tasks;
mod timers;
mod to_its_end;
mod turn;
mod waiting;
mod wake;

use serde::{Deserialize, Serialize};

pub use agent::{
    Agent, AgentState, Declaration, Declare, Durability, HandlerIndex, HandlerSpec, Overflow,
    Restart, StateOf, Strategy,
};
pub use agent_ref::AgentRef;
pub use ask::{Ask, AskStream, Call, StreamCall};
pub use calls::{
    call, call_empty, owned_stream, owned_try_stream, sendable, stream_call, stream_call_empty,
};
pub use context::Context;
pub use error::{AskError, RequestError, SendError, SpawnError};
pub use event::{EndReason, Event, EventKind};
pub use failures::FailureRecord;
pub use launch::Spawn;
pub use message::{
    Answer, Expect, Fault, Message, Post, Receive, Reply, lifecycle, lifecycle_unit,
};
pub use query::{AgentRecord, AgentStatus, Query};
pub use replies::Replies;
pub use send::Tell;
pub use state::{Document, Snapshot};
pub use timers::TimerHandle;

pub(crate) use agent::{HandlerTable, Route};
#[cfg(any(test, feature = "testkit"))]
pub(crate) use alone::{Seat, alone};
pub(crate) use delivery::{Asker, Delivery};
pub(crate) use draft::{Draft, Handle, Letter};
pub(crate) use failures::records as failure_records;
pub(crate) use guard::text_of;
pub(crate) use host::{Boxed, Core, DeadLetter, Host, Intercept, Options, Planned, Sending, Trace};
pub(crate) use inbox::{Claim, Window};
pub(crate) use launch::{Launch, Source, Start, furnish, spawning};
pub(crate) use mailbox::Mailbox;
#[cfg(any(test, feature = "testkit"))]
pub(crate) use port::Slot;
pub(crate) use port::{Delivered, Port};
pub(crate) use publish::publish;
pub(crate) use reply_cell::reply_cell;
pub(crate) use supervisor::Supervisor;
pub(crate) use to_its_end::ToItsEnd;
pub(crate) use turn::{NO_ID, Turn};

/// The message type by which a watcher hears that an agent has ended.
pub const ENDED: &str = "agent.ended";

/// What a watcher hears when an agent has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// Who.
    pub agent: crate::model::AgentId,
    /// Whether it failed for good; otherwise it was stopped, or did not run.
    pub failed: bool,
    /// What it said last, when it failed.
    pub reason: Option<String>,
}

impl Ended {
    pub(crate) const fn new(
        agent: crate::model::AgentId,
        failed: bool,
        reason: Option<String>,
    ) -> Self {
        Self {
            agent,
            failed,
            reason,
        }
    }
}

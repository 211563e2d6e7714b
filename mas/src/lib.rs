//! mas: an async actor framework for systems of cooperating agents.

pub mod prelude;
#[doc(hidden)]
pub mod private;

pub use mas_macros::{agent, on, on_any, on_start, on_stop};
pub use mas_runtime::actor::{
    self, AgentRecord, AgentRef, AgentStatus, Ask, AskError, AskStream, Call, Context, Document,
    ENDED, EndReason, Ended, Event, EventKind, Query, Replies, SendError, Snapshot, Spawn,
    SpawnError, StreamCall, Tell, TimerHandle,
};
pub use mas_runtime::model::{
    self, AgentId, Clock, Codec, Envelope, Error, Extra, Failure, FailureCode, MessageId,
    MessageType, Meta, Moment, Payload, Priority, Result,
};
pub use mas_runtime::runtime::{
    Builder, DeadLetterRecord, DeadLetters, Events, Runtime, StartError,
};
pub use mas_runtime::store;
#[cfg(feature = "testkit")]
pub use mas_runtime::testkit;

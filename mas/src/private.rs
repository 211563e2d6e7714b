//! What the macros' output names. Nothing here is for people: it may change with any version.

pub use futures_core::Stream;
pub use mas_runtime::actor::{
    Agent, AgentRef, AgentState, Answer, Call, Context, Declaration, Declare, Document, Durability,
    Expect, Fault, HandlerIndex, HandlerSpec, Message, Overflow, Post, Receive, Reply, Restart,
    StateOf, Strategy, StreamCall, call, call_empty, lifecycle, lifecycle_unit, owned_stream,
    owned_try_stream, sendable, stream_call, stream_call_empty,
};
pub use mas_runtime::model::{Envelope, Failure, Result};
pub use mas_runtime::runtime::Runtime;
pub use std::borrow::ToOwned;
pub use std::time::Duration;

/// A typed ref's `attach`.
///
/// # Errors
/// When the text is no agent id.
pub fn attach<A>(runtime: &Runtime, id: &str) -> Result<AgentRef<A>> {
    runtime.attach(id)
}

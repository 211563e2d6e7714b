//! mas: an async actor framework for systems of cooperating agents.
//!
//! An agent is a struct with handlers. The runtime gives it a mailbox, runs its handlers one at a time or side by side,
//! starts it again when it fails, keeps its state, and carries its messages.
//!
//! ```
//! use mas::prelude::*;
//!
//! #[agent]
//! struct Greeter {
//!     greeting: String,
//! }
//!
//! #[agent]
//! impl Greeter {
//!     #[on("person.greet")]
//!     async fn greet(&self, name: String) -> String {
//!         format!("{}, {name}", self.greeting)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let runtime = Runtime::builder().start().await?;
//!     let greeter = runtime.spawn(Greeter { greeting: "Hello".to_owned() }).await?;
//!     assert_eq!(greeter.greet("Ada".to_owned()).await?, "Hello, Ada");
//!     runtime.shutdown().await
//! }
//! ```
//!
//! A program needs `mas`, `tokio`, and `serde` for the types that it sends.
//!
//! # Agents
//!
//! [`#[agent]`](macro@agent) on a struct declares an agent: its id, what it can do, how it is supervised. `#[agent]` on its
//! impl block collects its handlers, each marked [`#[on("message.type")]`](macro@on). A handler takes one payload, the
//! whole [`Envelope`], and its [`Context`], each if it likes. `&mut self` handlers run alone; `&self` handlers run side by
//! side. So nobody writes a lock.
//!
//! The fields of the struct live as long as the agent does. What must outlive the process is its *state*: any serde type
//! with a default, named by `state = ..`.
//!
//! ```
//! # use mas::prelude::*;
//! #[derive(Default, Serialize, Deserialize)]
//! struct Tally {
//!     done: u64,
//! }
//!
//! #[agent(id = "worker", capabilities = ["text"], state = Tally, durable)]
//! struct Worker;
//!
//! #[agent]
//! impl Worker {
//!     #[on("task.process")]
//!     async fn process(&mut self, task: String, ctx: &mut Context<Self>) -> Result<u64> {
//!         ctx.tell("auditor", "task.seen", &task).await?;
//!         Ok(ctx.update_state(|tally| {
//!             tally.done += 1;
//!             tally.done
//!         }))
//!     }
//! }
//! ```
//!
//! # Messages
//!
//! [`Runtime::spawn`] gives a ref: a cheap handle, `WorkerRef` for `Worker`. There are three ways to send:
//!
//! | | by message type | typed |
//! |---|---|---|
//! | no answer | `worker.tell("task.process", &task)` | `worker.process(task).tell()` |
//! | one answer | `worker.ask::<u64>("task.process", &task)` | `worker.process(task)` |
//! | a stream of answers | `worker.stream::<String>("text.write", &prompt)` | `worker.write(prompt)` |
//!
//! Each is a builder and a future: add `.timeout(..)`, `.priority(..)`, `.deadline(..)` or `.try_now()`, then await it.
//! Nothing is sent before. [`Runtime::agent`] gives a ref by id; [`Runtime::discover`] finds agents by what they can do;
//! [`Runtime::publish`] sends to all that [subscribe](Context::subscribe).
//!
//! # State and delivery
//!
//! With `state`, what a handler changes is stored before its answer leaves, and undone when it fails. With `durable`, a
//! message is on disk before its sender goes on, and everything that its handler does through its context (state, sends,
//! timers, the reply) takes effect in one step, all of it or nothing. A message whose handler was cut off is tried again.
//! Together: each accepted message takes effect exactly once, through crashes and restarts of the process.
//!
//! State is kept where [`Builder::data_dir`] says. Without it everything is in memory, and gone when the process ends. With
//! `durability = "buffered"` an agent is answered at once and is at most 5 ms behind the disk; with `"memory"` it never gets
//! there ([`Durability`]).
//!
//! # Failure
//!
//! An error that a handler returns is an answer: its asker gets a [`Failure`], and the agent goes on. A panic restarts the
//! agent; what waits in its mailbox stays. An agent that restarts too often is given up on, and those who
//! [watch](Context::watch) it are told. A message that is given up on becomes a [dead letter](DeadLetters). [`Runtime::events`] tells all
//! of it.
//!
//! # Testing
//!
//! With the feature `testkit`: `Harness` runs one agent without a runtime; `TestKit` is a runtime in virtual time, with
//! probes and faults, whose runs repeat exactly.
//!
//! # Features
//!
//! - `testkit`: the module `testkit`, and `Harness` and `TestKit` in the prelude. Off by default.
//!
//! # Where to look
//!
//! - [`prelude`]: what most programs import.
//! - [`actor`]: agents, contexts, refs. [`model`]: ids, envelopes, failures, clocks, and every [limit](model::limits).
//! - [`store`]: engines, and the traits to write one.

pub mod prelude;
#[doc(hidden)]
pub mod private;

pub use futures_core::Stream;
pub use mas_macros::{agent, on, on_any, on_start, on_stop};
pub use mas_runtime::actor::{
    self, AgentRecord, AgentRef, AgentStatus, Ask, AskError, AskStream, Call, Context, Document,
    Durability, ENDED, EndReason, Ended, Event, EventKind, FailureRecord, Query, Replies,
    RequestError, SendError, Snapshot, Spawn, SpawnError, StreamCall, Tell, TimerHandle,
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

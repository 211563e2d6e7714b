//! What an agent is to the runtime: its declaration, its handler table, and the two traits that the macros write.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::message::{Message, Reply};
use super::state::Hooks;
use super::{AgentRef, Document};
use crate::model::limits::{
    ATTEMPTS_DEFAULT, CONCURRENCY_DEFAULT, HANDLER_TIMEOUT, MAILBOX_DEFAULT, RESTARTS_DEFAULT,
};
use crate::model::{Codec, CodecError, Failure, MessageType};

/// The number of a handler in its agent's table.
pub type HandlerIndex = u16;

/// What an agent may keep: any type that serde can write, read, and that has a default.
///
/// It is a table of functions and not a list of supertraits, so that what is missing is one error that says all of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an agent's state: it must be `Serialize`, `Deserialize`, `Default`, `Send` and `Sync`",
    label = "derive what is missing: `#[derive(Default, Serialize, Deserialize)]`"
)]
pub trait AgentState: Sized + Send + Sync + 'static {
    /// The state of an agent that has none yet.
    fn fresh() -> Self;

    /// Its bytes, as MessagePack.
    ///
    /// # Errors
    /// [`CodecError`] when it refuses to be serialized.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// The state that these bytes say.
    ///
    /// # Errors
    /// [`CodecError`] when they have another shape.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Default + Send + Sync + 'static> AgentState for T {
    fn fresh() -> Self {
        Self::default()
    }

    fn encode(&self) -> Result<Bytes, CodecError> {
        Codec::MessagePack.encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Codec::MessagePack.decode(bytes)
    }
}

/// What `#[agent]` on a struct says of it. It is written for the agent's typed ref, `WorkerRef` for `Worker`.
#[diagnostic::on_unimplemented(
    message = "`{A}` is not declared as an agent: write `#[agent]` on its struct",
    label = "no `#[agent]` struct of this name is in scope",
    note = "where its struct has `#[agent]` and stands in another module, import its ref beside it: `use workers::{{Worker, WorkerRef}};`"
)]
pub trait Declare<A>: Sized {
    /// What it keeps, `()` if nothing.
    type State: AgentState;

    /// Its id, capabilities, bounds and policies.
    fn declaration() -> Declaration;

    /// The typed ref of an agent.
    fn from_ref(of: AgentRef<A>) -> Self;
}

/// The state of an agent.
pub type StateOf<A> = <<A as Agent>::Ref as Declare<A>>::State;

/// What `#[agent]` on an impl block makes of its handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers: write `#[agent] impl {Self} {{ .. }}`",
    label = "no `#[agent] impl` for this type"
)]
pub trait Agent: Sized + Send + Sync + 'static {
    /// Its typed ref, which carries its declaration.
    type Ref: Declare<Self>;

    /// Its handlers, each with its number.
    const HANDLERS: &'static [HandlerSpec];

    /// Runs before the first message, with the state loaded, and again after each restart.
    fn on_start(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send
    where
        Self: Send + Sync,
    {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs after the last message.
    fn on_stop(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send
    where
        Self: Send + Sync,
    {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs a `&mut self` handler.
    fn handle_exclusive(
        &mut self,
        handler: HandlerIndex,
        message: Message,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Reply> + Send
    where
        Self: Send + Sync,
    {
        let _ = (handler, ctx);
        ready(message.unknown())
    }

    /// Runs a `&self` handler.
    fn handle_shared(
        &self,
        handler: HandlerIndex,
        message: Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Reply> + Send
    where
        Self: Send + Sync,
    {
        let _ = (handler, ctx);
        ready(message.unknown())
    }
}

/// One handler in an agent's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerSpec {
    index: HandlerIndex,
    message_type: Option<&'static str>,
    exclusive: bool,
    streams: bool,
}

impl HandlerSpec {
    /// A `&mut self` handler: it runs alone.
    pub const fn exclusive(index: HandlerIndex, message_type: &'static str) -> Self {
        Self {
            index,
            message_type: Some(message_type),
            exclusive: true,
            streams: false,
        }
    }

    /// A `&self` handler: it runs side by side with others.
    pub const fn shared(index: HandlerIndex, message_type: &'static str) -> Self {
        Self {
            exclusive: false,
            ..Self::exclusive(index, message_type)
        }
    }

    /// The handler of every message type that no other takes.
    pub const fn any(index: HandlerIndex, exclusive: bool) -> Self {
        Self {
            index,
            message_type: None,
            exclusive,
            streams: false,
        }
    }

    /// The same handler, which answers by a stream.
    #[must_use]
    pub const fn streams(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }
}

/// The handlers of one agent type, found by message type once and by number ever after.
#[derive(Debug)]
pub(crate) struct HandlerTable {
    by_type: HashMap<&'static str, Route>,
    by_index: Vec<Option<(Route, MessageType)>>,
    any: Option<Route>,
}

/// Where a message goes inside its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) handler: HandlerIndex,
    pub(crate) exclusive: bool,
    pub(crate) streams: bool,
    /// Whether it takes every message type that no other does.
    pub(crate) any: bool,
}

/// What a message type is called that nobody has named.
static NAMELESS: MessageType = MessageType::declared("-");

impl HandlerTable {
    pub(crate) fn new(specs: &[HandlerSpec]) -> Self {
        let route = |spec: &HandlerSpec| Route {
            handler: spec.index,
            exclusive: spec.exclusive,
            streams: spec.streams,
            any: spec.message_type.is_none(),
        };
        let typed = specs
            .iter()
            .filter_map(|spec| Some((spec.message_type?, route(spec))));
        let count = specs.iter().map(|spec| usize::from(spec.index) + 1).max();
        let mut by_index = vec![None; count.unwrap_or(0)];
        for spec in specs {
            let name = MessageType::declared(spec.message_type.unwrap_or("-"));
            by_index[usize::from(spec.index)] = Some((route(spec), name));
        }
        Self {
            by_type: typed.collect(),
            by_index,
            any: specs
                .iter()
                .find(|spec| spec.message_type.is_none())
                .map(route),
        }
    }

    /// The handler of a message type.
    pub(crate) fn route(&self, message_type: &MessageType) -> Option<Route> {
        self.by_type
            .get(message_type.as_str())
            .copied()
            .or(self.any)
    }

    /// The handler of a number.
    pub(crate) fn at(&self, handler: HandlerIndex) -> Option<Route> {
        let own = self.by_index.get(usize::from(handler))?.as_ref();
        own.map(|(route, _)| *route)
    }

    /// The message type of a handler.
    pub(crate) fn name(&self, route: Route) -> &MessageType {
        let own = self.by_index.get(usize::from(route.handler));
        own.and_then(Option::as_ref)
            .map_or(&NAMELESS, |(_, name)| name)
    }

    /// The message types that have a handler of their own, in order.
    pub(crate) fn message_types(&self) -> Vec<String> {
        let mut names: Vec<String> = self.by_type.keys().map(|&name| name.to_owned()).collect();
        names.sort_unstable();
        names
    }
}

/// How durably what an agent keeps is kept: its state, and, if it is durable, its inbox, outbox, dedup and timers.
///
/// | level | whoever waits hears when it is | a killed process loses | a power cut loses |
/// |---|---|---|---|
/// | `Durable` | on disk | nothing | nothing |
/// | `Buffered` | taken | the last 5 ms | the last 5 ms |
/// | `Memory` | taken | everything | everything |
///
/// At each level a message takes effect all or not at all, what is lost is lost from the end, and a restart of the agent
/// loses nothing. An agent says its own, else the [runtime](crate::runtime::Builder::durability) says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// On disk before anybody is told so.
    #[default]
    Durable,
    /// On disk at most [`BUFFERED_BEHIND_MAX`](crate::model::limits::BUFFERED_BEHIND_MAX) after somebody was told so.
    Buffered,
    /// Never on disk: it lasts as long as the process.
    Memory,
}

/// What senders meet when a mailbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// They wait for room.
    #[default]
    Wait,
    /// They get an error, and their message back.
    Refuse,
    /// The new message becomes a dead letter.
    DropNewest,
    /// The message that waits longest in the same lane becomes a dead letter.
    DropOldest,
}

/// When an instance that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// After a panic, a failed start or [`Context::fail`].
    #[default]
    OnFailure,
    /// Also after it stopped by itself.
    Always,
    /// Never.
    Never,
}

/// Which of an agent's children start again when one of them fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Only the one that failed.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those that were spawned after it.
    RestForOne,
}

/// What `#[agent(..)]` says, as plain data. Cheap to clone.
#[derive(Clone)]
pub struct Declaration {
    pub(crate) id: &'static str,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) metadata: Vec<(&'static str, &'static str)>,
    pub(crate) durable: bool,
    pub(crate) stateful: bool,
    /// What it says itself. The runtime says it for those that do not.
    pub(crate) durability: Option<Durability>,
    pub(crate) mailbox: usize,
    pub(crate) overflow: Overflow,
    pub(crate) concurrency: usize,
    pub(crate) restart: Restart,
    pub(crate) strategy: Strategy,
    pub(crate) max_restarts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) timeout: Duration,
    pub(crate) hooks: Option<Arc<Hooks>>,
    pub(crate) state_version: u32,
}

impl Declaration {
    /// An agent of this id with every default.
    pub fn new(id: &'static str) -> Self {
        Self {
            id,
            capabilities: Vec::new(),
            metadata: Vec::new(),
            durable: false,
            stateful: false,
            durability: None,
            mailbox: MAILBOX_DEFAULT,
            overflow: Overflow::default(),
            concurrency: CONCURRENCY_DEFAULT,
            restart: Restart::default(),
            strategy: Strategy::default(),
            max_restarts: RESTARTS_DEFAULT,
            max_attempts: ATTEMPTS_DEFAULT,
            timeout: HANDLER_TIMEOUT,
            hooks: None,
            state_version: 1,
        }
    }

    /// Adds a capability.
    #[must_use]
    pub fn capability(mut self, capability: &'static str) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// Adds a metadata entry.
    #[must_use]
    pub fn metadata(mut self, key: &'static str, value: &'static str) -> Self {
        self.metadata.push((key, value));
        self
    }

    /// Its inbox, outbox and dedup are kept.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Its state is kept.
    #[must_use]
    pub fn stateful(mut self) -> Self {
        self.stateful = true;
        self
    }

    /// How durably its state is kept, and its inbox, outbox and dedup if they are; as the runtime says unless said.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Envelopes that wait in one lane of its mailbox.
    #[must_use]
    pub fn mailbox(mut self, envelopes: usize) -> Self {
        self.mailbox = envelopes;
        self
    }

    /// What senders meet when the mailbox is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many `&self` handlers may run at once.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// When it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Which of its children start again when one fails.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Restarts within a minute before it is given up on.
    #[must_use]
    pub fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }

    /// Attempts that a durable message gets.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long a handler may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The version of the state's layout; 1 unless said.
    #[must_use]
    pub fn state_version(mut self, version: u32) -> Self {
        self.state_version = version;
        self
    }

    /// What a state must satisfy: an update that it refuses fails its message and changes nothing.
    #[must_use]
    pub fn validate<S: AgentState, E: fmt::Display + 'static>(
        mut self,
        check: fn(&S) -> Result<(), E>,
    ) -> Self {
        let hooks = self.hooks.as_deref().cloned().unwrap_or_default();
        self.hooks = Some(Arc::new(hooks.with_validate(check)));
        self
    }

    /// How a state of an earlier version becomes one of this version.
    #[must_use]
    pub fn migrate<S: AgentState, E: fmt::Display + 'static>(
        mut self,
        migrate: fn(u32, Document) -> Result<S, E>,
    ) -> Self {
        let hooks = self.hooks.as_deref().cloned().unwrap_or_default();
        self.hooks = Some(Arc::new(hooks.with_migrate(migrate)));
        self
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declaration")
            .field("id", &self.id)
            .field("capabilities", &self.capabilities)
            .field("metadata", &self.metadata)
            .field("durable", &self.durable)
            .field("stateful", &self.stateful)
            .field("durability", &self.durability)
            .field("mailbox", &self.mailbox)
            .field("overflow", &self.overflow)
            .field("concurrency", &self.concurrency)
            .field("restart", &self.restart)
            .field("strategy", &self.strategy)
            .field("max_restarts", &self.max_restarts)
            .field("max_attempts", &self.max_attempts)
            .field("timeout", &self.timeout)
            .field("state_version", &self.state_version)
            .field("hooks", &self.hooks)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_finds_its_handlers_and_falls_back_to_any() {
        let named = [
            HandlerSpec::exclusive(0, "a"),
            HandlerSpec::shared(1, "b").streams(),
        ];
        let table = HandlerTable::new(&named);
        let find = |table: &HandlerTable, name| table.route(&MessageType::new(name).unwrap());
        assert_eq!(
            find(&table, "b"),
            Some(Route {
                handler: 1,
                exclusive: false,
                streams: true,
                any: false
            })
        );
        assert_eq!(find(&table, "c"), None);
        let with_any = HandlerTable::new(&[named[0], HandlerSpec::any(7, true)]);
        assert_eq!(find(&with_any, "c").map(|r| r.handler), Some(7));
        assert_eq!(table.message_types(), ["a", "b"]);
    }
}

//! What an agent is to the runtime: its declaration, its handler table, and the two traits that the macros write.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::message::{Message, Reply};
use super::state::Hooks;
use super::{AgentRef, Document};
use crate::model::limits::{
    ATTEMPTS_DEFAULT, CONCURRENCY_DEFAULT, HANDLER_TIMEOUT, MAILBOX_DEFAULT, RESTARTS_DEFAULT,
};
use crate::model::{Failure, MessageType};

/// The number of a handler in its agent's table.
pub type HandlerIndex = u16;

/// What an agent may keep: any type that serde can write, read, and that has a default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an agent's state",
    label = "not a state",
    note = "a state derives `Default`, `serde::Serialize` and `serde::Deserialize`, and is `Send + Sync + 'static`"
)]
pub trait AgentState: Serialize + DeserializeOwned + Default + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Default + Send + Sync + 'static> AgentState for T {}

/// What `#[agent]` on a struct says of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not declared as an agent",
    label = "no `#[agent]` on this type",
    note = "write `#[agent]` on its struct"
)]
pub trait Declare: Sized + Send + Sync + 'static {
    /// What it keeps, `()` if nothing.
    type State: AgentState;
    /// Its typed ref: `WorkerRef` for `Worker`.
    type Ref: From<AgentRef<Self>>;

    /// Its id, capabilities, bounds and policies.
    fn declaration() -> Declaration;
}

/// What `#[agent]` on an impl block makes of its handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers",
    label = "no `#[agent] impl` for this type",
    note = "write `#[agent] impl {Self} {{ .. }}` around its handlers"
)]
pub trait Agent: Declare {
    /// Its handlers, each with its number.
    const HANDLERS: &'static [HandlerSpec];

    /// Runs before the first message, with the state loaded, and again after each restart.
    fn on_start(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs after the last message.
    fn on_stop(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Runs a `&mut self` handler.
    fn handle_exclusive(
        &mut self,
        handler: HandlerIndex,
        message: Message,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Reply> + Send;

    /// Runs a `&self` handler.
    fn handle_shared(
        &self,
        handler: HandlerIndex,
        message: Message,
        ctx: &Context<Self>,
    ) -> impl Future<Output = Reply> + Send;
}

/// One handler in an agent's table.
#[derive(Clone, Copy, Debug)]
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
    by_index: Vec<Option<Route>>,
    any: Option<Route>,
}

/// Where a message goes inside its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) handler: HandlerIndex,
    pub(crate) exclusive: bool,
    pub(crate) streams: bool,
}

impl HandlerTable {
    pub(crate) fn new(specs: &[HandlerSpec]) -> Self {
        let route = |spec: &HandlerSpec| Route {
            handler: spec.index,
            exclusive: spec.exclusive,
            streams: spec.streams,
        };
        let typed = specs
            .iter()
            .filter_map(|spec| Some((spec.message_type?, route(spec))));
        let count = specs.iter().map(|spec| usize::from(spec.index) + 1).max();
        let mut by_index = vec![None; count.unwrap_or(0)];
        for spec in specs {
            by_index[usize::from(spec.index)] = Some(route(spec));
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
        self.by_index.get(usize::from(handler)).copied().flatten()
    }

    /// The message types that have a handler of their own, in order.
    pub(crate) fn message_types(&self) -> Vec<String> {
        let mut names: Vec<String> = self.by_type.keys().map(|&name| name.to_owned()).collect();
        names.sort_unstable();
        names
    }
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

/// How much protection an envelope gets. Only [`Level::Direct`] is built so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// In process, trusted, at full speed.
    #[default]
    Direct,
}

/// What `#[agent(..)]` says, as plain data. Cheap to clone.
#[derive(Clone)]
pub struct Declaration {
    pub(crate) id: &'static str,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) metadata: Vec<(&'static str, &'static str)>,
    pub(crate) durable: bool,
    pub(crate) stateful: bool,
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

    /// Whether anything of this agent is kept by the engine.
    pub(crate) const fn is_kept(&self) -> bool {
        self.durable || self.stateful
    }
}

impl fmt::Debug for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declaration")
            .field("id", &self.id)
            .field("durable", &self.durable)
            .field("stateful", &self.stateful)
            .finish_non_exhaustive()
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
                streams: true
            })
        );
        assert_eq!(find(&table, "c"), None);
        let with_any = HandlerTable::new(&[named[0], HandlerSpec::any(7, true)]);
        assert_eq!(find(&with_any, "c").map(|r| r.handler), Some(7));
        assert_eq!(table.message_types(), ["a", "b"]);
    }
}

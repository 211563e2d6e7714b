//! Starting an agent: what is known of it before it runs.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::agent::{Agent, Declaration, Declare, HandlerTable, StateOf};
use super::agent_ref::AgentRef;
use super::error::SpawnError;
use super::host::{Boxed, Host};
use super::inbox::Window;
use super::instance::Instance;
use super::port::Port;
use super::state::StateCell;
use super::supervisor::{Member, Supervisor};
use super::timers::Timers;
use crate::model::AgentId;
use crate::model::limits::{CAPABILITIES_MAX, CONCURRENCY_MAX, MAILBOX_MAX, METADATA_BYTES_MAX};
use crate::store::StoreError;

/// Most instances that one pool may have.
pub(crate) const POOL_MAX: usize = 1024;

/// Where an instance's value comes from.
pub(crate) enum Source<A> {
    /// The value that was spawned: it is kept across restarts.
    Value(Mutex<Option<A>>),
    /// A fresh value for each start.
    Factory(Arc<dyn Fn() -> A + Send + Sync>),
}

impl<A> Source<A> {
    pub(crate) fn value(agent: A) -> Self {
        Self::Value(Mutex::new(Some(agent)))
    }
}

/// An agent that is about to be started.
pub(crate) struct Start<A: Agent> {
    id: Option<AgentId>,
    source: Source<A>,
    instances: usize,
    declaration: Declaration,
}

/// An agent that starts: awaited, it gives the agent's typed ref when its `#[on_start]` is over.
///
/// # Cancel safety
/// The start goes on when the future is dropped.
#[must_use = "nothing starts before it is awaited"]
pub struct Spawn<R>(Boxed<'static, Result<R, SpawnError>>);

/// Begins a spawn.
pub(crate) fn spawning<A: Agent>(
    host: Arc<dyn Host>,
    start: Result<Start<A>, SpawnError>,
    parent: Option<AgentId>,
) -> Spawn<A::Ref> {
    Spawn(Box::pin(async move {
        let launch: Box<dyn Launch> = Box::new(start?);
        let port = Arc::clone(&host).launch(launch, parent).await?;
        let agent = AgentRef::new(host, port.id.clone(), Some(port));
        Ok(<A::Ref as Declare<A>>::from_ref(agent))
    }))
}

impl<R> Future for Spawn<R> {
    type Output = Result<R, SpawnError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for Spawn<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").finish_non_exhaustive()
    }
}

/// A [`Start`] without its agent's type.
pub(crate) trait Launch: Send + fmt::Debug {
    /// The id it will run under.
    fn id(&self) -> Result<AgentId, SpawnError>;

    fn declaration(&self) -> &Declaration;

    fn agent_type(&self) -> TypeId;

    /// A new handler table: made once for each agent type and runtime.
    fn table(&self) -> HandlerTable;

    /// Loads what is kept, builds the instances, and starts them under the supervisor.
    fn start(
        self: Box<Self>,
        host: Arc<dyn Host>,
        supervisor: Arc<Supervisor>,
        port: Arc<Port>,
    ) -> Boxed<'static, Result<(), SpawnError>>;

    fn instances(&self) -> usize;
}

impl<A: Agent> Start<A> {
    /// `instances` of an agent, under its own id or another.
    pub(crate) fn new(id: Option<AgentId>, source: Source<A>, instances: usize) -> Self {
        Self {
            id,
            source,
            instances,
            declaration: <A::Ref as Declare<A>>::declaration(),
        }
    }

    async fn run(
        self,
        host: Arc<dyn Host>,
        supervisor: Arc<Supervisor>,
        port: Arc<Port>,
    ) -> Result<(), SpawnError> {
        let id = port.id.clone();
        let cell = Arc::new(StateCell::<StateOf<A>>::new(id.clone(), &self.declaration));
        let engine = Arc::clone(&host.core().engine);
        cell.refresh(&*engine).await.map_err(|error| match error {
            StoreError::Corrupt(corrupt) => SpawnError::State {
                id: id.clone(),
                reason: corrupt.reason,
            },
            error => SpawnError::Store {
                id: id.clone(),
                source: error,
            },
        })?;
        // Before any instance runs: nothing new may overtake what is on disk, or be handled twice.
        let restored = async {
            if let Some(window) = &port.window {
                window.open(&port).await?;
            }
            port.timers.restore().await
        };
        restored.await.map_err(|source| SpawnError::Store {
            id: id.clone(),
            source,
        })?;
        let mut sources = Vec::with_capacity(self.instances);
        match self.source {
            Source::Factory(make) => {
                sources.resize_with(self.instances, || Source::Factory(Arc::clone(&make)));
            }
            value @ Source::Value(_) => sources.push(value),
        }
        for (number, source) in sources.into_iter().enumerate() {
            let instance = Instance::new(
                Arc::clone(&host),
                Arc::clone(&port),
                number,
                Arc::clone(&cell),
                source,
            );
            let member: Arc<dyn Member> = instance;
            supervisor.add(Arc::clone(&member), &port, number);
            let started = supervisor.start(member).await;
            if let Err(source) = started {
                return Err(SpawnError::Start { id, source });
            }
        }
        Ok(())
    }
}

impl<A: Agent> Launch for Start<A> {
    fn id(&self) -> Result<AgentId, SpawnError> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => AgentId::new(self.declaration.id)?,
        };
        if id.node().is_some() {
            return Err(SpawnError::NamesANode { id });
        }
        if id == AgentId::RUNTIME {
            return Err(SpawnError::Reserved { id });
        }
        if !(1..=POOL_MAX).contains(&self.instances) {
            return Err(SpawnError::PoolSize {
                id,
                instances: self.instances,
                instances_max: POOL_MAX,
            });
        }
        check(&self.declaration).map_err(|reason| SpawnError::Declaration { reason })?;
        Ok(id)
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn agent_type(&self) -> TypeId {
        TypeId::of::<A>()
    }

    fn table(&self) -> HandlerTable {
        HandlerTable::new(A::HANDLERS)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn start(
        self: Box<Self>,
        host: Arc<dyn Host>,
        supervisor: Arc<Supervisor>,
        port: Arc<Port>,
    ) -> Boxed<'static, Result<(), SpawnError>> {
        Box::pin(self.run(host, supervisor, port))
    }
}

/// What the macro checks too, for declarations that are written by hand.
fn check(declaration: &Declaration) -> Result<(), String> {
    let id = declaration.id;
    let capabilities = &declaration.capabilities;
    if capabilities.iter().any(|capability| capability.is_empty()) {
        return Err(format!("`{id}` declares an empty capability"));
    }
    if capabilities.len() > CAPABILITIES_MAX {
        return Err(format!(
            "`{id}` declares {} capabilities: the limit is {CAPABILITIES_MAX}",
            capabilities.len()
        ));
    }
    let distinct: BTreeSet<_> = capabilities.iter().collect();
    if distinct.len() < capabilities.len() {
        return Err(format!("`{id}` declares a capability twice"));
    }
    let long = |(key, value): &(&str, &str)| key.len().max(value.len()) > METADATA_BYTES_MAX;
    if declaration.metadata.iter().any(long) {
        return Err(format!(
            "`{id}` declares metadata of more than {METADATA_BYTES_MAX} bytes"
        ));
    }
    if declaration.max_attempts == 0 {
        return Err(format!(
            "`{id}` declares no attempt: `max_attempts` is at least 1"
        ));
    }
    if declaration.timeout.is_zero() {
        return Err(format!(
            "`{id}` declares no time: `timeout` is longer than zero"
        ));
    }
    for (what, declared, max) in [
        ("mailbox", declaration.mailbox, MAILBOX_MAX),
        ("concurrency", declaration.concurrency, CONCURRENCY_MAX),
    ] {
        if !(1..=max).contains(&declared) {
            return Err(format!(
                "`{id}` declares a {what} of {declared}: it is from 1 to {max}"
            ));
        }
    }
    Ok(())
}

impl<A: Agent> fmt::Debug for Start<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("id", &self.id)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}

/// A window and timers for an agent of this declaration.
pub(crate) fn furnish(
    id: &AgentId,
    declaration: &Declaration,
    host: &Arc<dyn Host>,
) -> (Option<Arc<Window>>, Arc<Timers>) {
    let window = declaration.durable.then(|| {
        Arc::new(Window::new(
            id.clone(),
            Arc::clone(host),
            declaration.mailbox,
        ))
    });
    let timers = Timers::new(id.clone(), Arc::clone(host), declaration.durable);
    (window, Arc::new(timers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(number: usize) -> &'static str {
        format!("capability-{number}").leak()
    }

    fn long(bytes: usize) -> &'static str {
        "x".repeat(bytes).leak()
    }

    #[test]
    fn a_declaration_by_hand_keeps_to_the_limits() {
        let declared = || Declaration::new("worker");
        for good in [
            declared(),
            declared().max_attempts(1),
            declared().timeout(Duration::from_nanos(1)),
            (0..CAPABILITIES_MAX).fold(declared(), |all, n| all.capability(name(n))),
            declared().metadata(long(METADATA_BYTES_MAX), long(METADATA_BYTES_MAX)),
            declared().mailbox(MAILBOX_MAX),
            declared().concurrency(CONCURRENCY_MAX),
        ] {
            assert_eq!(check(&good), Ok(()));
        }
        for bad in [
            declared().max_attempts(0),
            declared().timeout(Duration::ZERO),
            declared().capability(""),
            declared().capability("nlp").capability("nlp"),
            (0..=CAPABILITIES_MAX).fold(declared(), |all, n| all.capability(name(n))),
            declared().metadata(long(METADATA_BYTES_MAX + 1), ""),
            declared().metadata("", long(METADATA_BYTES_MAX + 1)),
            declared().mailbox(0),
            declared().mailbox(MAILBOX_MAX + 1),
            declared().concurrency(0),
            declared().concurrency(CONCURRENCY_MAX + 1),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}

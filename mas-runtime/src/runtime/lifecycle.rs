//! How agents come and go: spawn, stop, remove, watch, heartbeats, and the end of the runtime.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::durability::{LEFT_BEHIND, listing};
use super::watches::Watches;
use super::{Inner, registry};
use crate::actor::{
    AgentStatus, Draft, ENDED, EndReason, Ended, EventKind, Handle, HandlerTable, Host, Launch,
    Port, RequestError, Sending, SpawnError, Supervisor, Turn, furnish, text_of,
};
use crate::model::{AgentId, Error, Failure, FailureCode, Result};
use crate::store::{Batch, Op, StoreError};

impl Inner {
    /// Starts an agent: to the end, also when its caller goes away, or holds the future and does not poll it.
    pub(super) async fn start_agent(
        self: Arc<Self>,
        launch: Box<dyn Launch>,
        parent: Option<AgentId>,
    ) -> Result<Arc<Port>, SpawnError> {
        let inner = Arc::clone(&self);
        let work = async move {
            let port = inner.admit_agent(&*launch, parent)?;
            let host: Arc<dyn Host> = Arc::clone(&inner) as _;
            let supervisor = Arc::clone(&inner.supervisor);
            let started = match inner.register(&port).await {
                Ok(()) => started(launch, host, supervisor, &port).await,
                Err(error) => Err(error),
            };
            inner.agent_started(&port, started).await
        };
        let tasks = &self.core.tasks;
        let started = if Turn::with_current(|turn| turn.is_none()) {
            tasks.at_once(work).await
        } else {
            // A handler's child starts in a task: children of children would go deeper and deeper into one stack.
            tasks.spawn(work).await
        };
        started.unwrap_or(Err(SpawnError::ShutDown))
    }

    /// Checks what can be checked before anything runs, and takes the id.
    fn admit_agent(
        self: &Arc<Self>,
        launch: &dyn Launch,
        parent: Option<AgentId>,
    ) -> Result<Arc<Port>, SpawnError> {
        if !self.is_open() {
            return Err(SpawnError::ShutDown);
        }
        let id = launch.id()?;
        self.check_parent(&id, parent.as_ref())?;
        let host: Arc<dyn Host> = Arc::clone(self) as _;
        let declaration = launch.declaration().clone();
        let (window, timers) = furnish(&id, &declaration, &host);
        let port = Arc::new(Port::new(
            id.clone(),
            declaration,
            (launch.agent_type(), self.table(launch)),
            launch.instances(),
            window,
            timers,
            parent,
        ));
        match self.router.entry(id.clone()) {
            dashmap::Entry::Occupied(_) => return Err(SpawnError::Duplicate { id }),
            dashmap::Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(&port))),
        }
        self.levels.say(&id, port.declaration.durability);
        self.unattended.forget(&id);
        // The end of the runtime looks at the router after it has closed the door: it sees this port, or is seen here.
        if !self.is_open() {
            self.router.remove(&id);
            port.set_end(EndReason::Stopped);
            port.set_gone();
            return Err(SpawnError::ShutDown);
        }
        Ok(port)
    }

    /// A child has nobody who would stop it once its parent has ended.
    fn check_parent(&self, id: &AgentId, parent: Option<&AgentId>) -> Result<(), SpawnError> {
        let Some(parent) = parent else {
            return Ok(());
        };
        match self.port(parent) {
            Some(port) if !port.has_ended() => Ok(()),
            _ => Err(SpawnError::ParentEnded {
                id: id.clone(),
                parent: parent.clone(),
            }),
        }
    }

    /// The handler table of an agent's type.
    fn table(&self, launch: &dyn Launch) -> Arc<HandlerTable> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables
            .entry(launch.agent_type())
            .or_insert_with(|| Arc::new(launch.table()));
        Arc::clone(table)
    }

    /// Enters a durable agent into the directory, so that it is known before it is spawned next time.
    async fn register(&self, port: &Port) -> Result<(), SpawnError> {
        let word = port.declaration.durability;
        let before = self.registry.kept_as(&port.id);
        if !port.declaration.durable || before == Some(word) {
            return Ok(());
        }
        if before.is_some_and(|before| self.levels.home_of(before) != self.levels.home_of(word)) {
            tracing::warn!(agent = %port.id, "{LEFT_BEHIND}");
        }
        let batch = Batch::new().with(Op::AgentPut {
            agent: port.id.clone(),
            record: listing(&port.declaration),
            lease_until_unix_ms: 0,
        });
        let committed = self.core.engine.commit(batch).await;
        committed.map(drop).map_err(|error| SpawnError::Commit {
            id: port.id.clone(),
            source: error,
        })
    }

    async fn agent_started(
        self: &Arc<Self>,
        port: &Arc<Port>,
        started: Result<(), SpawnError>,
    ) -> Result<Arc<Port>, SpawnError> {
        let started = started.and_then(|()| {
            if !self.is_open() {
                return Err(SpawnError::ShutDown);
            }
            self.check_parent(&port.id, port.parent.as_ref())
        });
        match started {
            Ok(()) => {
                port.renew(self.core.clock.now());
                self.registry.add(port);
                self.core.trace(&port.id, format_args!("started"));
                self.core.event(EventKind::Started {
                    agent: port.id.clone(),
                });
                self.outboxes.poke_all();
                Ok(Arc::clone(port))
            }
            Err(error) => {
                let reason = EndReason::Failed(error.to_string());
                Arc::clone(&self.supervisor).abandon(port, reason).await;
                Err(error)
            }
        }
    }

    /// Stops an agent and its children, in a task of the runtime's. A handler that the end waits for does not wait for it.
    pub(super) async fn stop_agent(self: &Arc<Self>, id: &AgentId) -> Result<()> {
        let port = self
            .port(id)
            .ok_or_else(|| RequestError::NotRunning { id: id.clone() })?;
        let supervisor = Arc::clone(&self.supervisor);
        let grace = self.core.options.shutdown_grace;
        let is_own_end = self.waits_for_current(id);
        let stopped = self.core.tasks.spawn(supervisor.stop(port, grace));
        if is_own_end {
            return Ok(());
        }
        stopped.await.map_err(Error::from)
    }

    /// Stops an agent, and takes it out of the directory. A handler that the end waits for does not wait for it.
    pub(super) async fn remove(self: &Arc<Self>, id: AgentId, with_data: bool) -> Result<()> {
        if !self.waits_for_current(&id) {
            return self.stop_and_forget(id, with_data).await;
        }
        let inner = Arc::clone(self);
        self.core.tasks.spawn(async move {
            let agent = id.clone();
            if let Err(error) = inner.stop_and_forget(id, with_data).await {
                tracing::error!(%agent, %error, "an agent that removed itself is still in the directory");
            }
        });
        Ok(())
    }

    /// Whether the end of an agent waits for the handler that runs on this thread right now: it is one of the agent's, or of
    /// one below it.
    fn waits_for_current(&self, id: &AgentId) -> bool {
        Turn::with_current(|turn| {
            let own = turn.filter(|turn| turn.is_of(self));
            let mut next = own.map(|turn| Arc::clone(&turn.port));
            let mut seen = Vec::new();
            while let Some(port) = next {
                if port.id == *id {
                    return true;
                }
                // One that was left behind may have become an ancestor of its own.
                let is_new = !seen.contains(&port.id);
                let parent = port.parent.as_ref().filter(|_| is_new);
                next = parent.and_then(|parent| self.port(parent));
                seen.push(port.id.clone());
            }
            false
        })
    }

    async fn stop_and_forget(self: &Arc<Self>, id: AgentId, with_data: bool) -> Result<()> {
        if self.port(&id).is_some() {
            self.stop_agent(&id).await?;
        }
        let op = if with_data {
            Op::AgentErase { agent: id.clone() }
        } else {
            Op::AgentRemove { agent: id.clone() }
        };
        self.core.engine.commit(Batch::new().with(op)).await?;
        self.registry.forget(&id);
        self.levels.say(&id, None);
        self.unattended.forget(&id);
        if with_data {
            self.outboxes.forget(&id);
        }
        Ok(())
    }

    /// An agent has ended: nobody finds it any more, and its watchers hear of it.
    pub(super) fn agent_ended(&self, port: &Arc<Port>, reason: &EndReason) {
        let is_own = |_: &AgentId, own: &Arc<Port>| Arc::ptr_eq(own, port);
        if self.router.remove_if(&port.id, is_own).is_none() {
            // It was abandoned just when it ended by itself.
            return;
        }
        self.registry.remove(port);
        self.unattended.forget(&port.id);
        self.topics.remove(&port.id);
        let watchers = self.watches().ended(&port.id);
        for watcher in watchers {
            self.tell_ended(&watcher, &port.id, Some(reason));
        }
        self.core.trace(&port.id, format_args!("ended"));
        if *reason == EndReason::Stopped {
            self.core.event(EventKind::Stopped {
                agent: port.id.clone(),
            });
        }
    }

    /// Notes who wants to hear of whose end. One that does not run is told at once.
    pub(super) fn add_watch(&self, watcher: &AgentId, watched: &AgentId) -> Result<()> {
        if self.port(watched).is_none() {
            self.tell_ended(watcher, watched, None);
            return Ok(());
        }
        self.watches().add(watcher, watched)?;
        // It may have ended between the look and the note. Whoever takes a note out tells its watcher.
        if self.port(watched).is_none() && self.watches().take(watcher, watched) {
            self.tell_ended(watcher, watched, None);
        }
        Ok(())
    }

    fn tell_ended(&self, watcher: &AgentId, watched: &AgentId, reason: Option<&EndReason>) {
        let said = match reason {
            Some(EndReason::Failed(said)) => Some(said.clone()),
            _ => None,
        };
        let host: Arc<dyn Host> = self.me();
        let to = Arc::new(Handle {
            host,
            id: watcher.clone(),
            port: self.port(watcher),
        });
        let ended = Ended::new(watched.clone(), said.is_some(), said);
        let mut draft = Draft::by_type(to, None, ENDED, &ended);
        draft.letter.delivery.cover_mut().sender = watched.clone();
        match self.send_letter(&draft.to, draft.letter) {
            Sending::Done(Ok(())) => {}
            Sending::Done(Err(error)) => {
                tracing::warn!(%watcher, %watched, %error, "a watcher could not be told");
            }
            Sending::Wait(wait) => {
                let watcher = watcher.clone();
                self.core.tasks.spawn(async move {
                    if let Err(error) = wait.await {
                        tracing::warn!(%watcher, %error, "a watcher could not be told");
                    }
                });
            }
        }
    }

    /// Renews leases, until the runtime ends.
    pub(super) async fn beat(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                // Losing the sleep is safe: the runtime ends.
                () = self.stop_heartbeat.notified() => return,
                () = tokio::time::sleep(self.heartbeat) => {}
            }
            let now = self.core.clock.now();
            for port in self.registry.ports() {
                let was = registry::status(&port, now, self.lease);
                if port.is_alive() {
                    port.renew(now);
                } else if was == AgentStatus::Inactive && port.tell_inactive() {
                    self.core.event(EventKind::Inactive {
                        agent: port.id.clone(),
                    });
                }
            }
        }
    }

    /// Ends the runtime, in a task of its own. All who ask for it wait for the one end, and hear the same of it, but for
    /// handlers of its own: the end waits for them.
    pub(super) async fn shut_down(self: &Arc<Self>) -> Result<()> {
        let mut closed = self.closed.subscribe();
        if self.open.swap(false, Ordering::AcqRel) {
            let inner = Arc::clone(self);
            let ending = tokio::spawn(async move { inner.end().await });
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                let ended = ending.await;
                let closed =
                    ended.unwrap_or_else(|error| Err(StoreError::failed(error.to_string())));
                if let Err(error) = &closed {
                    tracing::error!(%error, "the engine did not close well");
                }
                inner.closed.send_replace(Some(closed));
            });
        }
        if Turn::with_current(|turn| turn.is_some_and(|turn| turn.is_of(&**self))) {
            return Ok(());
        }
        let closed = closed.wait_for(Option::is_some).await?.clone();
        closed.unwrap_or(Ok(())).map_err(Error::from)
    }

    async fn end(self: &Arc<Self>) -> Result<(), StoreError> {
        let grace = self.core.options.shutdown_grace;
        self.stop_all(grace).await;
        self.supervisor.close();
        self.stop_heartbeat.notify_one();
        self.outboxes.poke_all();
        self.core.tasks.close();
        if tokio::time::timeout(grace, self.core.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("tasks of the runtime outlived the grace period");
        }
        self.core.engine.close().await
    }

    /// Stops all agents, each once: those without a parent, which stop their children; then what is left, such as one
    /// that was just being spawned when its parent ended.
    async fn stop_all(&self, grace: Duration) {
        let mut told = BTreeSet::new();
        loop {
            let mut left: Vec<Arc<Port>> = self
                .router
                .iter()
                .filter(|entry| !told.contains(entry.key()))
                .map(|entry| Arc::clone(entry.value()))
                .collect();
            if left.is_empty() {
                return;
            }
            left.sort_by(|one, other| one.id.cmp(&other.id));
            let is_root = |port: &Arc<Port>| {
                let parent = port.parent.as_ref();
                parent.is_none_or(|parent| self.port(parent).is_none())
            };
            let (roots, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_root);
            let next = if roots.is_empty() { rest } else { roots };
            told.extend(next.iter().map(|port| port.id.clone()));
            let stops = next
                .into_iter()
                .map(|port| Arc::clone(&self.supervisor).stop(port, grace));
            join_all(stops).await;
        }
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the instances of an agent. What its author has written of how a state is made may panic.
async fn started(
    launch: Box<dyn Launch>,
    host: Arc<dyn Host>,
    supervisor: Arc<Supervisor>,
    port: &Arc<Port>,
) -> Result<(), SpawnError> {
    let start = launch.start(host, supervisor, Arc::clone(port));
    let started = AssertUnwindSafe(start).catch_unwind().await;
    started.unwrap_or_else(|panic| {
        Err(SpawnError::Start {
            id: port.id.clone(),
            source: Failure::new(FailureCode::PANIC, text_of(&*panic)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Clock, Entropy, Envelope, MessageId, MessageType, Payload, SystemClock, encode_envelope,
    };
    use crate::runtime::Runtime;
    use crate::store::{Commit, MemoryEngine};

    #[tokio::test]
    async fn nothing_waits_to_leave_a_sender_that_was_removed_with_its_data() {
        let clock = SystemClock::new();
        let id = MessageId::new(clock.unix(), &Entropy::seeded(1));
        let sender = AgentId::new("sender").unwrap();
        let target = AgentId::new("nobody").unwrap();
        let message_type = MessageType::new("note").unwrap();
        let mut envelope =
            Envelope::new(id, sender.clone(), target, message_type, Payload::empty());
        let bytes = encode_envelope(&mut envelope, &clock, usize::MAX).unwrap();
        let engine = MemoryEngine::new();
        let batch = Batch::new().outbox_put(sender.clone(), bytes);
        engine.commit(batch).await.unwrap();

        let runtime = Runtime::builder().engine(engine).start().await.unwrap();
        assert!(!runtime.inner.outboxes.is_clear(&sender));
        runtime.remove("sender").await.unwrap();
        assert!(!runtime.inner.outboxes.is_clear(&sender), "its data stays");
        runtime.remove_with_data("sender").await.unwrap();
        assert!(runtime.inner.outboxes.is_clear(&sender));
        runtime.shutdown().await.unwrap();
    }
}

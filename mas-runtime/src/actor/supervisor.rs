//! What starts, restarts and stops instances.
//!
//! ractor tells how an actor ended; what follows is decided here: whether and when another sits down in its seat, what
//! happens to its siblings, and when an instance is given up on.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::agent::{Restart, Strategy};
use super::backoff::RESTART;
use super::delivery::Delivery;
use super::error;
use super::event::{EndReason, EventKind};
use super::failures;
use super::host::{Boxed, DeadLetter, Host};
use super::instance::LastCrash;
use super::mailbox::Order;
use super::port::Port;
use super::shell::{ActorNumber, Ended, Root};
use crate::model::limits::RESTART_WINDOW;
use crate::model::{AgentId, Failure, MessageId, Moment};

/// An instance, without its agent's type.
pub(crate) trait Member: Send + Sync + fmt::Debug {
    fn port(&self) -> &Arc<Port>;

    fn number(&self) -> u32;

    /// Starts an actor in the seat; returns when `#[on_start]` is over.
    fn start(self: Arc<Self>, supervisor: Arc<Supervisor>) -> Boxed<'static, Result<(), Failure>>;

    /// Ends the actor at its next await.
    fn kill(&self);

    /// Why the last actor crashed.
    fn take_crash(&self) -> Option<LastCrash>;

    /// Runs `#[on_stop]` once the actor has left its seat.
    fn finish(self: Arc<Self>) -> Boxed<'static, ()>;
}

/// What starts, restarts and stops the instances of one runtime.
pub(crate) struct Supervisor {
    host: OnceLock<Weak<dyn Host>>,
    root: OnceLock<Root>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who sits where: by the number of its actor.
    sitting: BTreeMap<ActorNumber, Arc<dyn Member>>,
    /// The instances of each agent id.
    members: BTreeMap<AgentId, Vec<Record>>,
    /// The children of each agent id, in the order of their spawn.
    children: BTreeMap<AgentId, Vec<AgentId>>,
}

/// Messages over which an instance crashed that are remembered.
const POISON_MAX: usize = 64;

/// What is remembered of an instance.
struct Record {
    member: Arc<dyn Member>,
    restarts: VecDeque<Moment>,
    /// The messages over which it crashed lately: their repeats do not count as restarts.
    poison: VecDeque<MessageId>,
    over: bool,
}

impl Supervisor {
    /// A supervisor with its ear open.
    pub(crate) async fn new() -> Result<Arc<Self>, Failure> {
        let supervisor = Arc::new(Self {
            host: OnceLock::new(),
            root: OnceLock::new(),
            state: Mutex::default(),
        });
        let root = Root::start(Arc::downgrade(&supervisor)).await?;
        supervisor
            .root
            .set(root)
            .expect("invariant: the root is set once, here");
        Ok(supervisor)
    }

    /// Joins it to its runtime.
    pub(crate) fn join(&self, host: &Arc<dyn Host>) {
        let _ = self.host.set(Arc::downgrade(host));
    }

    pub(crate) fn root(&self) -> &Root {
        self.root
            .get()
            .expect("invariant: `new` sets the root before anybody else has the supervisor")
    }

    /// Takes an instance under supervision.
    pub(crate) fn add(&self, member: Arc<dyn Member>, port: &Arc<Port>, number: usize) {
        let _ = port.slots[number].member.set(Arc::downgrade(&member));
        let mut state = self.state();
        if number == 0
            && let Some(parent) = &port.parent
        {
            let own = state.children.entry(parent.clone()).or_default();
            own.push(port.id.clone());
        }
        state
            .members
            .entry(port.id.clone())
            .or_default()
            .push(Record {
                member,
                restarts: VecDeque::new(),
                poison: VecDeque::new(),
                over: false,
            });
    }

    /// An actor has sat down.
    pub(crate) fn sits(&self, actor: ActorNumber, member: Arc<dyn Member>) {
        self.state().sitting.insert(actor, member);
    }

    /// Starts an instance for the first time.
    pub(crate) async fn start(self: &Arc<Self>, member: Arc<dyn Member>) -> Result<(), Failure> {
        member.start(Arc::clone(self)).await
    }

    /// An actor has ended.
    pub(crate) fn heard(self: &Arc<Self>, actor: ActorNumber, ended: Ended) {
        let Some(member) = self.state().sitting.remove(&actor) else {
            return;
        };
        let Some(host) = self.host() else { return };
        let supervisor = Arc::clone(self);
        let tasks = &host.core().tasks;
        tasks.spawn(async move { supervisor.decide(member, ended).await });
    }

    /// What follows when an actor has ended.
    async fn decide(self: Arc<Self>, member: Arc<dyn Member>, ended: Ended) {
        let restart = member.port().declaration.restart;
        let mut reason = match ended {
            Ended::Crashed(reason) => reason,
            Ended::Killed => "it was killed".to_owned(),
            Ended::Stopped => "it stopped".to_owned(),
        };
        let mut stopped = matches!(ended_kind(&member), Order::Quit);
        loop {
            let slot = slot_of(&member);
            match slot.order() {
                Order::Stop => return self.finish(&member, EndReason::Stopped).await,
                Order::Quit if restart != Restart::Always => {
                    return self.finish(&member, EndReason::Stopped).await;
                }
                Order::Restart => {
                    // Its `#[on_start]` spawns them anew.
                    self.stop_children(&member.port().id).await;
                    slot.clear_order(Order::Restart);
                    if slot.order() != Order::Stop && self.try_start(&member, &mut reason).await {
                        return;
                    }
                    continue;
                }
                Order::Quit => slot.clear_order(Order::Quit),
                Order::Run => {}
            }
            let may = match restart {
                Restart::Never => false,
                Restart::OnFailure => !stopped,
                Restart::Always => true,
            };
            let wait = if may { self.count(&member) } else { None };
            let Some(backoff) = wait else {
                return self.give_up(&member, reason).await;
            };
            stopped = false;
            if self.again(&member, &mut reason, backoff).await {
                return;
            }
        }
    }

    /// Waits, and starts an instance again. False when it failed, or was told something else meanwhile.
    async fn again(
        self: &Arc<Self>,
        member: &Arc<dyn Member>,
        reason: &mut String,
        backoff: Duration,
    ) -> bool {
        let Some(host) = self.host() else { return true };
        let port = member.port();
        let core = host.core();
        tracing::warn!(agent = %port.id, instance = member.number(), %reason, ?backoff, "restart");
        core.trace(
            &port.id,
            format_args!("restart {}: {reason}", member.number()),
        );
        core.event(EventKind::Restarted {
            agent: port.id.clone(),
            instance: member.number(),
            reason: reason.clone(),
            backoff,
        });
        self.stop_children(&port.id).await;
        self.restart_siblings(port);
        if !backoff.is_zero() && core.options.restart_backoff {
            slot_of(member).pause(backoff).await;
        }
        if slot_of(member).order() == Order::Stop {
            return false;
        }
        self.try_start(member, reason).await
    }

    async fn try_start(self: &Arc<Self>, member: &Arc<dyn Member>, reason: &mut String) -> bool {
        match Arc::clone(member).start(Arc::clone(self)).await {
            Ok(()) => true,
            Err(failure) => {
                *reason = format!("it failed to start: {failure}");
                false
            }
        }
    }

    /// Counts a restart, and says how long to wait before it; `None` when there were too many.
    fn count(&self, member: &Arc<dyn Member>) -> Option<Duration> {
        let host = self.host()?;
        let core = host.core();
        let now = core.clock.now();
        let port = member.port();
        let crash = member.take_crash();
        let mut state = self.state();
        let records = state.members.get_mut(&port.id)?;
        let record = records
            .iter_mut()
            .find(|record| record.member.number() == member.number())?;
        let message = crash.and_then(|crash| crash.message);
        let repeated = message.is_some_and(|message| record.poison.contains(&message));
        if let Some(message) = message.filter(|_| !repeated) {
            record.poison.push_back(message);
            if record.poison.len() > POISON_MAX {
                record.poison.pop_front();
            }
        }
        while let Some(first) = record.restarts.front()
            && now.since(*first) > RESTART_WINDOW
        {
            record.restarts.pop_front();
        }
        if repeated {
            // One message that is tried again: it ends in the dead letters, and must not end the agent.
            return Some(Duration::ZERO);
        }
        let before = u32::try_from(record.restarts.len()).unwrap_or(u32::MAX);
        if before >= port.declaration.max_restarts {
            return None;
        }
        record.restarts.push_back(now);
        Some(match before {
            0 => Duration::ZERO,
            more => RESTART.wait(more, &core.entropy),
        })
    }

    /// The siblings that must start again, too: each as soon as what it runs is over.
    fn restart_siblings(&self, port: &Port) {
        let (Some(parent), Some(host)) = (&port.parent, self.host()) else {
            return;
        };
        let Some(parent_port) = host.port(parent) else {
            return;
        };
        let siblings = self.children_of(parent);
        let own = siblings.iter().position(|id| *id == port.id);
        let affected = match (parent_port.declaration.strategy, own) {
            (Strategy::OneForAll, _) => &siblings[..],
            (Strategy::RestForOne, Some(own)) => &siblings[own..],
            _ => &[],
        };
        for id in affected.iter().filter(|id| **id != port.id) {
            if let Some(sibling) = host.port(id) {
                for slot in &sibling.slots {
                    slot.give(Order::Restart);
                }
            }
        }
    }

    /// Gives up on an instance. When it was the last of its id, the agent has failed.
    async fn give_up(self: &Arc<Self>, member: &Arc<dyn Member>, reason: String) {
        let Some(host) = self.host() else { return };
        let port = member.port();
        let core = host.core();
        tracing::error!(agent = %port.id, instance = member.number(), %reason, "given up on");
        core.trace(
            &port.id,
            format_args!("failed {}: {reason}", member.number()),
        );
        core.event(EventKind::Failed {
            agent: port.id.clone(),
            instance: member.number(),
            reason: reason.clone(),
        });
        failures::record(core, &port.id, member.number(), &reason);
        self.finish(member, EndReason::Failed(reason)).await;
    }

    /// An instance is over: its `#[on_stop]` runs, and what waits for it goes to another instance, or back.
    async fn finish(self: &Arc<Self>, member: &Arc<dyn Member>, reason: EndReason) {
        let Some(host) = self.host() else { return };
        let port = Arc::clone(member.port());
        self.stop_children(&port.id).await;
        Arc::clone(member).finish().await;
        let last = self.is_last(member);
        if last {
            // Those that its `#[on_stop]` has spawned.
            self.stop_children(&port.id).await;
        }
        if last {
            port.set_end(reason.clone());
        }
        let left = slot_of(member).mailbox.close();
        let mut lost = Vec::new();
        for delivery in left {
            if last {
                lost.push(delivery);
            } else if let Err(delivery) = port.choose().force(delivery) {
                lost.push(delivery);
            }
        }
        if last {
            self.gone(&host, &port, &reason);
        }
        for delivery in lost {
            give_back(&host, &port, delivery, &reason);
        }
    }

    /// An agent did not start: what did start of it ends, and nobody finds it.
    pub(crate) async fn abandon(self: Arc<Self>, port: &Arc<Port>, reason: EndReason) {
        let Some(host) = self.host() else { return };
        let started: Vec<_> = {
            let state = self.state();
            let sits = |member: &Arc<dyn Member>| {
                let sitting = state.sitting.values();
                sitting.into_iter().any(|own| Arc::ptr_eq(own, member))
            };
            let records = state.members.get(&port.id);
            let all = records.into_iter().flatten().map(|record| &record.member);
            all.filter(|member| sits(member)).map(Arc::clone).collect()
        };
        if started.is_empty() {
            self.stop_children(&port.id).await;
            port.set_end(reason.clone());
            let left = port.slots.iter().flat_map(|slot| slot.mailbox.close());
            let left: Vec<_> = left.collect();
            self.gone(&host, port, &reason);
            for delivery in left {
                give_back(&host, port, delivery, &reason);
            }
            return;
        }
        for member in self.never_started(port, &started) {
            self.mark_over(&member);
        }
        let grace = host.core().options.shutdown_grace;
        Arc::clone(&self).stop(Arc::clone(port), grace).await;
    }

    fn never_started(&self, port: &Port, started: &[Arc<dyn Member>]) -> Vec<Arc<dyn Member>> {
        let state = self.state();
        let records = state.members.get(&port.id);
        let all = records.into_iter().flatten().map(|record| &record.member);
        all.filter(|member| !started.iter().any(|own| Arc::ptr_eq(own, member)))
            .map(Arc::clone)
            .collect()
    }

    fn mark_over(&self, member: &Arc<dyn Member>) {
        self.is_last(member);
    }

    /// An agent has ended: nobody finds it any more, and whoever waits for it hears so.
    fn gone(&self, host: &Arc<dyn Host>, port: &Arc<Port>, reason: &EndReason) {
        port.timers.close();
        if let Some(window) = &port.window {
            window.close(reason);
        }
        self.forget(port);
        host.ended(port, reason);
        port.set_gone();
    }

    /// Notes that an instance is over. True when no other of its id is left.
    fn is_last(&self, member: &Arc<dyn Member>) -> bool {
        let mut state = self.state();
        let Some(records) = state.members.get_mut(&member.port().id) else {
            return true;
        };
        for record in records.iter_mut() {
            record.over |= record.member.number() == member.number();
        }
        records.iter().all(|record| record.over)
    }

    fn forget(&self, port: &Port) {
        let mut state = self.state();
        state.members.remove(&port.id);
        state.children.remove(&port.id);
        if let Some(parent) = &port.parent
            && let Some(own) = state.children.get_mut(parent)
        {
            own.retain(|id| *id != port.id);
            if own.is_empty() {
                state.children.remove(parent);
            }
        }
    }

    /// Stops an agent: its children first, then itself. After `grace` what still runs is cut off.
    pub(crate) async fn stop(self: Arc<Self>, port: Arc<Port>, grace: Duration) {
        self.stop_children(&port.id).await;
        for slot in &port.slots {
            slot.give(Order::Stop);
        }
        if tokio::time::timeout(grace, port.wait_end()).await.is_ok() {
            return;
        }
        tracing::warn!(agent = %port.id, ?grace, "a handler outlived the grace period: it is cut off");
        for member in port.slots.iter().filter_map(super::port::Slot::member) {
            member.kill();
        }
        if tokio::time::timeout(grace, port.wait_end()).await.is_err() {
            tracing::error!(agent = %port.id, "a handler blocks its thread: it can't be cut off, and is left behind");
        }
    }

    fn stop_children<'a>(self: &'a Arc<Self>, parent: &'a AgentId) -> Boxed<'a, ()> {
        Box::pin(async move {
            let Some(host) = self.host() else { return };
            let grace = host.core().options.shutdown_grace;
            for child in self.children_of(parent).into_iter().rev() {
                if let Some(port) = host.port(&child) {
                    Arc::clone(self).stop(port, grace).await;
                }
            }
        })
    }

    fn children_of(&self, parent: &AgentId) -> Vec<AgentId> {
        self.state()
            .children
            .get(parent)
            .cloned()
            .unwrap_or_default()
    }

    /// Closes the ear: everybody has ended.
    pub(crate) fn close(&self) {
        self.root().stop();
    }

    fn host(&self) -> Option<Arc<dyn Host>> {
        self.host.get().and_then(Weak::upgrade)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot_of(member: &Arc<dyn Member>) -> &super::port::Slot {
    &member.port().slots[member.number() as usize]
}

fn ended_kind(member: &Arc<dyn Member>) -> Order {
    slot_of(member).order()
}

/// A message that waited for an agent that has ended: a durable one is in its inbox still.
pub(crate) fn give_back(host: &Arc<dyn Host>, port: &Port, delivery: Delivery, reason: &EndReason) {
    if delivery.claim.is_some() {
        return;
    }
    let failure = error::ended(&port.id, reason);
    let text = failure.message.clone().into_owned();
    let (envelope, asker) = delivery.open(port);
    asker.answer(Err(failure));
    host.dead_letter(DeadLetter {
        envelope,
        reason: text,
    });
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Supervisor")
            .field("agents", &state.members.len())
            .finish_non_exhaustive()
    }
}

//! Where the envelopes of one agent id go in: its instances' mailboxes, its handler table, and what it declares.

use std::any::TypeId;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::agent::{Declaration, HandlerTable, Overflow, Route};
use super::delivery::Delivery;
use super::event::EndReason;
use super::inbox::Window;
use super::mailbox::{Mailbox, Order, Pushed};
use super::supervisor::Member;
use super::timers::Timers;
use crate::model::{AgentId, Moment};

/// One agent id in this runtime, from its spawn to its end.
pub(crate) struct Port {
    pub(crate) id: AgentId,
    pub(crate) declaration: Declaration,
    pub(crate) table: Arc<HandlerTable>,
    pub(crate) agent_type: TypeId,
    pub(crate) slots: Box<[Slot]>,
    /// The mailbox of the only instance, where there is only one.
    mailbox: Option<Arc<Mailbox>>,
    /// The part of its durable inbox that is in memory.
    pub(crate) window: Option<Arc<Window>>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) parent: Option<AgentId>,
    /// Held by an instance whose message must see a state that nobody else moves.
    pub(crate) turns: tokio::sync::RwLock<()>,
    next: AtomicUsize,
    end: Mutex<Option<EndReason>>,
    over: AtomicBool,
    gone: AtomicBool,
    ended: Notify,
    lease: AtomicU64,
    inactive: AtomicBool,
}

/// The place of one instance, which outlives the actors that sit in it.
pub(crate) struct Slot {
    pub(crate) mailbox: Arc<Mailbox>,
    ordered: Notify,
    seen_taken: AtomicU64,
    /// Set once, right after the instance is built around this port.
    pub(crate) member: OnceLock<Weak<dyn Member>>,
}

/// What became of a delivery at the door.
pub(crate) enum Delivered<'a> {
    Accepted,
    /// There is no room for it.
    Full(Delivery, &'a Arc<Mailbox>),
    /// This one had to go.
    Dropped(Delivery),
    /// Every instance is closed.
    Closed(Delivery),
}

impl Port {
    pub(crate) fn new(
        id: AgentId,
        declaration: Declaration,
        (agent_type, table): (TypeId, Arc<HandlerTable>),
        instances: usize,
        window: Option<Arc<Window>>,
        timers: Arc<Timers>,
        parent: Option<AgentId>,
    ) -> Self {
        let slot = || Slot {
            mailbox: Arc::new(Mailbox::new(declaration.mailbox, declaration.overflow)),
            ordered: Notify::new(),
            seen_taken: AtomicU64::new(u64::MAX),
            member: OnceLock::new(),
        };
        let slots: Box<[Slot]> = (0..instances).map(|_| slot()).collect();
        let mailbox = match &*slots {
            [only] => Some(Arc::clone(&only.mailbox)),
            _ => None,
        };
        Self {
            slots,
            mailbox,
            id,
            declaration,
            table,
            agent_type,
            window,
            timers,
            parent,
            turns: tokio::sync::RwLock::new(()),
            next: AtomicUsize::new(0),
            end: Mutex::new(None),
            over: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            ended: Notify::new(),
            lease: AtomicU64::new(0),
            inactive: AtomicBool::new(false),
        }
    }

    /// The handler of a message type.
    pub(crate) fn route(&self, message_type: &crate::model::MessageType) -> Option<Route> {
        self.table.route(message_type)
    }

    /// Hands a delivery to an instance.
    pub(crate) fn deliver(&self, delivery: Delivery) -> Delivered<'_> {
        let mailbox = self.choose();
        match mailbox.push(delivery) {
            Pushed::Accepted => Delivered::Accepted,
            Pushed::Displaced(old) => Delivered::Dropped(old),
            Pushed::Closed(delivery) => Delivered::Closed(delivery),
            Pushed::Full(delivery) if mailbox.overflow() == Overflow::DropNewest => {
                Delivered::Dropped(delivery)
            }
            Pushed::Full(delivery) => Delivered::Full(delivery, mailbox),
        }
    }

    /// The mailbox of the instance that has least to do; among equals they take turns.
    pub(crate) fn choose(&self) -> &Arc<Mailbox> {
        if let Some(only) = &self.mailbox {
            return only;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.slots.len();
        let in_turn = (0..count).map(|step| &self.slots[(first + step) % count].mailbox);
        in_turn
            .min_by_key(|mailbox| mailbox.load())
            .expect("invariant: a port has at least one slot")
    }

    /// An envelope that waits for the instance with the most of them.
    pub(crate) fn steal(&self) -> Option<Delivery> {
        let waiting = self.slots.iter().map(|slot| &slot.mailbox);
        waiting.max_by_key(|mailbox| mailbox.len())?.take_one()
    }

    /// Why it ended, once it has.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether some instance of it makes progress, or could.
    pub(crate) fn is_alive(&self) -> bool {
        !self.has_ended() && self.slots.iter().any(|slot| !slot.is_hung())
    }

    /// Whether this is the first time that it is found inactive since it was active.
    pub(crate) fn tell_inactive(&self) -> bool {
        !self.inactive.swap(true, Ordering::Relaxed)
    }

    /// Notes that it ended. The first reason stays.
    pub(crate) fn set_end(&self, reason: EndReason) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_none() {
            *end = Some(reason);
        }
        drop(end);
        self.over.store(true, Ordering::Release);
    }

    /// Notes that nobody finds it any more: its id may be taken again.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Resolves when it has ended, and its id may be taken again.
    pub(crate) async fn wait_end(&self) {
        loop {
            let notified = self.ended.notified();
            if self.gone.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }

    /// Renews the lease.
    pub(crate) fn renew(&self, now: Moment) {
        let nanos = u64::try_from(now.since_origin().as_nanos()).unwrap_or(u64::MAX);
        self.lease.store(nanos, Ordering::Relaxed);
        self.inactive.store(false, Ordering::Relaxed);
    }

    /// When the lease was renewed last.
    pub(crate) fn renewed(&self) -> Moment {
        Moment::from_origin(Duration::from_nanos(self.lease.load(Ordering::Relaxed)))
    }
}

impl Slot {
    pub(crate) fn order(&self) -> Order {
        self.mailbox.order()
    }

    /// Tells the instance, which looks when it has a moment. An order does not take back a stronger one.
    pub(crate) fn give(&self, order: Order) {
        self.mailbox.give(order);
        self.ordered.notify_waiters();
        self.mailbox.nudge();
    }

    /// Resolves when the instance is told something that counts.
    pub(crate) async fn told(&self, counts: impl Fn(Order) -> bool) {
        loop {
            let ordered = self.ordered.notified();
            if counts(self.order()) {
                return;
            }
            ordered.await;
        }
    }

    /// Waits, unless it is told to stop meanwhile.
    pub(crate) async fn pause(&self, wait: Duration) {
        let told = self.told(|order| order == Order::Stop);
        // Time that is up and an order are the same to whoever waits: it looks at the order next.
        let _ = tokio::time::timeout(wait, told).await;
    }

    /// Whether the instance has taken nothing out of a mailbox that holds something since the last time somebody asked:
    /// a handler that blocks its thread can't be seen in any other way.
    pub(crate) fn is_hung(&self) -> bool {
        let turns = self.mailbox.taken();
        let before = self.seen_taken.swap(turns, Ordering::Relaxed);
        before == turns && !self.mailbox.is_empty()
    }

    /// Takes an order back, for the next actor in this slot.
    pub(crate) fn clear_order(&self, order: Order) {
        self.mailbox.clear_order(order);
    }

    pub(crate) fn member(&self) -> Option<Arc<dyn Member>> {
        self.member.get().and_then(Weak::upgrade)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.id)
            .field("instances", &self.slots.len())
            .finish_non_exhaustive()
    }
}

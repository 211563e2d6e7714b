//! One run of one handler: what it inherits from its message, and what it stages until that message settles.
//!
//! A turn is set around every poll of the handler, so that a ref used inside it without its context inherits the same
//! deadline, hops and budget, and joins the same outbox.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::delivery::{Deadline, Delivery, Terms};
use super::draft::Draft;
use super::error::SendError;
use super::host::Host;
use super::port::Port;
use super::to_its_end::ToItsEnd;
use crate::model::limits::{BUDGET_DEFAULT, HOPS_MAX, STAGED_BYTES_MAX};
use crate::model::{AgentId, Envelope, Failure, MessageId, MessageType, Meta, Moment, Payload};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Turn>>> = const { RefCell::new(None) };
}

/// One run of one handler.
pub(crate) struct Turn {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) port: Arc<Port>,
    pub(crate) instance: u32,
    pub(crate) cause: Cause,
    /// The [`Deadline`] of the cause. It stands here so that the turn of one ask can serve the next.
    deadline: AtomicU64,
    /// The terms of the cause, for whoever wants to look at them.
    meta: OnceLock<Box<Meta>>,
    /// Whether what it sends waits for its commit.
    pub(crate) stages: bool,
    /// Whether it is an `#[on_start]`.
    pub(crate) starts: bool,
    pool: OnceLock<Arc<AtomicU32>>,
    asks: AtomicU32,
    updates: AtomicU32,
    /// Whether an item of its streamed reply is on its way.
    streamed: AtomicBool,
    /// Whether `notes` holds something.
    noted: AtomicBool,
    notes: Mutex<Notes>,
}

/// Where a handler's effects are written down: most handlers write nothing.
struct Notes {
    open: bool,
    book: Option<Box<Book>>,
}

/// What a handler inherits from the message that it handles.
#[derive(Debug, Default)]
pub(crate) struct Cause(Terms);

impl Cause {
    /// That of a delivery, which keeps its payload only.
    pub(crate) fn of(delivery: &mut Delivery) -> Self {
        Self(std::mem::take(&mut delivery.terms))
    }

    /// What `#[on_start]` and `#[on_stop]` run for.
    pub(crate) fn lifecycle(name: &'static str) -> Self {
        let mut cause = Self::default();
        cause.0.route.exclusive = true;
        cause.0.cover_mut().message_type = Some(MessageType::declared(name));
        cause
    }

    /// The message's id, if anybody has needed one.
    pub(crate) fn message_id(&self) -> Option<MessageId> {
        let id = self.id();
        (id != NO_ID).then_some(id)
    }

    /// Whether its handler holds the instance for itself.
    pub(crate) const fn is_exclusive(&self) -> bool {
        self.0.route.exclusive
    }

    pub(crate) fn hops(&self) -> u8 {
        self.cover.as_ref().map_or(0, |cover| cover.hops)
    }

    fn budget(&self) -> u32 {
        let own = self.cover.as_ref();
        own.map_or(BUDGET_DEFAULT, |cover| cover.budget)
    }
}

impl Deref for Cause {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.0
    }
}

/// The id of an envelope that nobody has looked at: a direct message gets its own when somebody first does, since an id
/// costs a look at the clock.
pub(crate) const NO_ID: MessageId = MessageId::from_bytes([0; 16]);

/// Where the ordinals of state updates begin, so that they never meet those of asks.
const UPDATES_FROM: u32 = 1 << 31;

/// What a handler has staged.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) sends: Vec<Draft>,
    /// Bytes of the payloads of `sends`.
    staged_bytes: usize,
    /// The message types of the timers that an `#[on_start]` has started.
    pub(crate) start_timers: Vec<MessageType>,
    pub(crate) timers: Vec<TimerChange>,
    pub(crate) reply: Option<Payload>,
    /// Why the message fails although its handler returns well: a state that was refused, for one.
    pub(crate) failure: Option<Failure>,
    /// Why the instance can't go on.
    pub(crate) crash: Option<String>,
    pub(crate) commits: Vec<PendingCommit>,
}

/// A commit of a `&self` handler that is on its way.
pub(crate) type PendingCommit = ToItsEnd<Result<(), Failure>>;

/// A timer that a durable handler starts or cancels when it commits.
#[derive(Debug)]
pub(crate) enum TimerChange {
    Put {
        timer: u64,
        due_unix_ms: u64,
        record: Bytes,
    },
    Remove {
        timer: u64,
    },
}

impl Turn {
    pub(crate) fn new(host: Arc<dyn Host>, port: Arc<Port>, instance: u32, cause: Cause) -> Self {
        Self {
            host,
            port,
            instance,
            deadline: AtomicU64::new(cause.deadline.nanos()),
            cause,
            meta: OnceLock::new(),
            stages: false,
            starts: false,
            pool: OnceLock::new(),
            asks: AtomicU32::new(0),
            updates: AtomicU32::new(0),
            streamed: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            notes: Mutex::new(Notes {
                open: true,
                book: None,
            }),
        }
    }

    /// Who takes the turn.
    pub(crate) fn agent(&self) -> &AgentId {
        &self.port.id
    }

    /// Whether it is taken in this runtime.
    pub(crate) fn is_of(&self, host: &dyn Host) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.host), host)
    }

    /// The type of the message that it handles.
    pub(crate) fn message_type(&self) -> &MessageType {
        self.cause.message_type(&self.port.table)
    }

    /// The terms of the message that it handles.
    pub(crate) fn meta(&self) -> &Meta {
        self.meta.get_or_init(|| Box::new(self.terms()))
    }

    /// The deadline of the message that it handles.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.limit().moment()
    }

    fn limit(&self) -> Deadline {
        Deadline::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    fn terms(&self) -> Meta {
        Meta {
            deadline: self.deadline(),
            ..self.cause.meta()
        }
    }

    /// Goes on with a message for which [`Turn::is_as_new_for`] holds.
    pub(crate) fn go_on_with(&self, delivery: &Delivery) {
        let deadline = delivery.deadline;
        self.deadline.store(deadline.nanos(), Ordering::Relaxed);
    }

    /// Whether a message would find this turn as a new one but for its deadline: its cause is as plain a message to the same
    /// handler, and nothing was done in it.
    pub(crate) fn is_as_new_for(&self, delivery: &Delivery) -> bool {
        let cause = &self.cause;
        let same = cause.route == delivery.route
            && cause.priority == delivery.priority
            && cause.expects_reply == delivery.expects_reply;
        let plain = cause.cover.is_none() && delivery.cover.is_none();
        let untouched = !self.noted.load(Ordering::Relaxed)
            && !self.streamed.load(Ordering::Relaxed)
            && self.pool.get().is_none()
            && self.meta.get().is_none();
        same && plain && untouched && !self.stages
    }

    /// Whether its handler has written any effect down.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Acquire)
    }

    /// Starts over for another message.
    pub(crate) fn reset(&mut self, mut cause: Cause, stages: bool) {
        let pool = cause.0.cover.as_mut().and_then(|cover| cover.pool.take());
        self.pool = pool.map_or_else(OnceLock::new, OnceLock::from);
        self.meta.take();
        *self.deadline.get_mut() = cause.deadline.nanos();
        self.cause = cause;
        self.stages = stages;
        *self.asks.get_mut() = 0;
        *self.updates.get_mut() = 0;
        *self.streamed.get_mut() = false;
        let notes = self.notes.get_mut().unwrap_or_else(PoisonError::into_inner);
        notes.open = true;
        notes.book = None;
        *self.noted.get_mut() = false;
    }

    /// The turn of the handler that runs on this thread right now.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `f`, which does not panic, as part of the turn in `own`. The turn is lent to the thread and taken back, so
    /// that nothing is counted.
    pub(crate) fn enter<R>(own: &mut Option<Arc<Self>>, f: impl FnOnce() -> R) -> R {
        let outer = CURRENT.replace(own.take());
        let result = f();
        *own = CURRENT.replace(outer);
        result
    }

    /// Looks at the turn of the handler that runs on this thread right now.
    pub(crate) fn with_current<R>(look: impl FnOnce(Option<&Self>) -> R) -> R {
        CURRENT.with_borrow(|turn| look(turn.as_deref()))
    }

    /// Writes an effect down. False when the turn is over.
    pub(crate) fn note<R>(&self, write: impl FnOnce(&mut Book) -> R) -> Option<R> {
        let mut notes = self.notes();
        self.noted.store(true, Ordering::Release);
        notes
            .open
            .then(|| write(notes.book.get_or_insert_default()))
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a message that this turn sends its terms: one hop more, one of the budget spent, the same deadline and trace.
    pub(crate) fn inherit(&self, delivery: &mut Delivery) -> Result<(), SendError> {
        let hops = self.cause.hops();
        if hops >= HOPS_MAX {
            return Err(SendError::TooManyHops);
        }
        let pool = self
            .pool
            .get_or_init(|| Arc::new(AtomicU32::new(self.cause.budget())));
        let left = pool
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .map_err(|_| SendError::BudgetSpent)?
            - 1;
        delivery.deadline = self.limit().min(delivery.deadline);
        let cover = delivery.cover_mut();
        cover.sender = self.agent().clone();
        cover.hops = hops + 1;
        cover.budget = left.min(BUDGET_DEFAULT);
        cover.pool = Some(Arc::clone(pool));
        if let Some(own) = &self.cause.cover {
            cover.extra.clone_from(&own.extra);
        }
        Ok(())
    }

    /// The envelope that this turn handles, with a payload of its own.
    pub(crate) fn envelope(&self, payload: Payload) -> Envelope {
        let id = self.cause.message_id();
        let mut envelope = Envelope::new(
            id.unwrap_or_else(|| self.host.core().new_id()),
            self.cause.sender().clone(),
            self.agent().clone(),
            self.message_type().clone(),
            payload,
        );
        envelope.meta = self.terms();
        envelope.meta.budget = self.budget_left();
        envelope
    }

    /// Whether nothing can be handled at this port before this turn is over.
    pub(crate) fn is_alone_in(&self, port: &Port) -> bool {
        *self.agent() == port.id && self.cause.is_exclusive() && port.slots.len() == 1
    }

    /// What is left of the budget.
    pub(crate) fn budget_left(&self) -> u32 {
        let fixed = self.cause.budget();
        self.pool
            .get()
            .map_or(fixed, |pool| pool.load(Ordering::Relaxed))
    }

    /// The id of the next ask of a handler that may run again, so that a rerun asks the same.
    pub(crate) fn next_ask_id(&self) -> Option<MessageId> {
        let message = self.cause.message_id().filter(|_| self.stages)?;
        Some(message.derive(self.asks.fetch_add(1, Ordering::Relaxed)))
    }

    /// The id of the next state update of a `&self` handler that may run again.
    pub(crate) fn next_update_id(&self) -> Option<MessageId> {
        let message = self.cause.message_id().filter(|_| self.stages)?;
        let ordinal = self.updates.fetch_add(1, Ordering::Relaxed);
        Some(message.derive(UPDATES_FROM + ordinal))
    }

    /// An item of its streamed reply is on its way: it can't be taken back.
    pub(crate) fn streams(&self) {
        self.streamed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_streamed(&self) -> bool {
        self.streamed.load(Ordering::Relaxed)
    }

    /// Keeps a message, whose payload is encoded, until the turn commits.
    pub(crate) fn stage(&self, draft: Draft) -> Result<(), SendError> {
        let bytes = draft.letter.delivery.encoded_len().unwrap_or(0);
        let staged = self.note(|book| {
            if book.staged_bytes + bytes > STAGED_BYTES_MAX {
                return Err(SendError::TooMuchStaged {
                    bytes_max: STAGED_BYTES_MAX,
                });
            }
            book.staged_bytes += bytes;
            book.sends.push(draft);
            Ok(())
        });
        staged.unwrap_or(Err(SendError::TurnOver))
    }

    /// How many messages wait for the turn's commit.
    pub(crate) fn staged_sends(&self) -> usize {
        self.note(|book| book.sends.len()).unwrap_or(0)
    }

    /// Which timer of its message type an `#[on_start]` starts now, from 0.
    pub(crate) fn start_timer(&self, message_type: &MessageType) -> u32 {
        let ordinal = self.note(|book| {
            let before = book.start_timers.iter();
            let ordinal = before.filter(|own| *own == message_type).count();
            book.start_timers.push(message_type.clone());
            ordinal
        });
        u32::try_from(ordinal.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// How many changes of timers wait for the turn's commit.
    pub(crate) fn staged_timers(&self) -> usize {
        if !self.stages {
            return 0;
        }
        self.note(|book| book.timers.len()).unwrap_or(0)
    }

    /// Ends the turn: nothing can be staged any more.
    /// Gives what was written down, if anything.
    pub(crate) fn close(&self) -> Option<Box<Book>> {
        if !self.stages && !self.noted.load(Ordering::Acquire) {
            // Nothing is staged here, so nothing is lost when a task that the handler left behind writes too late.
            return None;
        }
        let mut notes = self.notes();
        notes.open = false;
        notes.book.take()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("agent", self.agent())
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

//! Messages that an agent sends itself later, once or again and again.
//!
//! A durable agent's timer is an entry in the engine: it begins when the handler that started it commits, and fires by one
//! batch that takes the entry out (or moves it on) and appends the message to the inbox, so that it fires exactly once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::draft::{Draft, Handle};
use super::error::{RequestError, SendError};
use super::host::{DeadLetter, Host, Sending};
use super::turn::{TimerChange, Turn};
use crate::model::limits::TIMERS_MAX;
use crate::model::{AgentId, Codec, MessageType, Payload, PayloadError, Result};
use crate::store::{Batch, Op, StoreError};

/// The timers of one agent id.
pub(crate) struct Timers {
    agent: AgentId,
    host: Arc<dyn Host>,
    durable: bool,
    running: Mutex<Running>,
    /// Whether the engine may hold timers that nobody has begun.
    doubtful: AtomicBool,
}

#[derive(Default)]
struct Running {
    closed: bool,
    by_number: BTreeMap<u64, Live>,
    /// How many were begun so far.
    begun: u64,
}

/// A timer that runs.
struct Live {
    task: AbortHandle,
    record: Bytes,
    /// What it is known by to the next `#[on_start]`.
    start: Option<(MessageType, u32)>,
    /// Which beginning of its number it is.
    begun: u64,
}

/// A timer that can be cancelled: [`Context::cancel`](super::Context::cancel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerHandle(u64);

/// A timer as it is stored: MessagePack, an array.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    message_type: MessageType,
    payload: Bytes,
    period_ms: Option<u64>,
    /// Which of the timers of its message type an `#[on_start]` has started it as, from 0: the next `#[on_start]` means the
    /// same one.
    start: Option<u32>,
}

impl Timers {
    pub(crate) fn new(agent: AgentId, host: Arc<dyn Host>, durable: bool) -> Self {
        Self {
            agent,
            host,
            durable,
            running: Mutex::default(),
            doubtful: AtomicBool::new(false),
        }
    }

    /// Starts the timers that an earlier process left.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.durable {
            return Ok(());
        }
        let core = self.host.core();
        let mut after = None;
        loop {
            let page = core.engine.timers(&self.agent, after, 256).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.timer);
            for entry in page {
                self.begin(entry.timer, entry.due_unix_ms, entry.record);
            }
        }
    }

    /// A commit that starts timers was not answered for.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    /// Begins what such a commit has started after all.
    pub(crate) async fn settle_doubts(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.doubtful.swap(false, Ordering::AcqRel) {
            self.restore().await.inspect_err(|_| self.doubt())?;
        }
        Ok(())
    }

    /// Starts what a handler's commit has made durable, and cancels what it has cancelled.
    pub(crate) fn committed(self: &Arc<Self>, changes: Vec<TimerChange>) {
        for change in changes {
            match change {
                TimerChange::Put {
                    timer,
                    due_unix_ms,
                    record,
                } => self.begin(timer, due_unix_ms, record),
                TimerChange::Remove { timer } => {
                    self.abort(timer);
                    // It may have fired meanwhile, and moved itself on: what it has submitted comes before this.
                    let batch = Batch::new().with(self.removed(timer));
                    drop(self.host.core().engine.commit(batch));
                }
            }
        }
    }

    /// Ends them all: the agent has ended. A durable agent's stay in the engine.
    pub(crate) fn close(&self) {
        let mut running = self.running();
        running.closed = true;
        for live in std::mem::take(&mut running.by_number).into_values() {
            live.task.abort();
        }
    }

    /// Begins a timer, in place of an earlier one of its number.
    fn begin(self: &Arc<Self>, timer: u64, due_unix_ms: u64, stored: Bytes) {
        let record: Record = match Codec::MessagePack.decode(&stored) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(agent = %self.agent, %error, "a stored timer can't be read");
                return;
            }
        };
        let mut running = self.running();
        let runs = running.by_number.get(&timer);
        if running.closed || runs.is_some_and(|live| live.record == stored) {
            return;
        }
        running.begun += 1;
        let begun = running.begun;
        let timers = Arc::clone(self);
        let start = record
            .start
            .map(|ordinal| (record.message_type.clone(), ordinal));
        let own = stored.clone();
        let task = self.host.core().tasks.spawn(async move {
            timers.run(timer, due_unix_ms, record, &own).await;
            timers.ended(timer, begun);
        });
        let live = Live {
            task: task.abort_handle(),
            record: stored,
            start,
            begun,
        };
        if let Some(before) = running.by_number.insert(timer, live) {
            before.task.abort();
        }
    }

    /// A timer has fired for the last time.
    fn ended(&self, timer: u64, begun: u64) {
        let mut running = self.running();
        if running
            .by_number
            .get(&timer)
            .is_some_and(|live| live.begun == begun)
        {
            running.by_number.remove(&timer);
        }
    }

    async fn run(&self, timer: u64, mut due_unix_ms: u64, record: Record, stored: &Bytes) {
        let core = self.host.core();
        loop {
            let wait = due_unix_ms.saturating_sub(core.unix_ms());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let next = record.period_ms.map(|period| {
                // What was missed comes once.
                let missed = core.unix_ms().saturating_sub(due_unix_ms) / period.max(1);
                due_unix_ms + (missed + 1) * period.max(1)
            });
            core.trace(&self.agent, format_args!("timer {}", record.message_type));
            if self.durable {
                self.fire_durable(timer, next, &record, stored).await;
            } else {
                self.fire(&record).await;
            }
            match next {
                Some(next) => due_unix_ms = next,
                None => return,
            }
        }
    }

    async fn fire(&self, record: &Record) {
        let draft = self.message(record);
        match self.host.send(&draft.to, draft.letter) {
            Sending::Done(Ok(())) => {}
            Sending::Done(Err(error)) => {
                tracing::warn!(agent = %self.agent, %error, "a timer's message was not sent");
            }
            Sending::Wait(wait) => {
                if let Err(error) = wait.await {
                    tracing::warn!(agent = %self.agent, %error, "a timer's message was not sent");
                }
            }
        }
    }

    /// Takes the timer out, or moves it on, and appends its message: one batch, tried again until the engine takes it. All
    /// tries send the same message, so that one that did come about is not repeated.
    async fn fire_durable(&self, timer: u64, next: Option<u64>, record: &Record, stored: &Bytes) {
        let core = self.host.core();
        let change = match next {
            None => self.removed(timer),
            Some(due_unix_ms) => Op::TimerPut {
                agent: self.agent.clone(),
                timer,
                due_unix_ms,
                record: stored.clone(),
            },
        };
        let id = core.new_id();
        let mut tries = 0;
        loop {
            let mut draft = self.message(record);
            draft.letter.delivery.cover_mut().id = id;
            let batch = Batch::new().with(change.clone());
            match self.host.append(draft, batch).await {
                Ok(()) => return,
                Err(error @ (SendError::UnknownMessageType { .. } | SendError::Payload(_))) => {
                    return self.give_up(timer, record, &error).await;
                }
                Err(error) => {
                    tracing::warn!(agent = %self.agent, %error, "a timer could not fire: trying again");
                    tries += 1;
                    let wait = super::backoff::REDELIVERY.wait(tries, &core.entropy);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Nobody will ever take the timer's message: it goes, and the message is a dead letter. Where the engine does not take
    /// that, the next start of the agent tries again.
    async fn give_up(&self, timer: u64, record: &Record, error: &SendError) {
        tracing::error!(agent = %self.agent, %error, "a timer is given up on");
        self.host.dead_letter(DeadLetter {
            envelope: self.message(record).into_envelope(),
            reason: error.to_string(),
        });
        let batch = Batch::new().with(self.removed(timer));
        if let Err(error) = self.host.core().engine.commit(batch).await {
            tracing::warn!(agent = %self.agent, %error, "a timer is still stored");
        }
        let live = self.running().by_number.remove(&timer);
        if let Some(live) = live {
            live.task.abort();
        }
    }

    fn removed(&self, timer: u64) -> Op {
        Op::TimerRemove {
            agent: self.agent.clone(),
            timer,
        }
    }

    /// The timer that the last `#[on_start]` has started as this one.
    fn started(&self, message_type: &MessageType, ordinal: u32) -> Option<(u64, Bytes)> {
        let running = self.running();
        let mut all = running.by_number.iter();
        let is_same = |live: &Live| {
            let start = live.start.as_ref();
            start.is_some_and(|(own, number)| own == message_type && *number == ordinal)
        };
        let (timer, live) = all.find(|(_, live)| is_same(live))?;
        Some((*timer, live.record.clone()))
    }

    fn message(&self, record: &Record) -> Draft {
        let to = Arc::new(Handle {
            host: Arc::clone(&self.host),
            id: self.agent.clone(),
            port: self.host.port(&self.agent),
        });
        let payload = Payload::encoded(Codec::MessagePack, record.payload.clone());
        let mut draft = Draft::new(to, None, record.message_type.clone(), payload);
        draft.letter.delivery.cover_mut().sender = self.agent.clone();
        draft
    }

    /// A message type that this agent handles.
    fn checked(&self, message_type: &str) -> Result<MessageType> {
        let message_type = MessageType::new(message_type)?;
        match self.host.port(&self.agent) {
            Some(port) if port.route(&message_type).is_none() => {
                Err(SendError::UnknownMessageType {
                    target: self.agent.clone(),
                    handled: port.table.message_types(),
                    message_type,
                }
                .into())
            }
            _ => Ok(message_type),
        }
    }

    fn abort(&self, timer: u64) -> bool {
        let live = self.running().by_number.remove(&timer);
        live.inspect(|live| live.task.abort()).is_some()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a timer: now, or when the handler commits. One that the `#[on_start]` before has started goes on as it is.
pub(crate) fn start<P: Serialize + ?Sized>(
    timers: &Arc<Timers>,
    turn: &Turn,
    after: Duration,
    period: Option<Duration>,
    message_type: &str,
    payload: &P,
) -> Result<TimerHandle> {
    let core = timers.host.core();
    let message_type = timers.checked(message_type)?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let start = turn.starts.then(|| turn.start_timer(&message_type));
    let before = start.and_then(|ordinal| timers.started(&message_type, ordinal));
    let payload = Codec::MessagePack.encode(payload)?;
    let (bytes, bytes_max) = (payload.len(), core.options.payload_bytes_max);
    if bytes > bytes_max {
        return Err(PayloadError::TooLarge { bytes, bytes_max }.into());
    }
    let record = Codec::MessagePack.encode(&Record {
        message_type,
        payload,
        period_ms: period.map(millis),
        start,
    })?;
    let timer = match before {
        Some((timer, same)) if same == record => return Ok(TimerHandle(timer)),
        Some((timer, _)) => timer,
        None => core.entropy.next_u64(),
    };
    if timers.running().by_number.len() + turn.staged_timers() >= TIMERS_MAX {
        let too_many = RequestError::TooManyTimers {
            agent: timers.agent.clone(),
            timers_max: TIMERS_MAX,
        };
        return Err(too_many.into());
    }
    let due_unix_ms = core.unix_ms().saturating_add(match after {
        Duration::ZERO => 0,
        after => millis(after),
    });
    if turn.stages {
        let change = TimerChange::Put {
            timer,
            due_unix_ms,
            record,
        };
        turn.note(|book| book.timers.push(change));
    } else {
        timers.begin(timer, due_unix_ms, record);
    }
    Ok(TimerHandle(timer))
}

/// Cancels a timer: now, or when the handler commits.
pub(crate) fn cancel(timers: &Arc<Timers>, turn: &Turn, handle: &TimerHandle) -> bool {
    if !turn.stages {
        return timers.abort(handle.0);
    }
    let runs = timers.running().by_number.contains_key(&handle.0);
    let cancelled = turn.note(|book| {
        let staged = |change: &TimerChange| matches!(change, TimerChange::Put { timer, .. } if *timer == handle.0);
        let before = book.timers.len();
        book.timers.retain(|change| !staged(change));
        let was_staged = book.timers.len() < before;
        if runs && !was_staged {
            book.timers.push(TimerChange::Remove { timer: handle.0 });
        }
        was_staged || runs
    });
    cancelled.unwrap_or(false)
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("agent", &self.agent)
            .field("running", &self.running().by_number.len())
            .finish_non_exhaustive()
    }
}

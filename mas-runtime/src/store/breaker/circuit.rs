//! The circuit: whether calls may reach the engine, and the probe that finds out when they may again.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep, timeout};

use crate::model::limits::{CIRCUIT_FAILURES_MAX, CIRCUIT_PAUSE_MAX, CIRCUIT_PAUSE_MIN};
use crate::model::{Clock, Moment, chain};
use crate::store::{Batch, CommitError, Engine, StoreError};

/// What has become of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CircuitChange {
    /// Calls fail at once from now on.
    Opened {
        /// What opened it.
        reason: Arc<str>,
    },
    /// Calls reach the engine again.
    Closed {
        /// How long they did not.
        after: Duration,
    },
}

pub(super) struct Circuit {
    /// For the probe. The breaker holds the engine, and lets go of it when it wants to.
    engine: Weak<dyn Engine>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    told: Box<dyn Fn(CircuitChange) + Send + Sync>,
    /// Where timers and the probe run.
    home: Option<Handle>,
    /// Whether calls are refused: what `state` says, to be read without its lock.
    refuses: AtomicBool,
    /// Commits in a row that the medium has failed.
    failures: AtomicU32,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    /// Why it is open.
    reason: Arc<str>,
    /// How long it is open before the next probe.
    pause: Duration,
    opened: Moment,
    /// When it was closed again, the last time.
    closed: Option<Moment>,
    probe: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Closed,
    Open {
        until: Moment,
    },
    HalfOpen,
    /// The engine was closed, or nobody holds it any more.
    Over,
}

impl Circuit {
    pub(super) fn new(
        engine: &Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        told: Box<dyn Fn(CircuitChange) + Send + Sync>,
    ) -> Self {
        Self {
            engine: Arc::downgrade(engine),
            clock,
            deadline,
            told,
            home: Handle::try_current().ok(),
            refuses: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            state: Mutex::new(State {
                standing: Standing::Closed,
                reason: Arc::from(""),
                pause: CIRCUIT_PAUSE_MIN,
                opened: Moment::default(),
                closed: None,
                probe: None,
            }),
        }
    }

    /// Why a call may not reach the engine now, if it may not.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        if !self.refuses.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        let retry_after = match state.standing {
            Standing::Closed => return None,
            Standing::Over => return Some(StoreError::Closed),
            Standing::Open { until } => until.since(self.clock.now()),
            // The probe may be answered at any time, or not.
            Standing::HalfOpen => state.pause,
        };
        Some(StoreError::Unavailable {
            reason: Arc::clone(&state.reason),
            retry_after,
        })
    }

    /// A timer for a call that begins to wait. None where there is no tokio.
    pub(super) fn timer(&self) -> Option<Pin<Box<Sleep>>> {
        let home = self.home()?;
        let _home = home.enter();
        Some(Box::pin(sleep(self.deadline)))
    }

    /// A commit came about.
    pub(super) fn committed(&self) {
        // Mostly there is nothing to forget, and a look is cheaper than a write that all threads share.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// The medium failed a commit.
    pub(super) fn failed(self: &Arc<Self>, error: &CommitError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= CIRCUIT_FAILURES_MAX {
            let text = format!(
                "{failures} commits in a row failed, the last: {}",
                chain(error)
            );
            self.open(text.into());
        }
    }

    /// The engine did not do something in time. Gives the error for its caller.
    pub(super) fn timed_out(self: &Arc<Self>, action: &'static str) -> StoreError {
        let after = self.deadline;
        let error = StoreError::TimedOut { action, after };
        self.open(error.to_string().into());
        error
    }

    /// Opens it, if it is closed.
    fn open(self: &Arc<Self>, reason: Arc<str>) {
        // Without anybody to probe it would never close again.
        let Some(home) = self.home() else { return };
        let mut state = self.state();
        if state.standing != Standing::Closed {
            return;
        }
        let now = self.clock.now();
        // The last probe went well and calls did not: there is no point in asking as often as before.
        let too_soon = |closed: Moment| now.since(closed) < CIRCUIT_PAUSE_MAX;
        state.pause = if state.closed.is_some_and(too_soon) {
            longer(state.pause)
        } else {
            CIRCUIT_PAUSE_MIN
        };
        state.opened = now;
        state.reason = Arc::clone(&reason);
        state.standing = Standing::Open {
            until: now + state.pause,
        };
        state.probe = Some(home.spawn(probe(Arc::downgrade(self))));
        self.refuses.store(true, Ordering::Release);
        drop(state);
        tracing::warn!(%reason, "the engine is unavailable: calls fail at once until it works again");
        (self.told)(CircuitChange::Opened { reason });
    }

    /// The pause is over. Gives the engine to probe, if there is anything to do still.
    fn half_open(&self) -> Option<Arc<dyn Engine>> {
        let engine = self.engine.upgrade()?;
        let mut state = self.state();
        if !matches!(state.standing, Standing::Open { .. }) {
            return None;
        }
        state.standing = Standing::HalfOpen;
        Some(engine)
    }

    /// The probe failed. Gives the next pause, if there is anything to do still.
    fn open_again(&self, reason: String) -> Option<Duration> {
        let mut state = self.state();
        if state.standing != Standing::HalfOpen {
            return None;
        }
        tracing::warn!(%reason, "the engine is still unavailable");
        state.pause = longer(state.pause);
        state.reason = reason.into();
        state.standing = Standing::Open {
            until: self.clock.now() + state.pause,
        };
        Some(state.pause)
    }

    /// The probe went well.
    fn close_again(&self) {
        let mut state = self.state();
        if state.standing != Standing::HalfOpen {
            return;
        }
        let now = self.clock.now();
        let after = now.since(state.opened);
        state.standing = Standing::Closed;
        state.closed = Some(now);
        state.probe = None;
        self.failures.store(0, Ordering::Relaxed);
        self.refuses.store(false, Ordering::Release);
        drop(state);
        tracing::info!(?after, "the engine works again");
        (self.told)(CircuitChange::Closed { after });
    }

    /// No call reaches the engine any more, and no probe.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.standing = Standing::Over;
        self.refuses.store(true, Ordering::Release);
        if let Some(probe) = state.probe.take() {
            probe.abort();
        }
    }

    fn home(&self) -> Option<Handle> {
        self.home.clone().or_else(|| Handle::try_current().ok())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two writes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries the engine after each pause, until a probe goes well. It holds neither the circuit nor the engine while it waits.
async fn probe(circuit: Weak<Circuit>) {
    let Some((mut pause, deadline)) = circuit
        .upgrade()
        .map(|circuit| (circuit.state().pause, circuit.deadline))
    else {
        return;
    };
    loop {
        sleep(pause).await;
        let Some(engine) = circuit.upgrade().and_then(|circuit| circuit.half_open()) else {
            return;
        };
        let answer = answer(engine, deadline).await;
        let Some(circuit) = circuit.upgrade() else {
            return;
        };
        match answer {
            Ok(()) => return circuit.close_again(),
            Err(reason) => match circuit.open_again(reason) {
                Some(next) => pause = next,
                None => return,
            },
        }
    }
}

/// Has the engine commit nothing, and waits for as long as it takes: one that is stuck answers when it comes back. A disk
/// without room answers, too, and tells each commit for itself.
async fn answer(engine: Arc<dyn Engine>, deadline: Duration) -> Result<(), String> {
    let commit = async move {
        let commit = engine.commit(Batch::new());
        drop(engine);
        commit.await
    };
    // The engine may be anybody's, and the circuit must not stay open for a panic of it.
    let mut commit = std::pin::pin!(AssertUnwindSafe(commit).catch_unwind());
    let answer = match timeout(deadline, &mut commit).await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::warn!(
                ?deadline,
                "the engine does not answer the probe: waiting for it"
            );
            commit.await
        }
    };
    match answer {
        Ok(Ok(_) | Err(CommitError::Full { .. })) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the engine panicked".to_owned()),
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(CIRCUIT_PAUSE_MAX)
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Circuit")
            .field("standing", &state.standing)
            .field("pause", &state.pause)
            .finish_non_exhaustive()
    }
}

//! Where a runtime keeps things, its clock and its bounds.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::durability::{Home, LEFT_BEHIND, LeveledEngine, Levels, listed};
use super::{Inner, Runtime};
use crate::actor::{
    Core, Durability, Event, EventKind, Host, Intercept, Options, Supervisor, Trace,
};
use crate::model::limits::{ENGINE_DEADLINE, HEARTBEAT_EVERY, LEASE};
use crate::model::{Clock, Entropy, Failure, RuntimeId, SystemClock};
use crate::store::{
    Breaker, CircuitChange, EmbeddedEngine, EmbeddedOptions, Encryption, Engine, MemoryEngine,
    OpenError, Recovery, StoreError,
};

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The engine's data directory can't be opened.
    #[error("the data directory can't be opened")]
    Open(#[from] OpenError),
    /// The engine can't be read.
    #[error("the engine can't be read")]
    Store(#[from] StoreError),
    /// Options for the store in a data directory were given, but no data directory. Nothing was kept in memory instead.
    #[error(
        "`key_file` and `store_options` need `data_dir`: without it there is no store on a disk"
    )]
    NoDataDir,
    /// Both a data directory and an engine were given.
    #[error("give either `data_dir` or `engine`, not both")]
    TwoEngines,
    /// The supervisor did not start.
    #[error("the supervisor did not start")]
    Supervisor(#[source] Failure),
    /// A setting that makes no sense.
    #[error("{reason}")]
    Setting {
        /// What is wrong.
        reason: String,
    },
}

/// A runtime to be.
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    data_dir: Option<PathBuf>,
    store_options: Option<EmbeddedOptions>,
    engine: Option<Arc<dyn Engine>>,
    engine_deadline: Duration,
    durability: Durability,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    options: Options,
    heartbeat: Duration,
    lease: Duration,
    watch: Option<(Arc<dyn Trace>, Arc<dyn Intercept>)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            data_dir: None,
            store_options: None,
            engine: None,
            engine_deadline: ENGINE_DEADLINE,
            durability: Durability::default(),
            clock: None,
            seed: None,
            options: Options::default(),
            heartbeat: HEARTBEAT_EVERY,
            lease: LEASE,
            watch: None,
        }
    }
}

impl Builder {
    /// Keeps everything under this directory, which is made if it is not there. Without it everything is in memory.
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// Seals everything under the data directory with the newest key of this file; [`Encryption::KeyFile`] says more.
    ///
    /// # Examples
    /// ```no_run
    /// # use mas_runtime::runtime::{Runtime, StartError};
    /// # async fn start() -> Result<Runtime, StartError> {
    /// // The file was made once, with `KeyFile::create`.
    /// Runtime::builder().data_dir("./data").key_file("./store.key").start().await
    /// # }
    /// ```
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        let options = self.store_options.unwrap_or_default();
        self.store_options = Some(options.encryption(Encryption::KeyFile(path.into())));
        self
    }

    /// How the store under the data directory is opened. It takes the place of what [`key_file`](Self::key_file) said before.
    pub fn store_options(mut self, options: EmbeddedOptions) -> Self {
        self.store_options = Some(options);
        self
    }

    /// Keeps everything in an engine of your own.
    pub fn engine(mut self, engine: impl Engine + 'static) -> Self {
        self.engine = Some(Arc::new(engine));
        self
    }

    /// How durably the things of agents are kept that do not say it themselves; [`Durability::Durable`] unless said.
    ///
    /// With [`Durability::Memory`] only what agents of other levels keep reaches the directory or the engine, and the records
    /// of [`Runtime::failures`]. Without a directory and an engine there is no disk, whatever anybody says.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long the engine may take to answer a call; 10 s unless said.
    ///
    /// A call that takes longer fails with `TimedOut` ([`StoreError`], [`CommitError`](crate::store::CommitError)), and so does
    /// a shutdown whose engine does not close in time. The engine's circuit opens then, as it does after 5 commits in a row
    /// that the disk failed: calls fail at once with `Unavailable`, and
    /// [`EventKind::EngineUnavailable`] says why. The engine is tried after 1 s, and again after longer and longer, up to 30 s.
    /// When it answers, calls reach it again, and [`EventKind::EngineResumed`] says so. A message that is in hand meanwhile is
    /// tried again then: nothing that was accepted is lost.
    pub fn engine_deadline(mut self, deadline: Duration) -> Self {
        self.engine_deadline = deadline;
        self
    }

    /// Keeps everything in an engine that others have, too.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn shared_engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Takes the time from another clock than the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes ids and jitter reproducible.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The largest payload in encoded bytes; 1 MiB unless said.
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.options.payload_bytes_max = bytes;
        self
    }

    /// How long a stop waits for running handlers; 5 s unless said.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.options.shutdown_grace = grace;
        self
    }

    /// How often leases are renewed, and how long they last; 30 s and 60 s unless said.
    pub fn heartbeat(mut self, every: Duration, lease: Duration) -> Self {
        self.heartbeat = every;
        self.lease = lease;
        self
    }

    /// Restarts instances at once each time, instead of waiting longer and longer.
    pub fn without_restart_backoff(mut self) -> Self {
        self.options.restart_backoff = false;
        self
    }

    /// Lets a test kit see and lose messages.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn watched(mut self, trace: Arc<dyn Trace>, intercept: Arc<dyn Intercept>) -> Self {
        self.watch = Some((trace, intercept));
        self
    }

    /// Opens the engine, takes up what an earlier process left, and starts.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing runs; the engine may have been opened and is closed again.
    pub async fn start(self) -> Result<Runtime, StartError> {
        self.check()?;
        let (engine, recovery) = self.open_engine().await?;
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let entropy = self
            .seed
            .map_or_else(Entropy::unpredictable, Entropy::seeded);
        let levels = Arc::new(Levels::new(self.durability));
        let supervisor = Supervisor::new().await.map_err(StartError::Supervisor)?;
        let started = clock.now();
        let inner = Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            id: RuntimeId::new(&entropy),
            started: clock.unix(),
            core: Core::new(
                Arc::clone(&clock),
                entropy,
                Arc::new(LeveledEngine::new(
                    Arc::clone(&levels),
                    guarded(engine, clock, self.engine_deadline, me.clone()),
                )),
                self.options,
            ),
            recovered: recovery.map(|recovery| Event {
                at: started,
                kind: EventKind::StoreRecovered(recovery),
            }),
            levels,
            open: AtomicBool::new(true),
            router: DashMap::new(),
            tables: Mutex::new(HashMap::new()),
            supervisor: Arc::clone(&supervisor),
            registry: super::Registry::default(),
            topics: super::Topics::default(),
            letters: super::Letters::default(),
            outboxes: super::Outboxes::default(),
            unattended: super::Unattended::default(),
            repeats: super::Repeats::default(),
            watches: Mutex::default(),
            heartbeat: self.heartbeat,
            lease: self.lease,
            stop_heartbeat: Notify::new(),
            closed: tokio::sync::watch::Sender::new(None),
        });
        if let Some((trace, intercept)) = self.watch {
            let _ = inner.core.trace.set(trace);
            let _ = inner.core.intercept.set(intercept);
        }
        let host: Arc<dyn Host> = Arc::clone(&inner) as _;
        supervisor.join(&host);
        recover(&inner).await?;
        inner.core.tasks.spawn(Arc::clone(&inner).beat());
        Ok(Runtime { inner })
    }

    fn check(&self) -> Result<(), StartError> {
        let reason = if self.heartbeat.is_zero() || self.lease < self.heartbeat {
            format!(
                "a lease of {:?} can't be renewed every {:?}: it must be longer, and the heartbeat more than zero",
                self.lease, self.heartbeat
            )
        } else if self.engine_deadline.is_zero() {
            "no engine answers within 0 s: the deadline must be more than zero".to_owned()
        } else {
            return Ok(());
        };
        Err(StartError::Setting { reason })
    }

    /// The engine, and what opening it has mended.
    async fn open_engine(&self) -> Result<(Arc<dyn Engine>, Option<Recovery>), StartError> {
        if self.data_dir.is_none() && self.store_options.is_some() {
            return Err(StartError::NoDataDir);
        }
        match (&self.data_dir, &self.engine) {
            (Some(_), Some(_)) => Err(StartError::TwoEngines),
            (None, Some(engine)) => Ok((Arc::clone(engine), None)),
            (None, None) => Ok((Arc::new(MemoryEngine::new()), None)),
            (Some(directory), None) => {
                let directory = directory.clone();
                let options = self.store_options.clone().unwrap_or_default();
                let opened =
                    tokio::task::spawn_blocking(move || EmbeddedEngine::open(directory, options));
                let opened = opened.await;
                let engine = opened.map_err(|error| StoreError::failed(error.to_string()))??;
                let recovery = engine.recovery();
                let recovery = recovery.is_worth_telling().then(|| recovery.clone());
                Ok((Arc::new(engine), recovery))
            }
        }
    }
}

/// The engine behind its deadline and its circuit, whose changes are events.
fn guarded(
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    inner: Weak<Inner>,
) -> Breaker {
    Breaker::new(engine, clock, deadline, move |change| {
        let Some(inner) = inner.upgrade() else { return };
        inner.core.event(match change {
            CircuitChange::Opened { reason } => EventKind::EngineUnavailable {
                reason: reason.to_string(),
            },
            CircuitChange::Closed { after } => EventKind::EngineResumed { after },
        });
    })
}

/// Takes up what an earlier process left: who is known, and what waits to leave.
async fn recover(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = inner.core.engine.agents(after.as_ref(), 256).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.agent.clone());
        for entry in page {
            let word = listed(&entry.record);
            inner.levels.say(&entry.agent, word);
            if inner.levels.home_of(word) == Home::Memory {
                tracing::warn!(agent = %entry.agent, "{LEFT_BEHIND}");
            }
            inner.registry.keep(entry.agent, word);
        }
    }
    inner.outboxes.recover(inner).await
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("data_dir", &self.data_dir)
            .field("durability", &self.durability)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

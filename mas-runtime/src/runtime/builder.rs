//! Where a runtime keeps things, its clock and its bounds.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::{Inner, Runtime};
use crate::actor::{Core, Host, Intercept, Options, Supervisor, Trace};
use crate::model::limits::{HEARTBEAT_EVERY, LEASE};
use crate::model::{Clock, Entropy, Failure, RuntimeId, SystemClock};
use crate::store::{EmbeddedEngine, EmbeddedOptions, Engine, MemoryEngine, OpenError, StoreError};

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
    engine: Option<Arc<dyn Engine>>,
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
            engine: None,
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

    /// Keeps everything in an engine of your own.
    pub fn engine(mut self, engine: impl Engine + 'static) -> Self {
        self.engine = Some(Arc::new(engine));
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
        if self.heartbeat.is_zero() || self.lease < self.heartbeat {
            let reason = format!(
                "a lease of {:?} can't be renewed every {:?}: it must be longer, and the heartbeat more than zero",
                self.lease, self.heartbeat
            );
            return Err(StartError::Setting { reason });
        }
        let engine = self.open_engine().await?;
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let entropy = self
            .seed
            .map_or_else(Entropy::unpredictable, Entropy::seeded);
        let supervisor = Supervisor::new().await.map_err(StartError::Supervisor)?;
        let inner = Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            id: RuntimeId::new(&entropy),
            started: clock.unix(),
            core: Core::new(clock, entropy, engine, self.options),
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

    async fn open_engine(&self) -> Result<Arc<dyn Engine>, StartError> {
        match (&self.data_dir, &self.engine) {
            (Some(_), Some(_)) => Err(StartError::TwoEngines),
            (None, Some(engine)) => Ok(Arc::clone(engine)),
            (None, None) => Ok(Arc::new(MemoryEngine::new())),
            (Some(directory), None) => {
                let directory = directory.clone();
                let opened = tokio::task::spawn_blocking(move || {
                    EmbeddedEngine::open(directory, EmbeddedOptions::default())
                });
                match opened.await {
                    Ok(engine) => Ok(Arc::new(engine?)),
                    Err(error) => Err(StoreError::failed(error.to_string()).into()),
                }
            }
        }
    }
}

/// Takes up what an earlier process left: who is known, and what waits to leave.
async fn recover(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = inner.core.engine.agents(after.as_ref(), 256).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.agent.clone());
        for entry in page {
            inner.registry.keep(entry.agent);
        }
    }
    inner.outboxes.recover(inner).await
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("data_dir", &self.data_dir)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

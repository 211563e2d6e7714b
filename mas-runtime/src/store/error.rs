//! Why a read or a commit failed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::AgentId;

/// Bytes at rest that no version of mas wrote there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored {what} can't be read: {reason}")]
#[non_exhaustive]
pub struct Corrupt {
    /// What was read, with its key.
    pub what: String,
    /// What was expected and what came.
    pub reason: String,
}

impl Corrupt {
    /// Damage in `what`.
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// Why a read of a store failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine was closed; the caller used it too late.
    #[error("the engine is closed")]
    Closed,
    /// What is stored is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The engine stopped after a fault that it can't answer for. Opening it again may help.
    #[error("the engine has stopped: {reason}")]
    Failed {
        /// What happened.
        reason: Arc<str>,
    },
    /// The disk, or whatever the engine keeps things on, failed. Trying again may help.
    #[error("the store can't {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The engine did not answer in time. Trying again may help.
    #[error("the engine did not {action} within {after:?}")]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The engine was not asked: it has failed before, and its circuit is open. Trying again helps once it works.
    #[error("the engine is unavailable, look again in {retry_after:?}: {reason}")]
    Unavailable {
        /// What opened the circuit, or what has kept it open since.
        reason: Arc<str>,
        /// How long it is not worth trying, as far as one knows.
        retry_after: Duration,
    },
}

impl StoreError {
    /// A failure of the engine's medium. Engines on a network wrap theirs with [`io::Error::other`].
    pub fn io(action: &'static str, source: io::Error) -> Self {
        Self::Io {
            action,
            source: Arc::new(source),
        }
    }

    /// How long it is not worth trying again, when the engine was not even asked.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// An engine that stopped for good.
    pub fn failed(reason: impl Into<Arc<str>>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }
}

fn lacks_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

/// Which kind of entry a batch took for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A dead letter.
    DeadLetter,
    /// An entry of an inbox.
    Inbox,
    /// An entry of an outbox.
    Outbox,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeadLetter => "dead letter",
            Self::Inbox => "inbox entry",
            Self::Outbox => "outbox entry",
        })
    }
}

/// Why a batch was not committed.
///
/// After [`Conflict`](Self::Conflict), [`Gone`](Self::Gone), [`JournalMoved`](Self::JournalMoved),
/// [`TooLarge`](Self::TooLarge), [`Misuse`](Self::Misuse), [`Closed`](Self::Closed) and [`Unavailable`](Self::Unavailable)
/// nothing of the batch is stored, now or later. After the others the engine can't tell: the batch is stored whole or not at
/// all, after [`TimedOut`](Self::TimedOut) perhaps later.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The state has moved since the batch's author read it.
    #[error("the state of {agent} has version {stored}, the batch expects {expected}")]
    Conflict {
        /// Whose state.
        agent: AgentId,
        /// The version that the batch was made for.
        expected: u64,
        /// The version that is stored; 0 when none is.
        stored: u64,
    },
    /// An entry that the batch settles is not there, or no longer.
    #[error("{entry} {seq} of {agent} is not there")]
    Gone {
        /// Which kind of entry.
        entry: EntryKind,
        /// Whose.
        agent: AgentId,
        /// Its number.
        seq: u64,
    },
    /// The journal has grown, or is shorter than the batch's author thinks.
    #[error("journal {journal:?} ends at {end}, the batch expects {expected}")]
    JournalMoved {
        /// Which journal.
        journal: String,
        /// The end that the batch was made for.
        expected: u64,
        /// The number that its next record will have.
        end: u64,
    },
    /// The batch, or a part of it, is over a limit.
    #[error("{what} is {size}, the limit is {max}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The batch contradicts itself.
    #[error("the batch can't be meant: {what}")]
    Misuse {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The engine was closed before it took the batch.
    #[error("the engine is closed")]
    Closed,
    /// No room is left on the disk, or for this user or process. Trying again helps once there is.
    #[error("no room is left to {action}")]
    Full {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk, or whatever the engine keeps things on, failed.
    #[error("the store can't {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// What the batch builds on is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The engine stopped after a fault that it can't answer for. Opening it again may help.
    #[error("the engine has stopped: {reason}")]
    Failed {
        /// What happened.
        reason: Arc<str>,
    },
    /// The engine did not answer in time. It may store the batch yet.
    #[error("the engine did not {action} within {after:?}")]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The engine was not given the batch: it has failed before, and its circuit is open. Trying again helps once it works.
    #[error("the engine is unavailable, look again in {retry_after:?}: {reason}")]
    Unavailable {
        /// What opened the circuit, or what has kept it open since.
        reason: Arc<str>,
        /// How long it is not worth trying, as far as one knows.
        retry_after: Duration,
    },
}

impl CommitError {
    /// A failure of the engine's medium: [`Full`](Self::Full) when that is what the system says, else [`Io`](Self::Io).
    pub fn io(action: &'static str, source: io::Error) -> Self {
        StoreError::io(action, source).into()
    }

    /// Whether the batch may be stored although it failed: the engine can't tell.
    pub const fn may_be_stored(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::Io { .. }
                | Self::Corrupt(_)
                | Self::Failed { .. }
                | Self::TimedOut { .. }
        )
    }

    /// Whether the same batch may succeed when it is tried again as it is.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::Io { .. } | Self::TimedOut { .. } | Self::Unavailable { .. }
        )
    }

    /// Whether the medium failed, rather than the batch: what a circuit counts.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::TimedOut { .. })
    }

    /// How long it is not worth trying again, when the engine was not even asked.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            StoreError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            StoreError::Failed { reason } => Self::Failed { reason },
            StoreError::Io { action, source } if lacks_room(&source) => {
                Self::Full { action, source }
            }
            StoreError::Io { action, source } => Self::Io { action, source },
            StoreError::TimedOut { action, after } => Self::TimedOut { action, after },
            StoreError::Unavailable {
                reason,
                retry_after,
            } => Self::Unavailable {
                reason,
                retry_after,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        for kind in [
            io::ErrorKind::FileTooLarge,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::StorageFull,
        ] {
            let full = CommitError::io("write", kind.into());
            assert!(matches!(full, CommitError::Full { .. }) && full.is_retryable());
        }
        let other = CommitError::io("write", io::ErrorKind::PermissionDenied.into());
        assert!(matches!(other, CommitError::Io { .. }));
    }

    #[test]
    fn a_batch_that_timed_out_may_be_stored_and_one_that_was_refused_is_not() {
        let after = Duration::from_secs(10);
        let action = "commit a batch";
        let late = CommitError::from(StoreError::TimedOut { action, after });
        assert!(late.may_be_stored() && late.is_retryable() && late.is_outage());
        assert_eq!(
            late.to_string(),
            "the engine did not commit a batch within 10s"
        );
        let refused = CommitError::from(StoreError::Unavailable {
            reason: late.to_string().into(),
            retry_after: Duration::from_secs(1),
        });
        assert!(!refused.may_be_stored() && refused.is_retryable() && !refused.is_outage());
        assert_eq!(
            refused.to_string(),
            "the engine is unavailable, look again in 1s: the engine did not commit a batch within 10s"
        );
    }

    #[test]
    fn texts_say_what_was_expected_and_what_came() {
        let agent = AgentId::new("worker").unwrap();
        let conflict = CommitError::Conflict {
            agent: agent.clone(),
            expected: 3,
            stored: 4,
        };
        assert_eq!(
            conflict.to_string(),
            "the state of worker has version 4, the batch expects 3"
        );
        let gone = CommitError::Gone {
            entry: EntryKind::Inbox,
            agent,
            seq: 7,
        };
        assert_eq!(gone.to_string(), "inbox entry 7 of worker is not there");
        let corrupt: CommitError = Corrupt::new("state of worker", "empty").into();
        assert_eq!(
            corrupt.to_string(),
            "the stored state of worker can't be read: empty"
        );
    }
}

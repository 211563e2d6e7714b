//! What is kept: the traits of an engine, and the engines.
//!
//! The traits split what is kept by its meaning ([`StateStore`], [`Inbox`], [`Directory`], [`Journal`], [`Secrets`]) and
//! join every change in one atomic [`Batch`] ([`Commit`]). The store keeps bytes and numbers: what an envelope or a state
//! means, when a message is tried again and how many entries an inbox may hold is decided above.
//!
//! | file | holds |
//! |---|---|
//! | `traits` | [`Engine`] and its parts |
//! | `batch` | [`Batch`], [`Op`], [`Durability`], [`Committed`] |
//! | `entry` | what reads answer with |
//! | `error` | [`StoreError`], [`CommitError`], [`Corrupt`] |
//! | `keys` | the order of everything that is stored |
//! | `record` | the bytes of every value |
//! | `index` | the ordered map that an engine of this crate works on |
//! | `log` | the commit log of the embedded engine |
//! | `apply` | batches into changes: conditions, numbers, records |
//! | `read` | the reads over an index |
//! | `memory` | [`MemoryEngine`] |
//! | `embedded` | [`EmbeddedEngine`] |
//! | `log` | its commit log |
//! | `tree` | what the log has brought together |
//! | `sled` | the index of the tree |
//! | `disk` | files, on a disk or a simulated one |
//! | `breaker` | a deadline and a circuit around any engine |
//! | `seal` | encryption at rest: [`KeyFile`], [`KeyError`] |
//! | `conformance` | the suite that every engine passes, with feature `testkit` |

mod apply;
mod batch;
mod breaker;
#[cfg(any(test, feature = "testkit"))]
pub mod conformance;
mod disk;
mod embedded;
mod entry;
mod error;
mod index;
mod keys;
mod log;
mod memory;
mod read;
mod record;
mod seal;
mod sled;
#[cfg(test)]
mod tests;
mod traits;
mod tree;

pub use batch::{Batch, Committed, Durability, Op};
pub(crate) use breaker::{Breaker, CircuitChange};
pub use embedded::{
    CutError, CutReport, EmbeddedEngine, EmbeddedOptions, Encryption, Examination, ExamineOptions,
    ExportError, Exported, Finding, ImportError, Imported, OnProgress, OpenError, Place, Progress,
    RebuiltIndex, Recovery, SealingProgress, Severity, Totals, Verdict, cut_log, examine, export,
    import, inspect_log,
};
pub use entry::{
    DeadEntry, DedupEntry, DirectoryEntry, InboxEntry, JournalEntry, OutboxEntry, SecretBytes,
    StoredState, TimerEntry,
};
pub use error::{CommitError, Corrupt, EntryKind, StoreError};
pub use log::{LogProblem, LogReport, SegmentReport};
pub use memory::MemoryEngine;
pub use seal::{FileFault, KeyError, KeyFile, KeyId, Keys, LineFault};
pub use traits::{
    BoxFuture, Commit, Directory, Engine, Inbox, Journal, ReadFuture, Secrets, StateStore,
};

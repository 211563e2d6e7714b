//! The memory engine: for tests, and for agents that keep nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::apply::Group;
use super::batch::{Batch, Committed};
use super::error::{CommitError, StoreError};
use super::keys::Key;
use super::read::{self, impl_reads};
use super::record::Counters;
use super::traits::{BoxFuture, Commit, ReadFuture};
use crate::model::{AgentId, MessageId};

/// An engine that keeps everything in this process, in order, without a thread or a wait: every future that it gives is
/// ready at its first poll, and two runs that call it alike get the same answers.
///
/// Clones are handles to the same contents. Each handle is closed for itself, so a test restarts a runtime by giving it
/// another clone.
///
/// ```
/// # use mas_runtime::store::MemoryEngine;
/// let kept = MemoryEngine::default();
/// let first_run = kept.clone();
/// let second_run = kept.clone();
/// ```
#[derive(Debug, Default)]
pub struct MemoryEngine {
    contents: Arc<Mutex<Contents>>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Contents {
    index: BTreeMap<Key, Bytes>,
    counters: Counters,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("entries", &self.index.len())
            .field("counters", &self.counters)
            .finish()
    }
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing panics between two writes that belong together, so what a panic left behind is whole.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&BTreeMap<Key, Bytes>) -> Result<T, StoreError>,
    ) -> ReadFuture<'_, T> {
        let result = if self.is_closed() {
            Err(StoreError::Closed)
        } else {
            read(&self.contents().index)
        };
        Box::pin(ready(result))
    }

    fn commit_now(&self, batch: &Batch) -> Result<Committed, CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        let contents = &mut *self.contents();
        let mut group = Group::new(&contents.index, contents.counters);
        let committed = group.add(batch)?;
        let (changes, counters) = group.finish();
        changes.apply_to(&mut contents.index);
        contents.counters = counters;
        Ok(committed)
    }
}

impl Clone for MemoryEngine {
    /// Another, open handle to the same contents.
    fn clone(&self) -> Self {
        Self {
            contents: Arc::clone(&self.contents),
            closed: AtomicBool::new(false),
        }
    }
}

impl_reads!(MemoryEngine);

impl Commit for MemoryEngine {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        Box::pin(ready(self.commit_now(&batch)))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.closed.store(true, Ordering::Release);
        Box::pin(ready(Ok(())))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::{Engine, StateStore, conformance};

    #[test]
    fn it_conforms_and_never_waits() {
        let suite = conformance::run(MemoryEngine::new, async |kept| {
            Arc::new(kept.clone()) as Arc<dyn Engine>
        });
        assert!(suite.now_or_never().is_some());
    }

    #[test]
    fn a_closed_handle_leaves_the_others_open() {
        let kept = MemoryEngine::new();
        let run = kept.clone();
        assert!(run.close().now_or_never().unwrap().is_ok());
        let agent = AgentId::new("a").unwrap();
        assert!(run.load_state(&agent).now_or_never().unwrap().is_err());
        assert!(kept.load_state(&agent).now_or_never().unwrap().is_ok());
        assert!(
            kept.clone()
                .commit(Batch::new())
                .now_or_never()
                .unwrap()
                .is_ok()
        );
    }

    #[test]
    fn debug_shows_no_contents() {
        let kept = MemoryEngine::new();
        let batch = Batch::new().secret_put("name".into(), "hunter2".into());
        assert!(kept.commit(batch).now_or_never().unwrap().is_ok());
        let text = format!("{kept:?}");
        assert!(
            text.contains("entries: 2") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

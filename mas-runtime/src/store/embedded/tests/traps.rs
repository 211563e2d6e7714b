//! An index that panics when it is told to.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::tree::refs::{IndexHome, LeafEntry, LeafIndex, RefChanges, RefVisitor};

/// A home whose indexes panic in these calls while they are set.
#[derive(Debug)]
pub(crate) struct TrapHome {
    pub(crate) inner: Arc<dyn IndexHome>,
    pub(crate) traps: Arc<Traps>,
}

/// Where to panic.
#[derive(Debug, Default)]
pub(crate) struct Traps {
    pub(crate) read: AtomicBool,
    pub(crate) apply: AtomicBool,
}

#[derive(Debug)]
struct TrapIndex {
    inner: Arc<dyn LeafIndex>,
    traps: Arc<Traps>,
}

impl IndexHome for TrapHome {
    fn open(&self) -> Result<Arc<dyn LeafIndex>, StoreError> {
        Ok(Arc::new(TrapIndex {
            inner: self.inner.open()?,
            traps: Arc::clone(&self.traps),
        }))
    }

    fn set_aside(&self) -> Result<String, StoreError> {
        self.inner.set_aside()
    }
}

impl LeafIndex for TrapIndex {
    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn floor(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        assert!(
            !self.traps.read.load(Ordering::Relaxed),
            "as the test wants"
        );
        self.inner.floor(key)
    }

    fn above(&self, key: &[u8]) -> Result<Option<LeafEntry>, StoreError> {
        self.inner.above(key)
    }

    fn walk(&self, visit: &mut RefVisitor<'_>) -> Result<(), StoreError> {
        self.inner.walk(visit)
    }

    fn apply(&self, changes: &RefChanges, position: u64) -> Result<(), StoreError> {
        assert!(
            !self.traps.apply.load(Ordering::Relaxed),
            "as the test wants"
        );
        self.inner.apply(changes, position)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

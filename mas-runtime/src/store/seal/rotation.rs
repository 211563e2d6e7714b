//! Bringing every value under the newest key, a step at a time, while the store is in use.

use std::sync::Arc;

use bytes::Bytes;

use super::ring::KeyId;
use super::sealer::{Sealer, StoreId};
use crate::store::StoreError;

/// One look at every value of a store.
///
/// A task in the background calls [`visit`](Self::visit) for every entry of the map, in any order and at its own pace, and
/// puts each value that it gets in place of the one that it gave, unless that has changed meanwhile. Then
/// [`finish`](Self::finish) says whether another pass is needed. New values are under the newest key as soon as they are
/// sealed, so the second pass finds nothing, unless values were changed under the first or could not be read.
#[derive(Debug)]
pub(crate) struct Pass {
    sealer: Arc<Sealer>,
    seen: u64,
    old: u64,
}

impl Pass {
    /// A pass that has seen nothing yet.
    pub(crate) const fn new(sealer: Arc<Sealer>) -> Self {
        Self {
            sealer,
            seen: 0,
            old: 0,
        }
    }

    /// Looks at one value, and gives what is to take its place, if anything.
    ///
    /// # Errors
    /// Those of [`Sealer::reseal`]. The pass goes on, and will not be clean.
    pub(crate) fn visit(&mut self, key: &[u8], sealed: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.seen += 1;
        if !self.sealer.needs_reseal(sealed) {
            return Ok(None);
        }
        self.old += 1;
        self.sealer.reseal(key, sealed)
    }

    /// How many values it has looked at.
    pub(crate) const fn seen(&self) -> u64 {
        self.seen
    }

    /// What the pass has found, now that it has seen every value.
    pub(crate) fn finish(self) -> PassEnd {
        match self.old {
            0 => PassEnd::Clean(Clean {
                store: self.sealer.store(),
                newest: self.sealer.newest(),
            }),
            old => PassEnd::Again { old },
        }
    }
}

/// What a whole pass has found.
#[derive(Debug)]
pub(crate) enum PassEnd {
    /// There were values under older keys, or damaged ones: another pass has to find none.
    Again {
        /// How many.
        old: u64,
    },
    /// Every value is under the newest key.
    Clean(Clean),
}

/// The proof that a pass over a store has found every value under its newest key. Only [`Pass::finish`] gives one.
#[derive(Debug)]
pub(crate) struct Clean {
    store: StoreId,
    newest: KeyId,
}

impl Clean {
    pub(super) const fn store(&self) -> StoreId {
        self.store
    }

    pub(super) const fn newest(&self) -> KeyId {
        self.newest
    }
}

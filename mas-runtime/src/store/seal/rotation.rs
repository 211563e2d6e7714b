//! Bringing every value under the newest key, a step at a time, while the store is in use.

use std::sync::Arc;

use super::ring::KeyId;
use super::sealer::{Sealer, StoreId};

/// One look at every value of a store.
///
/// A task in the background calls [`visit`](Self::visit) for every entry of the map, in any order and at its own pace, and
/// has those resealed that it is told of, unless they have changed meanwhile. Then [`finish`](Self::finish) says whether
/// another pass is needed. New values are under the newest key as soon as they are sealed, so the second pass finds nothing,
/// unless a value could not be read.
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

    /// Looks at one value, and says whether it has to be [resealed](Sealer::reseal).
    pub(crate) fn visit(&mut self, sealed: &[u8]) -> bool {
        let is_old = self.sealer.needs_reseal(sealed);
        self.seen += 1;
        self.old += u64::from(is_old);
        is_old
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

//! The records of a tree in order, without a cache and without changes since.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::StoreError;
use crate::store::keys::{Key, KeyRange};
use crate::store::tree::leaf::Leaf;
use crate::store::tree::pack::Packs;
use crate::store::tree::refs::{LeafEntry, LeafIndex};

/// Bytes of a value that are kept of a change: enough for a number.
const KEPT_BYTES: usize = 64;

/// A key and its value.
type Record<'r> = (&'r [u8], &'r [u8]);

/// The records of a tree from some key on.
pub(super) struct Walk<'w> {
    index: &'w dyn LeafIndex,
    packs: &'w Packs,
    /// The leaf that comes next.
    next: Option<LeafEntry>,
    /// The leaf that is read, and which of its records comes next.
    leaf: Option<(Leaf, usize)>,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        index: &'w dyn LeafIndex,
        packs: &'w Packs,
        from: &[u8],
    ) -> Result<Self, StoreError> {
        let next = match index.floor(from)? {
            None => index.above(from)?,
            found => found,
        };
        let mut walk = Self {
            index,
            packs,
            next,
            leaf: None,
        };
        while walk.peek()?.is_some_and(|(key, _)| key < from) {
            walk.advance();
        }
        Ok(walk)
    }

    /// The next record.
    pub(super) fn peek(&mut self) -> Result<Option<Record<'_>>, StoreError> {
        if self.leaf.is_none()
            && let Some((first, place)) = self.next.take()
        {
            self.leaf = Some((self.packs.read(&first, place)?, 0));
            self.next = self.index.above(&first)?;
        }
        Ok(self.leaf.as_ref().and_then(|(leaf, at)| leaf.record(*at)))
    }

    /// Passes the next record.
    pub(super) fn advance(&mut self) {
        if let Some((leaf, at)) = &mut self.leaf {
            *at += 1;
            if *at >= leaf.len() {
                self.leaf = None;
            }
        }
    }

    /// The leaf that comes next, when all records of the one before are passed.
    pub(super) const fn boundary(&self) -> Option<&LeafEntry> {
        match self.leaf {
            None => self.next.as_ref(),
            Some(_) => None,
        }
    }

    /// Passes the leaf that comes next, unread.
    pub(super) fn pass_leaf(&mut self) -> Result<(), StoreError> {
        if let Some((first, _)) = self.next.take() {
            self.next = self.index.above(&first)?;
        }
        Ok(())
    }
}

/// What the log has changed: the beginning of the new value of each key, or `None` where it went.
pub(super) type Tail = BTreeMap<Key, Option<Bytes>>;

/// What a tail keeps of a value.
pub(super) fn kept(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&value[..value.len().min(KEPT_BYTES)])
}

/// The records of a range: those of a tree, in whose place stand those that were changed since.
pub(super) struct Merged<'w> {
    walk: Walk<'w>,
    tail: std::iter::Peekable<std::collections::btree_map::Range<'w, Key, Option<Bytes>>>,
    to: Key,
}

impl<'w> Merged<'w> {
    pub(super) fn new(
        index: &'w dyn LeafIndex,
        packs: &'w Packs,
        tail: &'w Tail,
        range: &KeyRange,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            walk: Walk::new(index, packs, &range.from)?,
            tail: tail.range::<Key, _>(range.bounds()).peekable(),
            to: range.to.clone(),
        })
    }

    /// The next key, and the beginning of its value.
    pub(super) fn next(&mut self) -> Result<Option<(Key, Bytes)>, StoreError> {
        loop {
            let to = self.to.as_slice();
            let stored = self.walk.peek()?.filter(|(key, _)| *key < to);
            let stored = stored.map(|(key, value)| (key.to_vec(), kept(value)));
            let Some((key, value)) = self.tail.peek().copied() else {
                self.walk.advance();
                return Ok(stored);
            };
            match stored {
                Some((before, value)) if before < *key => {
                    self.walk.advance();
                    return Ok(Some((before, value)));
                }
                Some((same, _)) if same == *key => self.walk.advance(),
                _ => {}
            }
            self.tail.next();
            if let Some(value) = value {
                return Ok(Some((key.clone(), value.clone())));
            }
        }
    }
}

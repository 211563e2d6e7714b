//! What an engine needs of an ordered map, and the changes that a group of batches makes to it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::error::StoreError;
use super::keys::{Key, KeyRange};

/// An ordered map of bytes to bytes, as reads and decisions see it.
pub(crate) trait Index {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Shows the entries of a range in order, until the visitor breaks or fails.
    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError>;

    /// Shows the keys of a range in order, until the visitor breaks or fails.
    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError>;
}

/// What [`Index::scan`] shows an entry to.
pub(crate) type EntryVisitor<'v> =
    dyn FnMut(&[u8], Bytes) -> Result<ControlFlow<()>, StoreError> + 'v;

/// What [`Index::scan_keys`] shows a key to.
pub(crate) type KeyVisitor<'v> = dyn FnMut(&[u8]) -> Result<ControlFlow<()>, StoreError> + 'v;

impl Index for BTreeMap<Key, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, visit: &mut EntryVisitor<'_>) -> Result<(), StoreError> {
        for (key, value) in self.range::<Key, _>(range.bounds()) {
            if visit(key, value.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_keys(&self, range: &KeyRange, visit: &mut KeyVisitor<'_>) -> Result<(), StoreError> {
        for (key, _) in self.range::<Key, _>(range.bounds()) {
            if visit(key)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Changes to an index: the new value of each key, or `None` where it goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(BTreeMap<Key, Option<Bytes>>);

impl Changes {
    pub(crate) fn put(&mut self, key: Key, value: Bytes) {
        self.0.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.0.insert(key, None);
    }

    /// Adds later changes to these.
    pub(crate) fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The change to a key, if there is one.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.0.get(key)
    }

    /// The keys of a range that are changed.
    pub(crate) fn keys_in(&self, range: &KeyRange) -> impl Iterator<Item = &Key> {
        self.0.range::<Key, _>(range.bounds()).map(|(key, _)| key)
    }

    /// The changes one by one.
    pub(crate) fn into_changes(self) -> impl Iterator<Item = (Key, Option<Bytes>)> {
        self.0.into_iter()
    }

    /// Makes the changes to a map.
    pub(crate) fn apply_to(&self, map: &mut BTreeMap<Key, Bytes>) {
        for (key, value) in &self.0 {
            match value {
                Some(value) => drop(map.insert(key.clone(), value.clone())),
                None => drop(map.remove(key)),
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Option<Bytes>)> {
        self.0.iter()
    }
}

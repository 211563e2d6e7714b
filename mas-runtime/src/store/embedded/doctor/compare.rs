//! Is the index what the log makes of the snapshot.

use std::collections::BTreeMap;

use super::report::{Examination, Place, Severity};
use super::walk::Walk;
use crate::store::StoreError;
use crate::store::keys::{self, Key};
use crate::store::tree::pack::Packs;
use crate::store::tree::refs::LeafIndex;

/// What tells one value from another: odds of four billion to one are enough to find a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    bytes: usize,
    crc: u32,
}

impl Print {
    pub(super) fn of(value: &[u8]) -> Self {
        Self {
            bytes: value.len(),
            crc: crc32c::crc32c(value),
        }
    }
}

/// Compares record by record. Leaves that both refer to, and of which the log has changed nothing, are passed unread.
pub(super) fn compare(
    snapshot: (&dyn LeafIndex, &Packs),
    index: (&dyn LeafIndex, &Packs),
    changes: &BTreeMap<Key, Option<Print>>,
    found: &mut Examination,
) -> Result<(), StoreError> {
    let mut old = Walk::new(snapshot.0, snapshot.1, &[])?;
    let mut new = Walk::new(index.0, index.1, &[])?;
    let mut changes = changes.iter().peekable();
    loop {
        if let (Some(of_old), Some(of_new)) = (old.boundary(), new.boundary())
            && of_old == of_new
        {
            let behind = snapshot.0.above(&of_old.0)?;
            let is_touched = changes
                .peek()
                .is_some_and(|(key, _)| behind.as_ref().is_none_or(|(behind, _)| *key < behind));
            if !is_touched {
                old.pass_leaf()?;
                new.pass_leaf()?;
                continue;
            }
        }
        let next_old = old.peek()?.map(|(key, value)| (key, Print::of(value)));
        let next_new = new.peek()?.map(|(key, value)| (key, Print::of(value)));
        let next_change = changes.peek().map(|(key, _)| key.as_slice());
        let keys = [
            next_old.map(|it| it.0),
            next_new.map(|it| it.0),
            next_change,
        ];
        let Some(key) = keys.into_iter().flatten().min().map(<[u8]>::to_vec) else {
            return Ok(());
        };
        let at = |next: Option<(&[u8], Print)>| next.filter(|it| it.0 == key).map(|it| it.1);
        let (before, actual) = (at(next_old), at(next_new));
        let changed = changes.next_if(|(changed, _)| **changed == key);
        let expected = changed.map_or(before, |(_, print)| *print);
        let (is_in_old, is_in_new) = (before.is_some(), actual.is_some());
        if expected != actual {
            let what = match (expected, actual) {
                (Some(_), None) => "the index does not hold it, snapshot and log do",
                (None, _) => "the index holds it, snapshot and log do not",
                (Some(_), Some(_)) => "the index holds another value than snapshot and log",
            };
            let key = keys::describe(&key);
            let what = format!("{what}: move the folder `refs` away, it is made anew");
            found.add(Severity::Loss, Place::Record { key }, what);
        }
        if is_in_old {
            old.advance();
        }
        if is_in_new {
            new.advance();
        }
    }
}

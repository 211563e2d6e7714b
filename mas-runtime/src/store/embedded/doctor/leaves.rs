//! Are the leaves what was written.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::report::{Examination, Place, Severity};
use crate::store::embedded::portable::Progress;
use crate::store::keys::{self, Key, Space};
use crate::store::record;
use crate::store::seal::is_sealed;
use crate::store::tree::pack::Packs;
use crate::store::tree::refs::{LeafIndex, LeafRef};
use crate::store::{Corrupt, StoreError};

/// The leaves of an index or a snapshot, checked.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    /// How many can't be read, or are not what was written.
    pub(super) bad: u64,
    /// Bytes of leaves that are referred to, by pack.
    pub(super) live: BTreeMap<u64, u64>,
}

/// Whether leaves can be where an index says, as opening asks before it trusts it.
pub(super) fn fault(
    index: &dyn LeafIndex,
    packs: &Packs,
) -> Result<Option<(Place, String)>, StoreError> {
    let mut fault = None;
    let mut before: Option<Key> = None;
    index.walk(&mut |first, leaf| {
        let place = || of_leaf(leaf);
        if fault.is_none() && before.as_deref().is_some_and(|before| before >= first) {
            fault = Some((
                place(),
                format!("the leaf from {} is not in order", keys::describe(first)),
            ));
        }
        if fault.is_none() && !packs.holds(leaf) {
            let what = format!("the leaf from {} is not there", keys::describe(first));
            fault = Some((place(), what));
        }
        before = Some(first.to_vec());
        Ok(())
    })?;
    Ok(fault)
}

fn of_leaf(leaf: LeafRef) -> Place {
    Place::Pack {
        pack: leaf.pack,
        offset: leaf.offset,
    }
}

/// Reads the leaves of an index or a snapshot, and their records when `reads_records`; `passes` says which are left out.
pub(super) fn check(
    (index, packs): (&dyn LeafIndex, &Packs),
    severity: Severity,
    passes: &dyn Fn(&[u8], LeafRef) -> bool,
    examination: &mut Examination,
    counts: Option<&mut dyn FnMut(Progress)>,
) -> Result<Leaves, StoreError> {
    let mut leaves = Leaves::default();
    let mut counts = counts;
    let mut next = index.above(&[])?;
    if let Some(first) = index.floor(&[])? {
        // A key without bytes: no record has one, and a range from nothing would not show it.
        next = Some(first);
    }
    while let Some((first, leaf)) = next {
        next = index.above(&first)?;
        *leaves.live.entry(leaf.pack).or_default() += u64::from(leaf.bytes);
        if passes(&first, leaf) {
            continue;
        }
        let read = packs.read(&first, leaf);
        let upper = next.as_ref().map(|(first, _)| first.as_slice());
        let fault = match &read {
            Err(StoreError::Corrupt(corrupt)) => Some(corrupt.reason.clone()),
            Err(StoreError::Io { source, .. }) => Some(source.to_string()),
            Err(error) => Some(error.to_string()),
            Ok(content) => match (content.record(0), content.record(content.len() - 1)) {
                (Some((begins, _)), _) if begins != first.as_slice() => {
                    Some(format!("it begins with {}", keys::describe(begins)))
                }
                (_, Some((ends, _))) if upper.is_some_and(|upper| ends >= upper) => {
                    Some("it goes on into the range of the next one".to_owned())
                }
                _ => None,
            },
        };
        if let Some(fault) = fault {
            leaves.bad += 1;
            let what = format!("the leaf from {}: {fault}", keys::describe(&first));
            examination.add(severity, of_leaf(leaf), what);
            continue;
        }
        let (Ok(content), Some(progress)) = (read, counts.as_mut()) else {
            continue;
        };
        examination.totals.leaves += 1;
        for at in 0..content.len() {
            if let Some((key, value)) = content.record(at) {
                check_record(key, content.share(value), examination);
                examination.totals.records += 1;
                examination.totals.record_bytes += (key.len() + value.len()) as u64;
            }
        }
        progress(Progress {
            records: examination.totals.records,
            bytes: examination.totals.record_bytes,
        });
    }
    Ok(leaves)
}

/// Says so when a record is not one that this version reads.
pub(super) fn check_record(key: &[u8], value: Bytes, examination: &mut Examination) {
    if is_sealed(&value) {
        examination.totals.sealed += 1;
        return;
    }
    if let Err(corrupt) = decode(key, value) {
        let key = keys::describe(key);
        examination.add(Severity::Loss, Place::Record { key }, corrupt.reason);
    }
}

/// Reads a record, whatever it is.
fn decode(key: &[u8], value: Bytes) -> Result<(), Corrupt> {
    let unknown = || Corrupt::new("key", "this version does not know what it is");
    let space = Space::of(key).ok_or_else(unknown)?;
    if matches!(space, Space::Inbox | Space::Delivery) {
        keys::decode_lane(key)?;
    }
    match space {
        Space::Counters | Space::Dead => {}
        Space::Journal | Space::JournalEnd | Space::Secret => drop(keys::decode_name(key)?),
        _ => drop(keys::decode_agent(key)?),
    }
    match space {
        Space::Counters => drop(record::decode_counters(key, value)?),
        Space::State => drop(record::decode_state(key, value)?),
        Space::Inbox => drop(record::decode_inbox(key, value)?),
        Space::Delivery => drop(record::decode_delivery(key, value)?),
        Space::Dedup => drop(record::decode_dedup(key, value)?),
        Space::Timer => drop(record::decode_timer(key, value)?),
        Space::Directory => drop(record::decode_directory(key, value)?),
        Space::Dead => drop(record::decode_dead(key, value)?),
        Space::JournalEnd => drop(record::decode_number(key, value)?),
        Space::Outbox | Space::Journal | Space::Secret => drop(record::decode_payload(key, value)?),
    }
    Ok(())
}

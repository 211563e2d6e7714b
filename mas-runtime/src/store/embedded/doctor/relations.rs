//! Do records fit each other: counters, journals and their ends, deliveries and their entries.

use super::report::{Examination, Place, Severity};
use super::walk::{Merged, Tail};
use crate::model::limits::DEAD_LETTERS_MAX;
use crate::store::StoreError;
use crate::store::keys::{self, Key, KeyRange, Space};
use crate::store::record;
use crate::store::seal::is_sealed;
use crate::store::tree::pack::Packs;
use crate::store::tree::refs::LeafIndex;

/// Checks the records of a store as of `position`: those of its tree and what the log has changed since.
pub(super) fn check(
    (index, packs): (&dyn LeafIndex, &Packs),
    tail: &Tail,
    position: u64,
    found: &mut Examination,
) -> Result<(), StoreError> {
    let mut records = Records {
        index,
        packs,
        tail,
        found,
    };
    records.counters(position)?;
    records.deliveries()?;
    records.journals()
}

struct Records<'r> {
    index: &'r dyn LeafIndex,
    packs: &'r Packs,
    tail: &'r Tail,
    found: &'r mut Examination,
}

impl<'r> Records<'r> {
    fn of(&self, range: &KeyRange) -> Result<Merged<'r>, StoreError> {
        Merged::new(self.index, self.packs, self.tail, range)
    }

    fn add(&mut self, severity: Severity, key: &[u8], what: impl Into<String>) {
        let key = keys::describe(key);
        self.found.add(severity, Place::Record { key }, what);
    }

    /// The store's counts are what its log and its records say.
    fn counters(&mut self, position: u64) -> Result<(), StoreError> {
        let mut highest: Option<(u64, Key)> = None;
        let mut dead = 0;
        for space in [Space::Inbox, Space::Outbox, Space::Dead] {
            let mut entries = self.of(&keys::whole(space))?;
            while let Some((key, _)) = entries.next()? {
                // A key without a number was told before.
                let seq = keys::decode_seq(&key).unwrap_or(0);
                if highest.as_ref().is_none_or(|(highest, _)| *highest < seq) {
                    highest = Some((seq, key));
                }
                dead += u64::from(space == Space::Dead);
            }
        }
        if dead > DEAD_LETTERS_MAX as u64 {
            let what = format!("there are {dead} dead letters, the limit is {DEAD_LETTERS_MAX}");
            self.add(Severity::Harmless, &keys::dead(0), what);
        }
        let key = keys::counters();
        let counted = match self.of(&keys::whole(Space::Counters))?.next()? {
            Some((_, value)) if is_sealed(&value) => return Ok(()),
            Some((key, value)) => record::decode_counters(&key, value).ok(),
            None if position == 0 => return Ok(()),
            None => None,
        };
        let Some(counted) = counted else {
            self.add(Severity::Loss, &key, "it is not there, or can't be read");
            return Ok(());
        };
        if counted.position != position {
            let what = format!(
                "it says commit {}, the log ends at {position}",
                counted.position
            );
            self.add(Severity::Loss, &key, what);
        }
        if let Some((seq, of)) = highest.filter(|(seq, _)| *seq > counted.seqs) {
            let what = format!(
                "its number {seq} was never given out, {} were",
                counted.seqs
            );
            self.add(Severity::Loss, &of, what);
        }
        Ok(())
    }

    /// What is kept of deliveries belongs to an entry.
    fn deliveries(&mut self) -> Result<(), StoreError> {
        let mut entries = self.of(&keys::whole(Space::Inbox))?;
        let mut deliveries = self.of(&keys::whole(Space::Delivery))?;
        let mut entry = entries.next()?;
        while let Some((delivery, _)) = deliveries.next()? {
            while entry
                .as_ref()
                .is_some_and(|(key, _)| key[1..] < delivery[1..])
            {
                entry = entries.next()?;
            }
            if entry
                .as_ref()
                .is_none_or(|(key, _)| key[1..] != delivery[1..])
            {
                self.add(
                    Severity::Harmless,
                    &delivery,
                    "the inbox entry is not there",
                );
            }
        }
        Ok(())
    }

    /// A journal's records have no gaps, and its end is behind the last one.
    fn journals(&mut self) -> Result<(), StoreError> {
        let mut ends = self.of(&keys::whole(Space::JournalEnd))?;
        let mut records = self.of(&keys::whole(Space::Journal))?;
        let mut end = ends.next()?;
        let mut before: Option<Key> = None;
        loop {
            let record = records.next()?.map(|(key, _)| key);
            if let (Some(before), Some(record)) = (&before, &record)
                && name(before) == name(record)
            {
                let (last, seq) = (keys::decode_seq(before)?, keys::decode_seq(record)?);
                if last.checked_add(1) != Some(seq) {
                    let what = format!("the record before it has number {last}");
                    self.add(Severity::Loss, record, what);
                }
            } else if let Some(before) = &before {
                // It was the last one of its journal.
                while end
                    .as_ref()
                    .is_some_and(|(key, _)| key[1..] < *name(before))
                {
                    end = ends.next()?;
                }
                let its = end.as_ref().filter(|(key, _)| key[1..] == *name(before));
                self.journal_end(before, its.cloned())?;
            }
            let Some(record) = record else {
                return Ok(());
            };
            before = Some(record);
        }
    }

    /// Compares the last record of a journal with its end.
    fn journal_end(
        &mut self,
        last: &[u8],
        end: Option<(Key, bytes::Bytes)>,
    ) -> Result<(), StoreError> {
        let Some((key, value)) = end else {
            self.add(Severity::Loss, last, "its journal has no end");
            return Ok(());
        };
        if is_sealed(&value) {
            return Ok(());
        }
        let last = keys::decode_seq(last)?;
        // One that can't be read was told before.
        if let Ok(next) = record::decode_number(&key, value)
            && last.checked_add(1) != Some(next)
        {
            let what = format!("it says that {next} comes next, the last record is {last}");
            self.add(Severity::Loss, &key, what);
        }
        Ok(())
    }
}

/// The name in the key of a journal's record: what stands between the space and the number.
fn name(key: &[u8]) -> &[u8] {
    key.get(1..key.len().saturating_sub(8)).unwrap_or_default()
}

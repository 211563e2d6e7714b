//! What the committer does for the engine itself: values are sealed anew, and what the log held before goes.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{BodyWriter, Committer, from_log};
use crate::model::limits::STORE_UNSYNCED_BYTES_MAX;
use crate::store::StoreError;
use crate::store::keys::{self, Key};
use crate::store::record;

/// Work that waits beside the line of batches.
#[derive(Debug)]
pub(in super::super) enum Chore {
    /// [`Committer::reseal`].
    Reseal(Vec<Key>, oneshot::Sender<Result<Resealed, StoreError>>),
    /// [`Committer::part_log`].
    PartLog(oneshot::Sender<Result<Option<u64>, StoreError>>),
    /// [`Committer::drop_log`].
    DropLog(u64, oneshot::Sender<Result<bool, StoreError>>),
}

/// What became of values that were to be sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Resealed {
    /// Those that were.
    pub(in super::super) count: u64,
    /// Those that can't be opened.
    pub(in super::super) damaged: u64,
}

impl Committer {
    pub(super) fn do_chore(&mut self, chore: Chore) {
        // Who dropped the receiver does not want the answer.
        match chore {
            Chore::Reseal(keys, answer) => drop(answer.send(self.reseal(&keys))),
            Chore::PartLog(answer) => drop(answer.send(self.part_log())),
            Chore::DropLog(up_to, answer) => drop(answer.send(self.drop_log(up_to))),
        }
    }

    /// Seals the values of these keys, in order, that are there and still need it, in one commit that changes nothing else.
    /// Each is read here again, where nobody else can change it.
    ///
    /// # Errors
    /// Those of a commit.
    pub(in super::super) fn reseal(&mut self, keys: &[Key]) -> Result<Resealed, StoreError> {
        self.revive()?;
        self.make_room()?;
        let Some(sealer) = self.records.sealer().cloned() else {
            return Ok(Resealed::default());
        };
        let mut done = Resealed::default();
        let mut changes: Vec<(Key, Option<Bytes>)> = Vec::new();
        for key in keys {
            let resealed = match self.records.stored(key)? {
                Some(stored) => sealer.reseal(key, &stored),
                None => continue,
            };
            match resealed {
                Ok(None) => {}
                Ok(Some(value)) => {
                    done.count += 1;
                    changes.push((key.clone(), Some(value)));
                }
                Err(StoreError::Corrupt(corrupt)) => {
                    tracing::error!(%corrupt, "the store can't seal a value anew");
                    done.damaged += 1;
                }
                Err(error) => return Err(error),
            }
        }
        if done.count > 0 {
            let mut counters = self.counters;
            counters.position += 1;
            let key = keys::counters();
            let value = sealer.seal(&key, &record::encode_counters(counters))?;
            changes.retain(|(other, _)| *other != key);
            changes.insert(0, (key, Some(value)));
            let mut body = BodyWriter::new();
            for (key, value) in &changes {
                body.add(key, value.as_deref());
            }
            let body = body.finish();
            let appended = self.log.append(counters.position, &body);
            appended.map_err(from_log)?;
            self.logged_bytes += body.len() as u64;
            self.counters = counters;
            self.records.publish(changes);
            self.bring_out()?;
        }
        Ok(done)
    }

    /// Hands what was decided to the disk, without waiting for it.
    fn bring_out(&mut self) -> Result<(), StoreError> {
        if let Err(error) = self.log.write().map_err(from_log) {
            self.note(error.clone());
            return Err(error);
        }
        self.behind_since.get_or_insert(self.clock.now());
        if self.log.unsynced_bytes() > STORE_UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        self.send_into_tree();
        Ok(())
    }

    /// Brings all that was committed to the disk and sends it into the tree, and begins a new segment of the log, so that all
    /// before it can go. Gives the last commit before it, or `None` while other changes are on their way into the tree.
    ///
    /// # Errors
    /// Those of a commit.
    pub(in super::super) fn part_log(&mut self) -> Result<Option<u64>, StoreError> {
        self.revive()?;
        if self.records.frozen().is_some() {
            return Ok(None);
        }
        self.sync()?;
        if let Err(error) = self.log.part().map_err(from_log) {
            // The new segment may be there or not: only a log that was revived knows where it goes on.
            self.note(error.clone());
            return Err(error);
        }
        self.freeze();
        Ok(Some(self.counters.position))
    }

    /// Removes what the log holds that is not needed, and gives whether nothing is left up to this position.
    ///
    /// # Errors
    /// As the disk says.
    pub(in super::super) fn drop_log(&mut self, up_to: u64) -> Result<bool, StoreError> {
        let released = self.log.release(self.flushing.released());
        released.map_err(from_log)?;
        Ok(self.log.first_position() > up_to)
    }
}

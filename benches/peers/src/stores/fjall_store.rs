//! fjall: one batch a group, persisted with `SyncData`.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::grouped::{Map, Write};
use super::store::CACHE_BYTES;

pub struct Fjall {
    db: Database,
    records: Keyspace,
}

impl Map for Fjall {
    fn open(dir: &Path) -> Self {
        let db = Database::builder(dir).cache_size(CACHE_BYTES).open();
        let db = db.expect("it opens");
        let records = db.keyspace("records", KeyspaceCreateOptions::default);
        Self {
            db,
            records: records.expect("a keyspace"),
        }
    }

    fn apply(&self, writes: &[Write]) {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.records, key.as_slice(), &value[..]),
                None => batch.remove(&self.records, key.as_slice()),
            }
        }
        batch.commit().expect("on disk");
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let value = self.records.get(key).expect("read");
        value.map(|value| Bytes::copy_from_slice(&value))
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> u64 {
        let range = self.records.range(from..to);
        range.fold(0, |count, entry| {
            entry.into_inner().expect("read");
            count + 1
        })
    }
}

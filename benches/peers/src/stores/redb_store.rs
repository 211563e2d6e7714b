//! redb: one write transaction a group, durability `Immediate`.

use std::path::Path;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::grouped::{Map, Write};
use super::store::CACHE_BYTES;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

pub struct Redb {
    db: Database,
}

impl Map for Redb {
    fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder");
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES as usize);
        let db = builder.create(dir.join("redb")).expect("it opens");
        Self { db }
    }

    fn apply(&self, writes: &[Write]) {
        let mut transaction = self.db.begin_write().expect("begun");
        let durability = transaction.set_durability(Durability::Immediate);
        durability.expect("durable");
        {
            let mut table = transaction.open_table(TABLE).expect("a table");
            for (key, value) in writes {
                match value {
                    Some(value) => table.insert(key.as_slice(), &value[..]).map(drop),
                    None => table.remove(key.as_slice()).map(drop),
                }
                .expect("applied");
            }
        }
        transaction.commit().expect("on disk");
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let transaction = self.db.begin_read().expect("begun");
        let table = transaction.open_table(TABLE).expect("a table");
        let value = table.get(key).expect("read");
        value.map(|value| Bytes::copy_from_slice(value.value()))
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> u64 {
        let transaction = self.db.begin_read().expect("begun");
        let table = transaction.open_table(TABLE).expect("a table");
        let range = table.range(from..to).expect("read");
        range.fold(0, |count, entry| {
            entry.expect("read");
            count + 1
        })
    }
}

//! A bare log: what a durable commit costs when nothing is indexed. It keeps nothing that can be read.
//!
//! Each call is one record in a file of written zeros, and one `fdatasync`. At its end the file is written again from
//! its start.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | size of what follows the checksum, little-endian |
//! | 4 | 4 | CRC-32 of what follows |
//! | 8 | | for each write: size of its key (2), size of its value (4), key, value |

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::grouped::{Map, Write};

/// Size of the file: more than the longest run of small commits writes, and little enough to be made at once.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The log.
pub struct Log {
    file: File,
    end: Mutex<End>,
}

#[derive(Default)]
struct End {
    offset: u64,
    record: Vec<u8>,
}

impl Map for Log {
    fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a folder");
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(dir.join("log"))
            .expect("a file");
        let zeros = vec![0; 1024 * 1024];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset).expect("room");
        }
        file.sync_all().expect("on disk");
        Self {
            file,
            end: Mutex::default(),
        }
    }

    fn apply(&self, writes: &[Write]) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let End { offset, record } = &mut *end;
        record.clear();
        record.extend_from_slice(&[0; 8]);
        for (key, value) in writes {
            let value = value.as_deref().unwrap_or_default();
            record.extend_from_slice(&(key.len() as u16).to_le_bytes());
            record.extend_from_slice(&(value.len() as u32).to_le_bytes());
            record.extend_from_slice(key);
            record.extend_from_slice(value);
        }
        let size = (record.len() - 8) as u32;
        let checksum = crc32fast::hash(&record[8..]);
        record[..4].copy_from_slice(&size.to_le_bytes());
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        if *offset + record.len() as u64 > FILE_BYTES {
            *offset = 0;
        }
        self.file.write_all_at(record, *offset).expect("written");
        self.file.sync_data().expect("on disk");
        *offset += record.len() as u64;
    }

    fn get(&self, _key: &[u8]) -> Option<Bytes> {
        None
    }

    fn scan(&self, _from: &[u8], _to: &[u8]) -> u64 {
        0
    }
}

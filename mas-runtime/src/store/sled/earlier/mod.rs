//! What the first engine kept: everything in one tree of sled's, to be read once and brought over.
//!
//! **Layout** of its folder, format 1: `index/`, sled's files; `tip`, the last position that was brought to disk.
//!
//! Layout of the tree, beside the keys of [`keys`]; numbers are big-endian:
//!
//! | key | value |
//! |---|---|
//! | any key of the store | `00`, then the value, when it has at most 4096 bytes |
//! | | `01`, number u64, bytes u64, hash u64, when it has more |
//! | `f0` | the [`Tally`] over all of the above |
//! | `f1`, number u64, piece u32 | 4096 bytes of a large value, or the rest of it |
//!
//! | file | holds |
//! |---|---|
//! | `tally` | the sum over all entries |
//! | `tip` | the note of the last position on disk |

mod tally;
mod tip;

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};

use super::digest::hash;
use super::files;
use super::guard::call;
use crate::store::index::Changes;
use crate::store::keys::{self, ENGINE_SPACE};
use crate::store::record;
use crate::store::{Corrupt, StoreError};
use tally::Tally;

/// Size of a piece of a large value.
const PIECE_BYTES: u64 = 4096;

/// First byte of a stored value that is all there.
const INLINE: u8 = 0;
/// First byte of a stored value that is kept in pieces.
const PIECES: u8 = 1;

/// The key of the tally.
const TALLY: [u8; 1] = [ENGINE_SPACE];
/// The first byte of the keys of pieces.
const PIECE_SPACE: u8 = ENGINE_SPACE + 1;

/// Bytes of records that are shown at a time.
const AT_A_TIME_BYTES: usize = 8 * 1024 * 1024;

/// Whether a data directory holds a store of format 1.
pub(crate) fn is_there(dir: &Path) -> bool {
    dir.join("index").join("db").exists()
}

/// Reads a store of format 1, checks all of it, and shows its records in order. Gives the position of its last commit.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is damaged, which may show only at the end; and as `visit` answers.
pub(crate) fn read(
    dir: &Path,
    cache_bytes: u64,
    visit: &mut dyn FnMut(Changes) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let failed = |e| StoreError::io("open the earlier store", e);
    let noted = tip::read(&dir.join("tip")).map_err(failed)?;
    let index = dir.join("index");
    files::remove_leftovers(&index).map_err(failed)?;
    files::wait_for_handover(&index.join("db")).map_err(failed)?;
    let db = call("open the earlier store", || {
        sled::Config::new()
            .path(&index)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .open()
    })?;
    let read = read_tree(&db, noted, visit);
    let closed = call("close the earlier store", move || {
        drop(db);
        Ok(())
    });
    let position = read?;
    closed?;
    Ok(position)
}

/// Removes what format 1 has left, if anything.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for removed in [
        std::fs::remove_dir_all(dir.join("index")),
        std::fs::remove_file(dir.join("tip")),
    ] {
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Shows all records, compares them with their tally, and the position with one that was on disk.
fn read_tree(
    db: &sled::Db,
    noted: u64,
    visit: &mut dyn FnMut(Changes) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let damaged = |reason: String| StoreError::from(Corrupt::new("earlier store", reason));
    let kept = match call("read the earlier store", || db.get(TALLY))? {
        None => Tally::default(),
        Some(bytes) => Tally::decode(&bytes)
            .ok_or_else(|| damaged("the sum over its entries is unreadable".to_owned()))?,
    };
    let mut found = Tally {
        chunked: kept.chunked,
        ..Tally::default()
    };
    let (mut changes, mut bytes, mut position) = (Changes::default(), 0, 0);
    let mut entries = db.range(..TALLY);
    while let Some((key, stored)) = call("read the earlier store", || entries.next().transpose())? {
        found.add(&key, &stored);
        let value = value(db, &key, &stored)?;
        if key == keys::counters() {
            position = record::decode_counters(&key, value.clone())?.position;
        }
        bytes += key.len() + value.len();
        changes.put(key.to_vec(), value);
        if bytes >= AT_A_TIME_BYTES {
            visit(std::mem::take(&mut changes))?;
            bytes = 0;
        }
    }
    if found != kept {
        let (there, written) = (found.entries, kept.entries);
        return Err(damaged(format!(
            "{written} entries were written and {there} are there, or some were changed"
        )));
    }
    if position < noted {
        return Err(damaged(format!(
            "it ends at commit {position}, but {noted} was on disk"
        )));
    }
    visit(changes)?;
    Ok(position)
}

/// The value that is stored in these terms.
fn value(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Bytes, StoreError> {
    let damaged = |reason: &str| Corrupt::new(keys::describe(key), reason);
    let (number, bytes, sum) = match stored.split_first() {
        Some((&INLINE, value)) => return Ok(Bytes::copy_from_slice(value)),
        Some((&PIECES, mut rest)) if rest.len() == 24 => {
            (rest.get_u64(), rest.get_u64(), rest.get_u64())
        }
        _ => return Err(damaged("its entry in the index is malformed").into()),
    };
    // Grows with the pieces that are there, not with the size that is claimed.
    let mut value = Vec::new();
    for piece in 0..u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX) {
        let mut key = vec![PIECE_SPACE];
        key.put_u64(number);
        key.put_u32(piece);
        match call("read the earlier store", || db.get(key))? {
            Some(bytes) => value.extend_from_slice(&bytes),
            None => return Err(damaged("a piece of it is missing").into()),
        }
    }
    if value.len() as u64 != bytes || hash(key, &value) != sum {
        return Err(damaged("its pieces are not what was written").into());
    }
    Ok(value.into())
}

//! The position that was on disk, noted beside the tree: what shows that sled has lost the end of its log.
//!
//! **Layout**: two slots of 16 bytes, written in turn: position u64, check u64, both big-endian. A note was never synced, so
//! after a power cut it may be old; it was written after the sync that it speaks of, so it never claims too much.

use std::fs;
use std::io;
use std::path::Path;

use crate::store::sled::digest::hash;

/// The latest position in the note: 0 when there is none.
pub(super) fn read(path: &Path) -> io::Result<u64> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let (slots, _) = bytes.as_chunks::<16>();
    let noted = slots.iter().take(2).filter_map(|slot| {
        let (position, check) = slot.split_first_chunk()?;
        (hash(b"tip", position).to_be_bytes() == *check).then(|| u64::from_be_bytes(*position))
    });
    Ok(noted.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_note_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tip");
        assert_eq!(read(&path).unwrap(), 0);
        // 257 and 258, as the engine wrote them.
        let mut bytes = [
            0, 0, 0, 0, 0, 0, 1, 1, 0xf5, 0x17, 0x5a, 0x31, 0x4b, 0xc3, 0x50, 0x44, 0, 0, 0, 0, 0,
            0, 1, 2, 0xa1, 0xb5, 0xd7, 0x5a, 0x96, 0x61, 0xdd, 0x2f,
        ];
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), 258);
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), 257);
        fs::write(&path, &bytes[..15]).unwrap();
        assert_eq!(read(&path).unwrap(), 0);
    }
}

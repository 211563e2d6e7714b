//! The position that was on disk, noted beside the index: what shows that sled has lost the end of its log.
//!
//! **Layout**: two slots of 16 bytes, written in turn: position u64, check u64, both big-endian. A note is never synced, so
//! after a power cut it may be old; it is written after the sync that it speaks of, so it never claims too much.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::digest::hash;

const SLOT_BYTES: usize = 16;

/// The open note.
#[derive(Debug)]
pub(super) struct Tip {
    file: File,
    /// The slot to write next.
    slot: u64,
}

impl Tip {
    /// Opens the note, and gives the latest position in it: 0 for a new one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, u64)> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let mut noted = [None; 2];
        for noted in &mut noted {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact(&mut bytes) {
                Ok(()) => *noted = decode(bytes),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(e) => return Err(e),
            }
        }
        // Write over the older one.
        let slot = u64::from(noted[0] > noted[1]);
        let latest = noted[0].max(noted[1]).unwrap_or(0);
        Ok((Self { file, slot }, latest))
    }

    /// Notes that everything up to `position` is on disk.
    pub(super) fn note(&mut self, position: u64) -> io::Result<()> {
        let at = self.slot * SLOT_BYTES as u64;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&encode(position))?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

fn encode(position: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let position = position.to_be_bytes();
    bytes[..8].copy_from_slice(&position);
    bytes[8..].copy_from_slice(&hash(b"tip", &position).to_be_bytes());
    bytes
}

fn decode(bytes: [u8; SLOT_BYTES]) -> Option<u64> {
    let (position, _) = bytes.split_first_chunk()?;
    let position = u64::from_be_bytes(*position);
    (encode(position) == bytes).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_1_of_the_note_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tip");
        let (mut tip, _) = Tip::open(&path).unwrap();
        for position in [257, 258] {
            tip.note(position).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0000000000000101f5175a314bc350440000000000000102a1b5d75a9661dd2f"
        );
    }

    #[test]
    fn the_latest_note_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tip");
        let (mut tip, noted) = Tip::open(&path).unwrap();
        assert_eq!(noted, 0);
        for position in [7, 8, 9] {
            tip.note(position).unwrap();
            assert_eq!(Tip::open(&path).unwrap().1, position);
        }
        // 9 stands in the first slot; half a write over it leaves 8.
        tip.file.seek(SeekFrom::Start(0)).unwrap();
        tip.file.write_all(&[0xff; 5]).unwrap();
        let (mut tip, noted) = Tip::open(&path).unwrap();
        assert_eq!(noted, 8);
        tip.note(10).unwrap();
        assert_eq!(Tip::open(&path).unwrap().1, 10);
    }
}

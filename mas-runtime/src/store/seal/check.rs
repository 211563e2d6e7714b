//! How a store knows its keys again: for each key that its values are under, a known text sealed under that key.
//!
//! **Layout**: ASCII, every line ends with a line feed, numbers in hexadecimal are lower case.
//!
//! | line | text |
//! |---|---|
//! | first | `mas-store-check 1` |
//! | second | `store` and the store's id, 16 bytes in hexadecimal |
//! | one a key, ids rising | `key`, its id in decimal, the known text as a sealed value in hexadecimal |
//! | last | `sum` and the CRC-32 (IEEE) of all lines before, 4 bytes in hexadecimal |
//!
//! The sum tells damage from a wrong key. That a store is sealed stands in its format note as well: without the check it
//! does not count as plain, but as damaged.

use std::fmt::Write;

use bytes::Bytes;

use super::error::KeyError;
use super::ring::{KeyId, Keys};
use super::rotation::Clean;
use super::sealer::{SEALED_BYTES_EXTRA, Sealer, StoreId, key_of};
use crate::model::limits::STORE_KEYS_MAX;
use crate::store::{Corrupt, StoreError};

const HEADER: &str = "mas-store-check 1";

/// The known text.
const KNOWN: &[u8] = b"mas-store-check";

/// The key that the known text is sealed for: in the space of engines, so it is none of the map's.
const KNOWN_KEY: &[u8] = b"\xffmas-store-check";

/// Bytes of a known text when it is sealed.
const MARK_BYTES: usize = KNOWN.len() + SEALED_BYTES_EXTRA;

/// Most bytes of an encoded check: three lines, and one a key.
pub(crate) const CHECK_BYTES_MAX: usize =
    18 + 39 + 13 + STORE_KEYS_MAX * (4 + 10 + 1 + 2 * MARK_BYTES + 1);

/// What a sealed store keeps beside its format note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    store: StoreId,
    /// The ids of the keys in use, rising, each with the known text under it.
    marks: Vec<(KeyId, Bytes)>,
}

impl Check {
    /// The check of a store whose values are all under the newest key of `sealer`.
    pub(crate) fn new(sealer: &Sealer) -> Result<Self, StoreError> {
        let mark = (sealer.newest(), sealer.seal(KNOWN_KEY, KNOWN)?);
        Ok(Self {
            store: sealer.store(),
            marks: vec![mark],
        })
    }

    /// The sealer of this store, if these are its keys.
    ///
    /// # Errors
    /// [`KeyError::MissingKey`] when the store needs a key that is not there, [`KeyError::WrongKey`] when there is another
    /// under its id.
    pub(crate) fn verify(&self, keys: &Keys) -> Result<Sealer, KeyError> {
        let path = || keys.path().to_owned();
        let held: Vec<KeyId> = keys.ids().collect();
        if let Some(id) = self.ids().find(|id| !held.contains(id)) {
            return Err(KeyError::MissingKey { id, path: path() });
        }
        let sealer = Sealer::new(self.store, keys);
        for (id, mark) in &self.marks {
            let opened = sealer.open(KNOWN_KEY, mark);
            if !opened.is_ok_and(|text| text == KNOWN) {
                let (id, path) = (*id, path());
                return Err(KeyError::WrongKey { id, path });
            }
        }
        Ok(sealer)
    }

    /// This check with the newest key of `sealer` added; `None` when it is there. It must be on disk before the first value
    /// is sealed under that key.
    pub(crate) fn with_newest(&self, sealer: &Sealer) -> Result<Option<Self>, StoreError> {
        if self.ids().any(|id| id == sealer.newest()) {
            return Ok(None);
        }
        let mut grown = self.clone();
        grown.marks.extend(Self::new(sealer)?.marks);
        Ok(Some(grown))
    }

    /// This check without the keys that a clean pass has found no value under.
    ///
    /// Invariant: whatever the pass has resealed is on disk, and nothing that may still be read back (a log, a snapshot)
    /// holds a value as it was before.
    pub(crate) fn without_old(&self, clean: &Clean) -> Self {
        let mut kept = self.clone();
        if clean.store() == self.store {
            kept.marks.retain(|(id, _)| *id >= clean.newest());
        }
        kept
    }

    /// The ids of the keys that the store needs, rising.
    pub(crate) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.marks.iter().map(|(id, _)| *id)
    }

    pub(crate) const fn store(&self) -> StoreId {
        self.store
    }

    /// The text to keep.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{HEADER}\nstore {}\n", hex(self.store.as_bytes()));
        for (id, mark) in &self.marks {
            // Writing to a string can't fail.
            let _ = writeln!(text, "key {id} {}", hex(mark));
        }
        let sum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    /// The check with this text.
    ///
    /// # Errors
    /// [`Corrupt`] for what [`encode`](Self::encode) did not write.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        Self::read(bytes).map_err(|reason| Corrupt::new("check of the store's keys", reason))
    }

    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > CHECK_BYTES_MAX {
            return Err("it is larger than a check can be");
        }
        let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err("it does not begin with the line `mas-store-check 1`");
        }
        let store = lines.next().and_then(|line| line.strip_prefix("store "));
        let store = store.and_then(|digits| unhex(digits)?.try_into().ok());
        let mut check = Self {
            store: StoreId::from_bytes(store.ok_or("its second line holds no store id")?),
            marks: Vec::new(),
        };
        for line in lines {
            if line.starts_with("sum ") {
                break;
            }
            let mark = read_mark(line).ok_or("a line is neither a key nor the sum")?;
            if check.marks.last().is_some_and(|(last, _)| *last >= mark.0) {
                return Err("the ids of its keys do not rise");
            }
            check.marks.push(mark);
        }
        if check.marks.is_empty() {
            return Err("it names no key");
        }
        // There is one way to write a check: so the sum fits, and nothing stands behind it.
        if check.encode() != text {
            return Err("its sum does not fit");
        }
        Ok(check)
    }
}

fn read_mark(line: &str) -> Option<(KeyId, Bytes)> {
    let (id, mark) = line.strip_prefix("key ")?.split_once(' ')?;
    let id = KeyId::decode(id.as_bytes())?;
    let mark = unhex(mark)?;
    (mark.len() == MARK_BYTES && key_of(&mark) == Some(id)).then(|| (id, mark.into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, rest) = nibbles.as_ref()?.as_chunks();
    let byte = |[high, low]: &[u32; 2]| (high << 4 | low) as u8;
    rest.is_empty().then(|| pairs.iter().map(byte).collect())
}

//! Keys in memory, and the text that a key file holds.
//!
//! **Layout** of the text: ASCII, every line ends with a line feed. First the line `mas-store-key 1`, then one line a key:
//! its id (decimal, 1 to 4294967295, no leading zeros), one blank, its 32 bytes as 64 hexadecimal digits. Ids rise from line
//! to line. The key of the last line seals and opens, those before it only open. No blank lines, no comments.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::{FileFault, KeyError, LineFault};
use crate::model::limits::STORE_KEYS_MAX;
use crate::model::{EntropyError, fill_random};

/// What the first line begins with; the number of the layout follows.
const MAGIC: &[u8] = b"mas-store-key ";

/// The first line, with its end.
pub(super) const HEADER: &[u8] = b"mas-store-key 1\n";

/// Bytes of a key.
pub(super) const SECRET_BYTES: usize = 32;

/// Most bytes of a key's line.
pub(super) const LINE_BYTES_MAX: usize = 10 + 1 + 2 * SECRET_BYTES + 1;

/// The number of a key in its key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(NonZeroU32);

impl KeyId {
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN);

    /// The id with this number; `None` for 0.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    pub(super) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The id that these digits write, in the only way that one is written.
    pub(super) fn decode(digits: &[u8]) -> Option<Self> {
        let is_canonical = digits.first() != Some(&b'0') && digits.iter().all(u8::is_ascii_digit);
        let text = str::from_utf8(digits).ok().filter(|_| is_canonical)?;
        Self::new(text.parse().ok()?)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes of a key. They stay in one place of the heap, and are wiped when it is dropped.
pub(super) struct Secret(Box<Zeroizing<[u8; SECRET_BYTES]>>);

impl Secret {
    fn zeros() -> Self {
        Self(Box::new(Zeroizing::new([0; SECRET_BYTES])))
    }

    /// A fresh key.
    pub(super) fn random() -> Result<Self, EntropyError> {
        let mut secret = Self::zeros();
        fill_random(&mut **secret.0)?;
        Ok(secret)
    }

    fn decode(digits: &[u8]) -> Result<Self, LineFault> {
        let mut secret = Self::zeros();
        if digits.len() != 2 * SECRET_BYTES {
            return Err(LineFault::Hex);
        }
        for (byte, pair) in secret.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        let bytes = secret.expose();
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(LineFault::Weak);
        }
        Ok(secret)
    }

    pub(super) fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

fn nibble(digit: u8) -> Result<u8, LineFault> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(LineFault::Hex),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The keys of a key file. They are wiped from memory when this is dropped.
pub struct Keys {
    path: PathBuf,
    /// With rising ids, all below that of `newest`.
    older: Vec<(KeyId, Secret)>,
    newest: (KeyId, Secret),
}

impl Keys {
    /// The id of the key that seals: that of the last line.
    pub const fn newest(&self) -> KeyId {
        self.newest.0
    }

    /// The ids of all keys, rising.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.older.iter().map(|(id, _)| *id).chain([self.newest.0])
    }

    /// The file that they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn older_secrets(&self) -> &[(KeyId, Secret)] {
        &self.older
    }

    pub(super) const fn newest_secret(&self) -> &Secret {
        &self.newest.1
    }

    /// Reads the text of a key file.
    pub(super) fn decode(path: &Path, text: &[u8]) -> Result<Self, KeyError> {
        let refuse = |fault| KeyError::File {
            path: path.to_owned(),
            fault,
        };
        let lines = key_lines(text).map_err(refuse)?;
        let mut ring = Vec::with_capacity(lines.len());
        for (index, line) in lines.into_iter().enumerate() {
            let key = decode_line(line, &ring).map_err(|fault| KeyError::Line {
                path: path.to_owned(),
                line: index + 2,
                fault,
            })?;
            ring.push(key);
        }
        let newest = ring.pop().ok_or_else(|| refuse(FileFault::NoKeys))?;
        Ok(Self {
            path: path.to_owned(),
            older: ring,
            newest,
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u32> = self.ids().map(KeyId::get).collect();
        f.debug_struct("Keys")
            .field("path", &self.path)
            .field("ids", &ids)
            .finish_non_exhaustive()
    }
}

/// The lines that hold keys: those after the first.
fn key_lines(text: &[u8]) -> Result<Vec<&[u8]>, FileFault> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let number = lines.next().and_then(|line| line.strip_prefix(MAGIC));
    match number.and_then(KeyId::decode).map(KeyId::get) {
        Some(1) => {}
        Some(found) => return Err(FileFault::NewerFormat { found }),
        None => return Err(FileFault::Header),
    }
    match lines.next_back() {
        Some([]) => {}
        _ => return Err(FileFault::CutOff),
    }
    let lines: Vec<&[u8]> = lines.collect();
    if lines.len() > STORE_KEYS_MAX {
        return Err(FileFault::TooManyKeys);
    }
    Ok(lines)
}

fn decode_line(line: &[u8], before: &[(KeyId, Secret)]) -> Result<(KeyId, Secret), LineFault> {
    let blank = line.iter().position(|byte| *byte == b' ');
    let (id, digits) = line.split_at(blank.ok_or(LineFault::Shape)?);
    let id = KeyId::decode(id).ok_or(LineFault::Id)?;
    let secret = Secret::decode(&digits[1..])?;
    if let Some((before, _)) = before.last()
        && id <= *before
    {
        let before = *before;
        return Err(LineFault::Order { id, before });
    }
    let same = before
        .iter()
        .find(|(_, own)| own.expose() == secret.expose());
    match same {
        Some((other, _)) => Err(LineFault::SameKey { other: *other }),
        None => Ok((id, secret)),
    }
}

/// Appends the line of a key to a text that has room for it, or the old text would stay in memory.
pub(super) fn encode_line(id: KeyId, secret: &Secret, text: &mut Zeroizing<Vec<u8>>) {
    debug_assert!(text.capacity() - text.len() >= LINE_BYTES_MAX);
    text.extend_from_slice(id.to_string().as_bytes());
    text.push(b' ');
    for byte in secret.expose() {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text.push(b'\n');
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

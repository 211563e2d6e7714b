//! How deep values stand in each other, told from their bytes without reading them.
//!
//! Readers call themselves for every level, and MessagePack's does not count the levels of an enum at all: bytes off a wire
//! could end the process. So nothing deeper than [`NESTING_MAX`] reaches a reader.

use super::Codec;
use crate::model::limits::NESTING_MAX;

/// What an error says of bytes that are too deep.
pub(super) fn too_deep() -> String {
    format!("lists and maps stand in each other deeper than {NESTING_MAX} levels")
}

/// Whether `bytes` hold lists and maps in each other beyond [`NESTING_MAX`]. It is right about everything that a reader
/// would come to; what follows malformed bytes is not looked at.
pub(super) fn is_too_deep(codec: Codec, bytes: &[u8]) -> bool {
    // Each level takes a byte at least.
    bytes.len() > NESTING_MAX
        && match codec {
            Codec::MessagePack => is_packed_too_deep(bytes),
            Codec::Json => is_text_too_deep(bytes),
        }
}

fn is_text_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
        at += 1;
    }
    false
}

fn is_packed_too_deep(mut rest: &[u8]) -> bool {
    // How many values are still to come on each level.
    let mut levels: Vec<u64> = Vec::new();
    while let Some(value) = Value::take(&mut rest) {
        match value {
            Value::Plain => {}
            Value::Holds(_) if levels.len() == NESTING_MAX => return true,
            Value::Holds(0) => {}
            Value::Holds(values) => {
                levels.push(values);
                continue;
            }
        }
        // A value has ended, and with it every level whose last one it was.
        while let Some(left) = levels.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            levels.pop();
        }
        if levels.is_empty() {
            return false;
        }
    }
    false
}

/// The beginning of a value in MessagePack.
enum Value {
    /// One without values in it.
    Plain,
    /// A list or map that holds so many values; keys count.
    Holds(u64),
}

impl Value {
    /// Takes the next value, up to the values in it; `None` where the bytes end, or mean nothing.
    fn take(rest: &mut &[u8]) -> Option<Self> {
        let (&marker, after) = rest.split_first()?;
        *rest = after;
        let low = u64::from(marker & 0x0f);
        // How many bytes of number follow, and how many more there are without it.
        let (length_bytes, more) = match marker {
            0x80..=0x8f => return Some(Self::Holds(low * 2)),
            0x90..=0x9f => return Some(Self::Holds(low)),
            0xdc | 0xdd => return number(rest, 2 << (marker - 0xdc)).map(Self::Holds),
            0xde | 0xdf => {
                let pairs = number(rest, 2 << (marker - 0xde))?;
                return Some(Self::Holds(pairs * 2));
            }
            0xa0..=0xbf => (0, u64::from(marker & 0x1f)),
            0xc4..=0xc6 => (1 << (marker - 0xc4), 0),
            0xc7..=0xc9 => (1 << (marker - 0xc7), 1),
            0xca => (0, 4),
            0xcb => (0, 8),
            0xcc..=0xcf => (0, 1 << (marker - 0xcc)),
            0xd0..=0xd3 => (0, 1 << (marker - 0xd0)),
            0xd4..=0xd8 => (0, (1 << (marker - 0xd4)) + 1),
            0xd9..=0xdb => (1 << (marker - 0xd9), 0),
            0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => (0, 0),
        };
        let length = number(rest, length_bytes)? + more;
        *rest = rest.get(usize::try_from(length).ok()?..)?;
        Some(Self::Plain)
    }
}

/// Takes a big-endian number of so many bytes, at most 4.
fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let (number, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    let add = |sum, byte: &u8| sum << 8 | u64::from(*byte);
    Some(number.iter().fold(0, add))
}

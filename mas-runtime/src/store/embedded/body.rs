//! The body of a record of the commit log: what one batch has changed.
//!
//! **Layout**: one byte for the layout's version, 1, then the changes in the order of their keys. Numbers are big-endian.
//!
//! | change | bytes | encoding |
//! |---|---|---|
//! | a value | 7 and more | `01`, key length u16, value length u32, key, value |
//! | a removal | 3 and more | `00`, key length u16, key |
//!
//! Changes are absolute, so it does no harm to make them twice.

use bytes::{BufMut, Bytes};

use crate::store::Corrupt;
use crate::store::keys::Key;

const VERSION: u8 = 1;
const REMOVED: u8 = 0;
const PUT: u8 = 1;

/// A body under construction.
#[derive(Debug)]
pub(super) struct BodyWriter(Vec<u8>);

impl BodyWriter {
    pub(super) fn new() -> Self {
        Self(vec![VERSION])
    }

    /// Adds a change. Invariant: keys are shorter than 64 KiB and values than 4 GiB, far beyond the limits of a batch.
    pub(super) fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.0.put_u8(if value.is_some() { PUT } else { REMOVED });
        self.0.put_u16(key.len() as u16);
        if let Some(value) = value {
            self.0.put_u32(value.len() as u32);
        }
        self.0.put_slice(key);
        self.0.put_slice(value.unwrap_or_default());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Shows the changes of a body.
pub(super) fn decode(
    body: &[u8],
    mut visit: impl FnMut(Key, Option<Bytes>),
) -> Result<(), Corrupt> {
    let damaged = |reason: &str| Corrupt::new("record of the commit log", reason);
    let Some((&VERSION, mut rest)) = body.split_first() else {
        return Err(damaged("it has a layout that this version does not know"));
    };
    while !rest.is_empty() {
        let (change, behind) = change(rest).ok_or_else(|| damaged("a change is not whole"))?;
        visit(change.0, change.1);
        rest = behind;
    }
    Ok(())
}

type Change = (Key, Option<Bytes>);

fn change(bytes: &[u8]) -> Option<(Change, &[u8])> {
    let (what, rest) = bytes.split_first()?;
    let (key_bytes, rest) = rest.split_first_chunk()?;
    let key_bytes = usize::from(u16::from_be_bytes(*key_bytes));
    match *what {
        REMOVED => {
            let (key, rest) = rest.split_at_checked(key_bytes)?;
            Some(((key.to_vec(), None), rest))
        }
        PUT => {
            let (value_bytes, rest) = rest.split_first_chunk()?;
            let (key, rest) = rest.split_at_checked(key_bytes)?;
            let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*value_bytes) as usize)?;
            Some(((key.to_vec(), Some(Bytes::copy_from_slice(value))), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(body: &[u8]) -> Result<Vec<Change>, Corrupt> {
        let mut changes = Vec::new();
        decode(body, |key, value| changes.push((key, value)))?;
        Ok(changes)
    }

    #[test]
    fn layout_1_of_a_body_is_as_it_was() {
        let mut body = BodyWriter::new();
        body.add(&[1, 2], Some(&[3]));
        body.add(&[4], None);
        assert_eq!(body.finish(), [1, 1, 0, 2, 0, 0, 0, 1, 1, 2, 3, 0, 0, 1, 4]);
    }

    proptest! {
        #[test]
        fn changes_come_back(changes in prop::collection::vec((any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..9), cut in any::<prop::sample::Index>()) {
            let mut body = BodyWriter::new();
            let mut ends = vec![1];
            for (key, value) in &changes {
                body.add(key, value.as_deref());
                ends.push(body.0.len());
            }
            let body = body.finish();
            let expected: Vec<_> = changes.into_iter().map(|(key, value)| (key, value.map(Bytes::from))).collect();
            prop_assert_eq!(decoded(&body).unwrap(), expected);
            let cut = cut.index(body.len());
            prop_assert_eq!(decoded(&body[..cut]).is_ok(), ends.contains(&cut));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = decoded(&bytes);
        }
    }
}

//! What a durable inbox remembers of the messages that were handled: their ids, and the replies to them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::delivery::Answer;
use crate::model::limits::DEDUP_ENTRIES_MAX;
use crate::model::{Codec, Failure, MessageId, Payload, PayloadError};

/// The first byte of a kept reply.
const REPLY_VALUE: u8 = 1;
const REPLY_NOTHING: u8 = 0;
const REPLY_FAILURE: u8 = 2;

/// The ids that were handled within the window of dedup.
#[derive(Default)]
pub(super) struct Seen {
    /// When each is forgotten, on the wall clock in milliseconds.
    ids: BTreeMap<MessageId, u64>,
    by_age: BTreeSet<(u64, MessageId)>,
}

impl Seen {
    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.ids.contains_key(&id)
    }

    pub(super) fn insert(&mut self, id: MessageId, expires: u64) {
        if let Some(before) = self.ids.insert(id, expires) {
            self.by_age.remove(&(before, id));
        }
        self.by_age.insert((expires, id));
    }

    pub(super) fn forget(&mut self, id: MessageId) {
        if let Some(expires) = self.ids.remove(&id) {
            self.by_age.remove(&(expires, id));
        }
    }

    /// Takes out what is too old, or too much.
    pub(super) fn expired(&mut self, now: u64) -> Vec<MessageId> {
        let mut old = Vec::new();
        while let Some(&(expires, id)) = self.by_age.first() {
            if expires > now && self.by_age.len() < DEDUP_ENTRIES_MAX {
                break;
            }
            self.forget(id);
            old.push(id);
        }
        old
    }
}

/// The bytes of a reply that is kept for a repeated ask: a kind, then MessagePack.
///
/// # Errors
/// When the reply can't be encoded, or is larger than `bytes_max`.
pub(crate) fn encode_reply(reply: &Payload, bytes_max: usize) -> Result<Bytes, PayloadError> {
    if reply.is_empty() {
        return Ok(Bytes::from_static(&[REPLY_NOTHING]));
    }
    let body = reply.bytes(Codec::MessagePack)?;
    if body.len() > bytes_max {
        let bytes = body.len();
        return Err(PayloadError::TooLarge { bytes, bytes_max });
    }
    Ok(with_kind(REPLY_VALUE, &body))
}

/// The bytes of a failure that is kept for a repeated ask.
pub(crate) fn encode_failure(failure: &Failure) -> Bytes {
    let body = Codec::MessagePack.encode(failure);
    with_kind(REPLY_FAILURE, &body.unwrap_or_default())
}

fn with_kind(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes.into()
}

/// The answer that such bytes stand for.
pub(super) fn decode_answer(bytes: Option<&[u8]>) -> Answer {
    match bytes.and_then(<[u8]>::split_first) {
        Some((&REPLY_VALUE, body)) => Ok(Payload::encoded(
            Codec::MessagePack,
            Bytes::copy_from_slice(body),
        )),
        Some((&REPLY_FAILURE, body)) => Err(Codec::MessagePack
            .decode(body)
            .unwrap_or_else(|error| Failure::permanent(error.to_string()))),
        _ => Ok(Payload::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Entropy, SystemClock};

    #[test]
    fn one_id_more_than_the_limit_puts_the_oldest_out() {
        let clock = SystemClock::new();
        let entropy = Entropy::seeded(1);
        let mut seen = Seen::default();
        let mut ids = Vec::new();
        for number in 0..DEDUP_ENTRIES_MAX {
            let id = MessageId::new(clock.unix(), &entropy);
            assert!(seen.expired(0).is_empty(), "{number} are not too many");
            seen.insert(id, 1_000 + number as u64);
            ids.push(id);
        }
        assert_eq!(seen.expired(0), ids[..1], "one more takes its place");
        assert_eq!(seen.expired(1_001), ids[1..2], "too old");
        assert!(!seen.ids.contains_key(&ids[1]));
        assert!(seen.ids.contains_key(&ids[2]));
    }
}

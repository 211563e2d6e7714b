//! Values: the bytes of everything that is stored.
//!
//! **Layout**: one byte for the layout's version, 1 so far, then the fields in order. Numbers are big-endian. A text is its
//! length in 4 bytes and its UTF-8; a list is its length in 2 bytes and its items. The payload comes last and takes the
//! rest, so that a read shares the bytes that it came in.
//!
//! | record | fields |
//! |---|---|
//! | counters | position u64, next seq u64 |
//! | state | version u64, schema u32, payload |
//! | inbox entry | message id 16, payload |
//! | delivery | attempts u32, not before u64, history list of texts |
//! | dedup | expires u64, flag u8 (1: a reply follows), payload |
//! | timer | due u64, payload |
//! | directory | lease until u64, payload |
//! | dead letter | agent text, message id 16, reason text, at u64, attempts u32, history list of texts, payload |
//! | outbox, journal, secret | payload |
//! | journal end | number of the next record u64 |

use bytes::{Buf, BufMut, Bytes};

use super::entry::{DeadEntry, DedupEntry, DirectoryEntry, InboxEntry, StoredState, TimerEntry};
use super::error::Corrupt;
use super::keys;
use crate::model::{AgentId, MessageId, Priority};

/// The only layout so far.
const VERSION: u8 = 1;

/// What the store counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Batches committed so far.
    pub(crate) position: u64,
    /// Numbers of inbox and outbox entries and dead letters given out so far.
    pub(crate) seqs: u64,
    /// Dead letters there are. Not stored: counted when the store is opened.
    pub(crate) dead: u64,
    /// No dead letter has this number or one below. Not stored.
    pub(crate) dead_above: u64,
}

/// What is kept of an inbox entry once it was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) attempts: u32,
    pub(crate) not_before_unix_ms: u64,
    pub(crate) history: Vec<String>,
}

/// A record under construction.
struct Writer(Vec<u8>);

impl Writer {
    fn new(payload_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(payload_bytes + 64);
        bytes.put_u8(VERSION);
        Self(bytes)
    }

    fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    fn id(mut self, id: MessageId) -> Self {
        self.0.put_slice(id.as_bytes());
        self
    }

    /// Invariant: texts are cut or checked before they come here, far below 4 GiB.
    fn text(mut self, text: &str) -> Self {
        self.0.put_u32(text.len() as u32);
        self.0.put_slice(text.as_bytes());
        self
    }

    /// Invariant: lists are cut before they come here, far below 65 536 items.
    fn texts(mut self, texts: &[String]) -> Self {
        self.0.put_u16(texts.len() as u16);
        texts.iter().fold(self, |writer, text| writer.text(text))
    }

    fn payload(mut self, payload: &[u8]) -> Bytes {
        self.0.put_slice(payload);
        self.0.into()
    }

    fn end(self) -> Bytes {
        self.0.into()
    }
}

/// A record that is read field by field.
struct Reader<'k> {
    key: &'k [u8],
    rest: Bytes,
}

impl<'k> Reader<'k> {
    fn new(key: &'k [u8], value: Bytes) -> Result<Self, Corrupt> {
        let mut reader = Self { key, rest: value };
        match reader.u8()? {
            VERSION => Ok(reader),
            other => Err(reader.corrupt(format!(
                "it has layout {other}, this version reads {VERSION}"
            ))),
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> Corrupt {
        Corrupt::new(keys::describe(self.key), reason)
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, Corrupt> {
        if self.rest.len() < bytes {
            let left = self.rest.len();
            return Err(self.corrupt(format!("{bytes} bytes were expected, {left} are left")));
        }
        Ok(self.rest.split_to(bytes))
    }

    fn u8(&mut self) -> Result<u8, Corrupt> {
        Ok(self.take(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16, Corrupt> {
        Ok(self.take(2)?.get_u16())
    }

    fn u32(&mut self) -> Result<u32, Corrupt> {
        Ok(self.take(4)?.get_u32())
    }

    fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(self.take(8)?.get_u64())
    }

    fn id(&mut self) -> Result<MessageId, Corrupt> {
        let mut id = [0; 16];
        self.take(16)?.copy_to_slice(&mut id);
        Ok(MessageId::from_bytes(id))
    }

    fn text(&mut self) -> Result<String, Corrupt> {
        let bytes = self.u32()? as usize;
        let text = self.take(bytes)?;
        String::from_utf8(text.into()).map_err(|_| self.corrupt("a text is not UTF-8"))
    }

    fn texts(&mut self) -> Result<Vec<String>, Corrupt> {
        // Grows with the items that are there, not with the count that is claimed.
        let count = self.u16()?;
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    fn payload(self) -> Bytes {
        self.rest
    }

    fn end(self) -> Result<(), Corrupt> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.corrupt(format!("{left} bytes follow its end"))),
        }
    }
}

pub(crate) fn encode_counters(counters: Counters) -> Bytes {
    Writer::new(0)
        .u64(counters.position)
        .u64(counters.seqs)
        .end()
}

pub(crate) fn decode_counters(key: &[u8], value: Bytes) -> Result<Counters, Corrupt> {
    let mut reader = Reader::new(key, value)?;
    let counters = Counters {
        position: reader.u64()?,
        seqs: reader.u64()?,
        ..Counters::default()
    };
    reader.end()?;
    Ok(counters)
}

pub(crate) fn encode_state(version: u64, schema: u32, bytes: &[u8]) -> Bytes {
    Writer::new(bytes.len())
        .u64(version)
        .u32(schema)
        .payload(bytes)
}

pub(crate) fn decode_state(key: &[u8], value: Bytes) -> Result<StoredState, Corrupt> {
    let mut reader = Reader::new(key, value)?;
    let (version, schema) = (reader.u64()?, reader.u32()?);
    if version == 0 {
        return Err(reader.corrupt("it has version 0, which stands for none"));
    }
    Ok(StoredState::new(version, schema, reader.payload()))
}

pub(crate) fn encode_inbox(id: MessageId, envelope: &[u8]) -> Bytes {
    Writer::new(envelope.len()).id(id).payload(envelope)
}

/// The id and the envelope of an inbox entry.
pub(crate) fn decode_inbox(key: &[u8], value: Bytes) -> Result<(MessageId, Bytes), Corrupt> {
    let mut reader = Reader::new(key, value)?;
    Ok((reader.id()?, reader.payload()))
}

/// An inbox entry from its two records.
pub(crate) fn join_inbox(
    lane: Priority,
    entry: (&[u8], Bytes),
    delivery: Delivery,
) -> Result<InboxEntry, Corrupt> {
    let (key, value) = entry;
    let (id, envelope) = decode_inbox(key, value)?;
    let mut entry = InboxEntry::new(keys::decode_seq(key)?, lane, id, envelope);
    entry.attempts = delivery.attempts;
    entry.not_before_unix_ms = delivery.not_before_unix_ms;
    entry.history = delivery.history;
    Ok(entry)
}

pub(crate) fn encode_delivery(delivery: &Delivery) -> Bytes {
    Writer::new(0)
        .u32(delivery.attempts)
        .u64(delivery.not_before_unix_ms)
        .texts(&delivery.history)
        .end()
}

pub(crate) fn decode_delivery(key: &[u8], value: Bytes) -> Result<Delivery, Corrupt> {
    let mut reader = Reader::new(key, value)?;
    let delivery = Delivery {
        attempts: reader.u32()?,
        not_before_unix_ms: reader.u64()?,
        history: reader.texts()?,
    };
    reader.end()?;
    Ok(delivery)
}

pub(crate) fn encode_dedup(reply: Option<&[u8]>, expires_unix_ms: u64) -> Bytes {
    let payload = reply.unwrap_or_default();
    Writer::new(payload.len())
        .u64(expires_unix_ms)
        .u8(u8::from(reply.is_some()))
        .payload(payload)
}

pub(crate) fn decode_dedup(key: &[u8], value: Bytes) -> Result<DedupEntry, Corrupt> {
    let id = keys::decode_id(key)?;
    let mut reader = Reader::new(key, value)?;
    let expires = reader.u64()?;
    let reply = match reader.u8()? {
        0 => {
            reader.end()?;
            None
        }
        1 => Some(reader.payload()),
        other => return Err(reader.corrupt(format!("flag {other}: expected 0 or 1"))),
    };
    Ok(DedupEntry::new(id, reply, expires))
}

pub(crate) fn encode_timer(due_unix_ms: u64, record: &[u8]) -> Bytes {
    Writer::new(record.len()).u64(due_unix_ms).payload(record)
}

pub(crate) fn decode_timer(key: &[u8], value: Bytes) -> Result<TimerEntry, Corrupt> {
    let mut reader = Reader::new(key, value)?;
    let due = reader.u64()?;
    Ok(TimerEntry::new(
        keys::decode_seq(key)?,
        due,
        reader.payload(),
    ))
}

pub(crate) fn encode_directory(lease_until_unix_ms: u64, record: &[u8]) -> Bytes {
    Writer::new(record.len())
        .u64(lease_until_unix_ms)
        .payload(record)
}

pub(crate) fn decode_directory(key: &[u8], value: Bytes) -> Result<DirectoryEntry, Corrupt> {
    let agent = keys::decode_agent(key)?;
    let mut reader = Reader::new(key, value)?;
    let lease = reader.u64()?;
    Ok(DirectoryEntry::new(agent, reader.payload(), lease))
}

pub(crate) fn encode_dead(dead: &DeadEntry) -> Bytes {
    Writer::new(dead.envelope.len())
        .text(dead.agent.as_str())
        .id(dead.id)
        .text(&dead.reason)
        .u64(dead.at_unix_ms)
        .u32(dead.attempts)
        .texts(&dead.history)
        .payload(&dead.envelope)
}

pub(crate) fn decode_dead(key: &[u8], value: Bytes) -> Result<DeadEntry, Corrupt> {
    let seq = keys::decode_seq(key)?;
    let mut reader = Reader::new(key, value)?;
    let agent = AgentId::new(reader.text()?).map_err(|e| reader.corrupt(e.to_string()))?;
    let (id, reason, at) = (reader.id()?, reader.text()?, reader.u64()?);
    let (attempts, history) = (reader.u32()?, reader.texts()?);
    let mut dead = DeadEntry::new(seq, agent, id, reason, at, reader.payload());
    dead.attempts = attempts;
    dead.history = history;
    Ok(dead)
}

/// A record that is its payload: outbox entries, journal records, secrets.
pub(crate) fn encode_payload(payload: &[u8]) -> Bytes {
    Writer::new(payload.len()).payload(payload)
}

pub(crate) fn decode_payload(key: &[u8], value: Bytes) -> Result<Bytes, Corrupt> {
    Reader::new(key, value).map(Reader::payload)
}

pub(crate) fn encode_number(number: u64) -> Bytes {
    Writer::new(0).u64(number).end()
}

pub(crate) fn decode_number(key: &[u8], value: Bytes) -> Result<u64, Corrupt> {
    let mut reader = Reader::new(key, value)?;
    let number = reader.u64()?;
    reader.end()?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agent() -> AgentId {
        AgentId::new("worker@node").unwrap()
    }

    fn id() -> MessageId {
        MessageId::from_bytes([7; 16])
    }

    /// One record of each kind: its key, its bytes, and whether its payload may be cut short without notice.
    fn samples(payload: &[u8], texts: &[String], number: u64) -> Vec<(Vec<u8>, Bytes, bool)> {
        let agent = agent();
        let delivery = Delivery {
            attempts: 3,
            not_before_unix_ms: number,
            history: texts.to_vec(),
        };
        let mut dead = DeadEntry::new(
            9,
            agent.clone(),
            id(),
            "why".into(),
            number,
            payload.to_vec().into(),
        );
        dead.history = texts.to_vec();
        let counters = Counters {
            position: number,
            seqs: 4,
            ..Counters::default()
        };
        let lane = Priority::Low;
        vec![
            (keys::counters(), encode_counters(counters), false),
            (
                keys::state(&agent),
                encode_state(number | 1, 2, payload),
                true,
            ),
            (
                keys::inbox(&agent, lane, 9),
                encode_inbox(id(), payload),
                true,
            ),
            (
                keys::delivery(&agent, lane, 9),
                encode_delivery(&delivery),
                false,
            ),
            (
                keys::dedup(&agent, id()),
                encode_dedup(Some(payload), number),
                true,
            ),
            (keys::dedup(&agent, id()), encode_dedup(None, number), false),
            (keys::timer(&agent, 9), encode_timer(number, payload), true),
            (
                keys::directory(&agent),
                encode_directory(number, payload),
                true,
            ),
            (keys::dead(9), encode_dead(&dead), true),
            (keys::outbox(&agent, 9), encode_payload(payload), true),
            (keys::journal_end("j"), encode_number(number), false),
            (keys::journal("j", 9), encode_payload(payload), true),
            (keys::secret("s"), encode_payload(payload), true),
        ]
    }

    /// Reads a record by its key's space.
    fn decode(key: &[u8], value: Bytes) -> Result<String, Corrupt> {
        let shown = |value: &dyn std::fmt::Debug| format!("{value:?}");
        Ok(match key[0] {
            0x00 => shown(&decode_counters(key, value)?),
            0x10 => shown(&decode_state(key, value)?),
            0x20 => shown(&join_inbox(
                Priority::Low,
                (key, value),
                Delivery::default(),
            )?),
            0x21 => shown(&decode_delivery(key, value)?),
            0x40 => shown(&decode_dedup(key, value)?),
            0x50 => shown(&decode_timer(key, value)?),
            0x60 => shown(&decode_directory(key, value)?),
            0x70 => shown(&decode_dead(key, value)?),
            0x81 => shown(&decode_number(key, value)?),
            _ => shown(&decode_payload(key, value)?),
        })
    }

    proptest! {
        #[test]
        fn records_survive_the_disk(payload in any::<Vec<u8>>(), texts in prop::collection::vec(".*", 0..4), number in any::<u64>()) {
            let (agent, bytes) = (agent(), Bytes::from(payload.clone()));
            let state = decode_state(&keys::state(&agent), encode_state(number | 1, 2, &payload)).unwrap();
            prop_assert_eq!(state, StoredState::new(number | 1, 2, bytes.clone()));
            let delivery = Delivery { attempts: 3, not_before_unix_ms: number, history: texts.clone() };
            let key = keys::delivery(&agent, Priority::Low, 9);
            prop_assert_eq!(decode_delivery(&key, encode_delivery(&delivery)).unwrap(), delivery);
            for reply in [None, Some(bytes.clone())] {
                let value = encode_dedup(reply.as_deref(), number);
                let back = decode_dedup(&keys::dedup(&agent, id()), value).unwrap();
                prop_assert_eq!(back, DedupEntry::new(id(), reply, number));
            }
            let timer = decode_timer(&keys::timer(&agent, 9), encode_timer(number, &payload)).unwrap();
            prop_assert_eq!(timer, TimerEntry::new(9, number, bytes.clone()));
            let entry = decode_directory(&keys::directory(&agent), encode_directory(number, &payload)).unwrap();
            prop_assert_eq!(entry, DirectoryEntry::new(agent.clone(), bytes.clone(), number));
            let mut dead = DeadEntry::new(9, agent, id(), "why".into(), number, bytes);
            dead.attempts = 5;
            dead.history = texts;
            prop_assert_eq!(decode_dead(&keys::dead(9), encode_dead(&dead)).unwrap(), dead);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in any::<prop::sample::Index>(), with in 1u8..) {
            for (key, value, _) in samples(b"payload", &["a".to_owned(), "b".to_owned()], 5) {
                let mut bytes = value.to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= with;
                let _ = decode(&key, bytes.into());
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_a_named_error(bytes in any::<Vec<u8>>()) {
            for (key, _, _) in samples(b"", &[], 1) {
                if let Err(error) = decode(&key, bytes.clone().into()) {
                    prop_assert!(error.to_string().starts_with("the stored "));
                }
            }
        }
    }

    #[test]
    fn prefixes_are_refused_up_to_the_payload() {
        let payload = b"payload";
        for (key, value, open) in samples(payload, &["a".to_owned()], 5) {
            let fixed = value.len() - if open { payload.len() } else { 0 };
            for end in 0..fixed {
                assert!(decode(&key, value.slice(..end)).is_err(), "{key:?} {end}");
            }
            assert!(decode(&key, value).is_ok());
        }
    }

    /// What stands in stores, by its key: it may be added to, with another version, and never changed.
    const LAYOUT_1: [(&str, &str); 13] = [
        ("00", "0100000000000001020000000000000004"),
        (
            "10776f726b6572406e6f64650001",
            "010000000000000103000000027061796c6f6164",
        ),
        (
            "20776f726b6572406e6f64650001030000000000000009",
            "01070707070707070707070707070707077061796c6f6164",
        ),
        (
            "21776f726b6572406e6f64650001030000000000000009",
            "010000000300000000000001020002000000016100000002c3bc",
        ),
        (
            "40776f726b6572406e6f6465000107070707070707070707070707070707",
            "010000000000000102017061796c6f6164",
        ),
        (
            "40776f726b6572406e6f6465000107070707070707070707070707070707",
            "01000000000000010200",
        ),
        (
            "50776f726b6572406e6f646500010000000000000009",
            "0100000000000001027061796c6f6164",
        ),
        (
            "60776f726b6572406e6f64650001",
            "0100000000000001027061796c6f6164",
        ),
        (
            "700000000000000009",
            "010000000b776f726b6572406e6f6465070707070707070707070707070707070000000377687900\
             00000000000102000000000002000000016100000002c3bc7061796c6f6164",
        ),
        (
            "30776f726b6572406e6f646500010000000000000009",
            "017061796c6f6164",
        ),
        ("816a0001", "010000000000000102"),
        ("806a00010000000000000009", "017061796c6f6164"),
        ("90730001", "017061796c6f6164"),
    ];

    #[test]
    fn layout_1_of_every_record_and_key_is_as_it_was() {
        let texts = ["a".to_owned(), "\u{fc}".to_owned()];
        for ((key, value, _), expected) in
            samples(b"payload", &texts, 258).into_iter().zip(LAYOUT_1)
        {
            assert_eq!((&*hex(&key), &*hex(&value)), expected);
            assert!(decode(&key, value).is_ok());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_later_layout_is_named() {
        for (key, value, _) in samples(b"", &[], 1) {
            let mut bytes = value.to_vec();
            bytes[0] = 2;
            let error = decode(&key, bytes.into()).unwrap_err();
            assert_eq!(error.reason, "it has layout 2, this version reads 1");
        }
    }
}

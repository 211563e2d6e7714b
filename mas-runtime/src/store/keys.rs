//! Keys: how everything that is stored is ordered.
//!
//! **Layout**: one byte for the space, then the parts of the key.
//!
//! | space | byte | parts | value |
//! |---|---|---|---|
//! | counters | `00` | | position and next number of the store |
//! | state | `10` | agent | state |
//! | inbox | `20` | agent, lane, seq | inbox entry |
//! | delivery | `21` | agent, lane, seq | attempts and history of an inbox entry that was tried |
//! | outbox | `30` | agent, seq | outbox entry |
//! | dedup | `40` | agent, message id | dedup entry |
//! | timer | `50` | agent, timer | timer |
//! | directory | `60` | agent | directory entry |
//! | dead | `70` | seq | dead letter |
//! | journal | `80` | name, number | journal record |
//! | journal end | `81` | name | number of the next record |
//! | secret | `90` | name | secret |
//!
//! The bytes from `f0` on are free for what an engine keeps for itself.
//!
//! | part | bytes | encoding |
//! |---|---|---|
//! | agent, name | 2 and more | the text with `00` written as `00 ff`, then `00 01` |
//! | lane | 1 | 0 critical to 4 bulk |
//! | message id | 16 | as it is |
//! | seq, number, timer | 8 | big-endian |
//!
//! The order of keys is the order of what they mean: texts by their bytes, numbers by size. No text's key is a prefix of
//! another's, so the range of one agent never holds a key of `agent-2` or `agent@node`.

use std::ops::Range;

use super::error::Corrupt;
use crate::model::{AgentId, MessageId, Priority};

/// A part of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Space {
    Counters = 0x00,
    State = 0x10,
    Inbox = 0x20,
    Delivery = 0x21,
    Outbox = 0x30,
    Dedup = 0x40,
    Timer = 0x50,
    Directory = 0x60,
    Dead = 0x70,
    Journal = 0x80,
    JournalEnd = 0x81,
    Secret = 0x90,
}

impl Space {
    /// What an agent owns, and loses when it is erased.
    pub(crate) const OF_AGENT: [Self; 7] = [
        Self::State,
        Self::Inbox,
        Self::Delivery,
        Self::Outbox,
        Self::Dedup,
        Self::Timer,
        Self::Directory,
    ];

    /// The space's name, for error texts.
    const fn name(self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::State => "state",
            Self::Inbox => "inbox entry",
            Self::Delivery => "delivery record",
            Self::Outbox => "outbox entry",
            Self::Dedup => "dedup entry",
            Self::Timer => "timer",
            Self::Directory => "directory entry",
            Self::Dead => "dead letter",
            Self::Journal => "journal record",
            Self::JournalEnd => "journal end",
            Self::Secret => "secret",
        }
    }

    /// The space of a key.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let first = key.first()?;
        Self::ALL.into_iter().find(|space| *space as u8 == *first)
    }

    const ALL: [Self; 12] = [
        Self::Counters,
        Self::State,
        Self::Inbox,
        Self::Delivery,
        Self::Outbox,
        Self::Dedup,
        Self::Timer,
        Self::Directory,
        Self::Dead,
        Self::Journal,
        Self::JournalEnd,
        Self::Secret,
    ];
}

/// The first byte that engines use for themselves.
pub(crate) const ENGINE_SPACE: u8 = 0xf0;

/// An encoded key.
pub(crate) type Key = Vec<u8>;

/// Keys from `from` on, up to but not with `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Key,
    pub(crate) to: Key,
}

impl KeyRange {
    /// All keys that begin with `prefix`, which holds a byte that is not `ff`.
    pub(crate) fn of_prefix(prefix: Key) -> Self {
        let mut to = prefix.clone();
        while to.pop_if(|last| *last == 0xff).is_some() {}
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix, to }
    }

    /// The part of this range that comes after `key`.
    pub(crate) fn after(mut self, key: &[u8]) -> Self {
        let mut next = key.to_vec();
        next.push(0);
        self.from = self.from.max(next);
        self
    }

    /// The part of this range from `key` on.
    pub(crate) fn starting_at(mut self, key: Key) -> Self {
        self.from = self.from.max(key);
        self
    }

    /// The part of this range up to but not with `key`.
    pub(crate) fn before(mut self, key: Key) -> Self {
        self.to = self.to.min(key);
        self
    }

    /// The range as the standard maps take it: empty where its ends have crossed, which they would not forgive.
    pub(crate) fn bounds(&self) -> Range<&Key> {
        &self.from..(&self.to).max(&self.from)
    }

    /// Whether no key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// Whether `key` is in it.
    #[cfg(test)]
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }
}

fn text(key: &mut Key, text: &str) {
    text_open(key, text);
    key.extend([0x00, 0x01]);
}

/// A text without its end: a prefix of the key parts of all texts that begin with it.
fn text_open(key: &mut Key, text: &str) {
    for byte in text.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
}

fn in_space(space: Space, name: &str, rest: &[u8]) -> Key {
    let mut key = Vec::with_capacity(name.len() + rest.len() + 3);
    key.push(space as u8);
    text(&mut key, name);
    key.extend_from_slice(rest);
    key
}

pub(crate) fn counters() -> Key {
    vec![Space::Counters as u8]
}

pub(crate) fn state(agent: &AgentId) -> Key {
    in_space(Space::State, agent.as_str(), &[])
}

pub(crate) fn inbox(agent: &AgentId, lane: Priority, seq: u64) -> Key {
    lane_seq(Space::Inbox, agent, lane, seq)
}

pub(crate) fn delivery(agent: &AgentId, lane: Priority, seq: u64) -> Key {
    lane_seq(Space::Delivery, agent, lane, seq)
}

fn lane_seq(space: Space, agent: &AgentId, lane: Priority, seq: u64) -> Key {
    let mut rest = [0; 9];
    rest[0] = lane.lane() as u8;
    rest[1..].copy_from_slice(&seq.to_be_bytes());
    in_space(space, agent.as_str(), &rest)
}

pub(crate) fn inbox_lane(agent: &AgentId, lane: Priority) -> KeyRange {
    KeyRange::of_prefix(in_space(Space::Inbox, agent.as_str(), &[lane.lane() as u8]))
}

pub(crate) fn outbox(agent: &AgentId, seq: u64) -> Key {
    in_space(Space::Outbox, agent.as_str(), &seq.to_be_bytes())
}

pub(crate) fn dedup(agent: &AgentId, id: MessageId) -> Key {
    in_space(Space::Dedup, agent.as_str(), id.as_bytes())
}

pub(crate) fn timer(agent: &AgentId, timer: u64) -> Key {
    in_space(Space::Timer, agent.as_str(), &timer.to_be_bytes())
}

pub(crate) fn directory(agent: &AgentId) -> Key {
    in_space(Space::Directory, agent.as_str(), &[])
}

pub(crate) fn dead(seq: u64) -> Key {
    let mut key = vec![Space::Dead as u8];
    key.extend(seq.to_be_bytes());
    key
}

pub(crate) fn journal(name: &str, seq: u64) -> Key {
    in_space(Space::Journal, name, &seq.to_be_bytes())
}

pub(crate) fn journal_end(name: &str) -> Key {
    in_space(Space::JournalEnd, name, &[])
}

pub(crate) fn secret(name: &str) -> Key {
    in_space(Space::Secret, name, &[])
}

/// All keys of a space.
pub(crate) fn whole(space: Space) -> KeyRange {
    KeyRange::of_prefix(vec![space as u8])
}

/// All keys of a space that belong to one agent or name.
pub(crate) fn owned(space: Space, name: &str) -> KeyRange {
    KeyRange::of_prefix(in_space(space, name, &[]))
}

/// The keys of a space whose names begin with `prefix`.
pub(crate) fn named(space: Space, prefix: &str) -> KeyRange {
    let mut key = vec![space as u8];
    text_open(&mut key, prefix);
    KeyRange::of_prefix(key)
}

/// The number that a key ends with.
pub(crate) fn decode_seq(key: &[u8]) -> Result<u64, Corrupt> {
    match key.last_chunk() {
        Some(last) => Ok(u64::from_be_bytes(*last)),
        None => Err(damaged(key, "it ends before its number")),
    }
}

/// The lane of an inbox entry, in front of its number.
pub(crate) fn decode_lane(key: &[u8]) -> Result<Priority, Corrupt> {
    let lane = key.len().checked_sub(9).and_then(|at| key.get(at));
    lane.and_then(|lane| Priority::from_lane(*lane))
        .ok_or_else(|| damaged(key, "it names no lane"))
}

/// The message id that a key ends with.
pub(crate) fn decode_id(key: &[u8]) -> Result<MessageId, Corrupt> {
    match key.last_chunk() {
        Some(last) => Ok(MessageId::from_bytes(*last)),
        None => Err(damaged(key, "it ends before its message id")),
    }
}

/// The agent that a key belongs to.
pub(crate) fn decode_agent(key: &[u8]) -> Result<AgentId, Corrupt> {
    AgentId::new(decode_name(key)?).map_err(|e| damaged(key, &e.to_string()))
}

/// The agent or name that a key belongs to.
pub(crate) fn decode_name(key: &[u8]) -> Result<String, Corrupt> {
    let mut text = Vec::new();
    let mut rest = key.iter().skip(1);
    loop {
        match rest.next() {
            Some(0) => match rest.next() {
                Some(0x01) => break,
                Some(0xff) => text.push(0),
                _ => return Err(damaged(key, "00 is followed by neither 01 nor ff")),
            },
            Some(byte) => text.push(*byte),
            None => return Err(damaged(key, "its text does not end")),
        }
    }
    String::from_utf8(text).map_err(|_| damaged(key, "its text is not UTF-8"))
}

fn damaged(key: &[u8], reason: &str) -> Corrupt {
    Corrupt::new(format!("key of {}", describe(key)), reason)
}

/// What a key stands for, for error texts: the space, the name up to its end, the rest in hexadecimal.
pub(crate) fn describe(key: &[u8]) -> String {
    let (space, rest) = match Space::of(key) {
        None => ("unknown entry", key),
        // A secret's name may say more than logs should hold.
        Some(Space::Secret) => return Space::Secret.name().to_owned(),
        Some(space) => (space.name(), &key[1..]),
    };
    let end = match rest.first() {
        Some(1..) => rest.iter().position(|byte| *byte == 0).unwrap_or(0),
        _ => 0,
    };
    let name = String::from_utf8_lossy(&rest[..end]);
    let hex: String = rest[end..].iter().map(|b| format!("{b:02x}")).collect();
    format!("{space} {name}[{hex}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Short ids over the characters around the edges of the alphabet, so that prefixes of each other are common.
    fn agents() -> impl Strategy<Value = AgentId> {
        "[-.09:AZ_az]{1,4}(@[-.09:AZ_az]{1,2})?".prop_map(|text| AgentId::new(text).unwrap())
    }

    fn lanes() -> impl Strategy<Value = Priority> {
        (0u8..5).prop_map(|lane| Priority::from_lane(lane).unwrap())
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_what_they_mean(
            a in (agents(), lanes(), any::<u64>()),
            b in (agents(), lanes(), any::<u64>()),
        ) {
            prop_assert_eq!(inbox(&a.0, a.1, a.2).cmp(&inbox(&b.0, b.1, b.2)), a.cmp(&b));
            let (x, y) = ((&a.0, a.2), (&b.0, b.2));
            prop_assert_eq!(outbox(x.0, x.1).cmp(&outbox(y.0, y.1)), x.cmp(&y));
            prop_assert_eq!(timer(x.0, x.1).cmp(&timer(y.0, y.1)), x.cmp(&y));
            prop_assert_eq!(dead(a.2).cmp(&dead(b.2)), a.2.cmp(&b.2));
            prop_assert_eq!(directory(&a.0).cmp(&directory(&b.0)), a.0.cmp(&b.0));
        }

        #[test]
        fn names_of_any_characters_are_ordered_by_their_bytes(a in "[\u{0}\u{1}a\u{ff}]{0,4}", b in "[\u{0}\u{1}a\u{ff}]{0,4}") {
            prop_assert_eq!(secret(&a).cmp(&secret(&b)), a.cmp(&b));
            prop_assert_eq!(decode_name(&secret(&a)).unwrap(), a.clone());
            prop_assert_eq!(named(Space::Secret, &a).contains(&secret(&b)), b.starts_with(&a));
        }

        #[test]
        fn the_range_of_one_agent_holds_no_key_of_another(a in agents(), b in agents(), lane in lanes(), seq in any::<u64>()) {
            for space in Space::OF_AGENT {
                let range = owned(space, a.as_str());
                for key in [state(&b), inbox(&b, lane, seq), delivery(&b, lane, seq), outbox(&b, seq),
                    dedup(&b, MessageId::from_bytes([0xff; 16])), timer(&b, seq), directory(&b)] {
                    prop_assert_eq!(range.contains(&key), a == b && key[0] == space as u8);
                }
            }
            prop_assert_eq!(inbox_lane(&a, lane).contains(&inbox(&b, lane, seq)), a == b);
        }

        #[test]
        fn parts_come_back(agent in agents(), lane in lanes(), seq in any::<u64>(), id in any::<[u8; 16]>()) {
            prop_assert_eq!(decode_agent(&inbox(&agent, lane, seq)).unwrap(), agent.clone());
            prop_assert_eq!(decode_seq(&inbox(&agent, lane, seq)).unwrap(), seq);
            prop_assert_eq!(decode_id(&dedup(&agent, MessageId::from_bytes(id))).unwrap(), MessageId::from_bytes(id));
        }

        #[test]
        fn no_bytes_panic(key in any::<Vec<u8>>()) {
            let _ = (decode_agent(&key), decode_name(&key), decode_seq(&key), decode_id(&key), describe(&key));
        }
    }

    #[test]
    fn spaces_keep_apart_and_below_the_engines() {
        for (i, a) in Space::ALL.into_iter().enumerate() {
            assert!((a as u8) < ENGINE_SPACE);
            for b in &Space::ALL[i + 1..] {
                assert!(!whole(a).contains(&whole(*b).from) && !whole(*b).contains(&whole(a).from));
            }
        }
    }

    #[test]
    fn a_prefix_that_ends_in_ff_still_ends_its_range() {
        let range = KeyRange::of_prefix(vec![0x10, 0xff, 0xff]);
        assert!(range.contains(&[0x10, 0xff, 0xff, 0xff]) && !range.contains(&[0x11]));
    }
}

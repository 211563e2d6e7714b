//! One line of an export: a record in its logical form, or what holds the file together.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::base64;
use crate::model::limits::{
    HISTORY_ENTRIES_MAX, REASON_BYTES_MAX, STORE_NAME_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::model::{AgentId, MessageId, Priority};
use crate::store::keys::{self, Key, Space};
use crate::store::record::{self, Counters, Delivery};
use crate::store::{Corrupt, DeadEntry};

/// Bytes of a payload.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Payload(Bytes);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Payload, E> {
                let bytes = base64::decode(text);
                let bytes = bytes.ok_or_else(|| E::custom("bytes are not in base64"))?;
                Ok(Payload(bytes.into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The size: what is stored stays out of logs.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A lane by its number, 0 critical to 4 bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane(Priority);

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.lane() as u8).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let lane = Priority::from_lane(number);
        lane.map(Self)
            .ok_or_else(|| D::Error::custom("a lane is 0 to 4"))
    }
}

/// A record in its logical form. The members are those of the record's key, then those of its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[rustfmt::skip]
pub(super) enum Line {
    Counters { position: u64, seqs: u64 },
    State { agent: String, version: u64, schema: u32, bytes: Payload },
    Inbox { agent: String, lane: Lane, seq: u64, id: String, envelope: Payload },
    Delivery { agent: String, lane: Lane, seq: u64, attempts: u32, not_before_unix_ms: u64, history: Vec<String> },
    Outbox { agent: String, seq: u64, envelope: Payload },
    Dedup { agent: String, id: String, expires_unix_ms: u64, reply: Option<Payload> },
    Timer { agent: String, timer: u64, due_unix_ms: u64, record: Payload },
    Directory { agent: String, lease_until_unix_ms: u64, record: Payload },
    Dead { seq: u64, agent: String, id: String, reason: String, at_unix_ms: u64, attempts: u32, history: Vec<String>, envelope: Payload },
    Journal { name: String, number: u64, bytes: Payload },
    JournalEnd { name: String, next: u64 },
    Secret { name: String, bytes: Payload },
}

impl Line {
    /// The line of a record.
    #[rustfmt::skip]
    pub(super) fn of_record(key: &[u8], value: Bytes) -> Result<Self, Corrupt> {
        let unknown = || Corrupt::new(keys::describe(key), "this version does not know what it is");
        let agent = || keys::decode_agent(key).map(|agent| agent.to_string());
        let (name, seq) = (|| keys::decode_name(key), || keys::decode_seq(key));
        let lane = || keys::decode_lane(key).map(Lane);
        let payload = |value| record::decode_payload(key, value).map(Payload);
        Ok(match Space::of(key).ok_or_else(unknown)? {
            Space::Counters => {
                let counters = record::decode_counters(key, value)?;
                Self::Counters { position: counters.position, seqs: counters.seqs }
            }
            Space::State => {
                let state = record::decode_state(key, value)?;
                Self::State { agent: agent()?, version: state.version, schema: state.schema, bytes: Payload(state.bytes) }
            }
            Space::Inbox => {
                let (id, envelope) = record::decode_inbox(key, value)?;
                Self::Inbox { agent: agent()?, lane: lane()?, seq: seq()?, id: id.to_string(), envelope: Payload(envelope) }
            }
            Space::Delivery => {
                let Delivery { attempts, not_before_unix_ms, history } = record::decode_delivery(key, value)?;
                Self::Delivery { agent: agent()?, lane: lane()?, seq: seq()?, attempts, not_before_unix_ms, history }
            }
            Space::Outbox => Self::Outbox { agent: agent()?, seq: seq()?, envelope: payload(value)? },
            Space::Dedup => {
                let entry = record::decode_dedup(key, value)?;
                let (id, reply) = (entry.id.to_string(), entry.reply.map(Payload));
                Self::Dedup { agent: agent()?, id, expires_unix_ms: entry.expires_unix_ms, reply }
            }
            Space::Timer => {
                let timer = record::decode_timer(key, value)?;
                Self::Timer { agent: agent()?, timer: timer.timer, due_unix_ms: timer.due_unix_ms, record: Payload(timer.record) }
            }
            Space::Directory => {
                let entry = record::decode_directory(key, value)?;
                let (lease, record) = (entry.lease_until_unix_ms, Payload(entry.record));
                Self::Directory { agent: agent()?, lease_until_unix_ms: lease, record }
            }
            Space::Dead => {
                let dead = record::decode_dead(key, value)?;
                Self::Dead {
                    seq: dead.seq, agent: dead.agent.to_string(), id: dead.id.to_string(), reason: dead.reason,
                    at_unix_ms: dead.at_unix_ms, attempts: dead.attempts, history: dead.history, envelope: Payload(dead.envelope),
                }
            }
            Space::Journal => Self::Journal { name: name()?, number: seq()?, bytes: payload(value)? },
            Space::JournalEnd => Self::JournalEnd { name: name()?, next: record::decode_number(key, value)? },
            Space::Secret => Self::Secret { name: name()?, bytes: payload(value)? },
        })
    }

    /// The record of a line, or what is wrong with it.
    #[rustfmt::skip]
    pub(super) fn into_record(self) -> Result<(Key, Bytes), String> {
        Ok(match self {
            Self::Counters { position, seqs } => {
                let counters = Counters { position, seqs, ..Counters::default() };
                (keys::counters(), record::encode_counters(counters))
            }
            Self::State { version: 0, .. } => return Err("a state has version 0, which stands for none".to_owned()),
            Self::State { agent, version, schema, bytes } => {
                (keys::state(&agent_id(&agent)?), record::encode_state(version, schema, within(&bytes)?))
            }
            Self::Inbox { agent, lane, seq, id, envelope } => {
                (keys::inbox(&agent_id(&agent)?, lane.0, seq), record::encode_inbox(message_id(&id)?, within(&envelope)?))
            }
            Self::Delivery { agent, lane, seq, attempts, not_before_unix_ms, history } => {
                let delivery = Delivery { attempts, not_before_unix_ms, history: reasons(history)? };
                (keys::delivery(&agent_id(&agent)?, lane.0, seq), record::encode_delivery(&delivery))
            }
            Self::Outbox { agent, seq, envelope } => {
                (keys::outbox(&agent_id(&agent)?, seq), record::encode_payload(within(&envelope)?))
            }
            Self::Dedup { agent, id, expires_unix_ms, reply } => {
                let reply = reply.as_ref().map(within).transpose()?;
                (keys::dedup(&agent_id(&agent)?, message_id(&id)?), record::encode_dedup(reply, expires_unix_ms))
            }
            Self::Timer { agent, timer, due_unix_ms, record } => {
                (keys::timer(&agent_id(&agent)?, timer), record::encode_timer(due_unix_ms, within(&record)?))
            }
            Self::Directory { agent, lease_until_unix_ms, record } => {
                (keys::directory(&agent_id(&agent)?), record::encode_directory(lease_until_unix_ms, within(&record)?))
            }
            Self::Dead { seq, agent, id, reason, at_unix_ms, attempts, history, envelope } => {
                within(&envelope)?;
                let reason = reasons(vec![reason])?.remove(0);
                let mut dead = DeadEntry::new(seq, agent_id(&agent)?, message_id(&id)?, reason, at_unix_ms, envelope.0);
                dead.attempts = attempts;
                dead.history = reasons(history)?;
                (keys::dead(seq), record::encode_dead(&dead))
            }
            Self::Journal { name, number, bytes } => {
                (keys::journal(checked_name(&name)?, number), record::encode_payload(within(&bytes)?))
            }
            Self::JournalEnd { name, next } => (keys::journal_end(checked_name(&name)?), record::encode_number(next)),
            Self::Secret { name, bytes } => (keys::secret(checked_name(&name)?), record::encode_payload(within(&bytes)?)),
        })
    }
}

fn agent_id(text: &str) -> Result<AgentId, String> {
    AgentId::new(text).map_err(|error| error.to_string())
}

/// The id of a text, as it is shown.
fn message_id(text: &str) -> Result<MessageId, String> {
    let id = text.parse::<MessageId>().ok();
    id.filter(|id| id.to_string() == text)
        .ok_or_else(|| "a message id is not one".to_owned())
}

fn within(payload: &Payload) -> Result<&[u8], String> {
    at_most("a payload, in bytes,", payload.0.len(), VALUE_BYTES_MAX)?;
    Ok(&payload.0)
}

fn checked_name(name: &str) -> Result<&str, String> {
    at_most("a name, in bytes,", name.len(), STORE_NAME_BYTES_MAX)?;
    Ok(name)
}

fn reasons(reasons: Vec<String>) -> Result<Vec<String>, String> {
    at_most("a history", reasons.len(), HISTORY_ENTRIES_MAX)?;
    let longest = reasons.iter().map(String::len).max().unwrap_or(0);
    at_most("a reason, in bytes,", longest, REASON_BYTES_MAX)?;
    Ok(reasons)
}

fn at_most(what: &str, size: usize, max: usize) -> Result<(), String> {
    match size > max {
        true => Err(format!("{what} is {size}, the limit is {max}")),
        false => Ok(()),
    }
}

/// The first line. A later version may add members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Head {
    MasExport {
        format: u32,
        /// The version of mas that wrote it.
        mas: String,
        unix_ms: u64,
        position: u64,
    },
}

/// What follows records: their number and the CRC32C of the lines, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sum {
    /// Of the lines since the sum before.
    Check { records: u64, crc32c: String },
    /// Of all lines.
    End { records: u64, crc32c: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in exports: it may be added to, with another format, and never changed.
    #[test]
    fn format_1_of_lines_is_as_it_was() {
        let lines = [
            r#"{"counters":{"position":3,"seqs":4}}"#,
            r#"{"state":{"agent":"a@n","version":1,"schema":2,"bytes":"Zm8="}}"#,
            r#"{"inbox":{"agent":"a","lane":4,"seq":1,"id":"07070707-0707-0707-0707-070707070707","envelope":"Zm8="}}"#,
            r#"{"delivery":{"agent":"a","lane":0,"seq":1,"attempts":2,"not_before_unix_ms":3,"history":["x"]}}"#,
            r#"{"outbox":{"agent":"a","seq":1,"envelope":""}}"#,
            r#"{"dedup":{"agent":"a","id":"07070707-0707-0707-0707-070707070707","expires_unix_ms":1,"reply":null}}"#,
            r#"{"dedup":{"agent":"a","id":"07070707-0707-0707-0707-070707070708","expires_unix_ms":1,"reply":""}}"#,
            r#"{"timer":{"agent":"a","timer":1,"due_unix_ms":2,"record":"Zm8="}}"#,
            r#"{"directory":{"agent":"a","lease_until_unix_ms":2,"record":"Zm8="}}"#,
            r#"{"dead":{"seq":1,"agent":"a","id":"07070707-0707-0707-0707-070707070707","reason":"r","at_unix_ms":2,"attempts":3,"history":[],"envelope":"Zm8="}}"#,
            r#"{"journal":{"name":"a\u0000ü","number":1,"bytes":"Zm8="}}"#,
            r#"{"journal_end":{"name":"j","next":2}}"#,
            r#"{"secret":{"name":"s","bytes":"Zm8="}}"#,
        ];
        for text in lines {
            let line: Line = serde_json::from_str(text).unwrap();
            let (key, value) = line.into_record().unwrap();
            let again = Line::of_record(&key, value).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
        }
    }

    #[test]
    fn what_no_store_holds_is_refused() {
        let long = "x".repeat(4097);
        let lines = [
            r#"{"state":{"agent":"a","version":0,"schema":2,"bytes":""}}"#.to_owned(),
            r#"{"state":{"agent":"not an id","version":1,"schema":2,"bytes":""}}"#.to_owned(),
            r#"{"dedup":{"agent":"a","id":"7","expires_unix_ms":1,"reply":null}}"#.to_owned(),
            format!(r#"{{"journal_end":{{"name":"{long}","next":2}}}}"#),
            format!(
                r#"{{"delivery":{{"agent":"a","lane":0,"seq":1,"attempts":2,"not_before_unix_ms":3,"history":["{long}"]}}}}"#
            ),
        ];
        for text in &lines {
            let line: Line = serde_json::from_str(text).unwrap();
            assert!(line.into_record().is_err(), "{text}");
        }
        for text in [
            r#"{"counters":{"position":3}}"#,
            r#"{"counters":{"position":3,"seqs":4,"more":5}}"#,
            r#"{"unknown":{}}"#,
            r#"{"outbox":{"agent":"a","seq":1,"envelope":"?"}}"#,
            r#"{"inbox":{"agent":"a","lane":5,"seq":1,"id":"","envelope":""}}"#,
        ] {
            assert!(serde_json::from_str::<Line>(text).is_err(), "{text}");
        }
    }
}

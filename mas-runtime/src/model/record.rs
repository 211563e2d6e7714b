//! The bytes of an envelope at rest.
//!
//! **Layout**: a MessagePack array `[version, id, sender, target, message type, codec, payload, terms]`; `version` is 1,
//! `id` an array of 16 numbers, `codec` 0 for none, 1 for MessagePack, 2 for JSON; `terms` an array of correlation id, flags
//! (1 expects reply, 2 is reply), lane, deadline in Unix milliseconds, hops, budget, and the rare terms: null, or a map by
//! the names of [`Extra`]'s fields, so that one more may stand anywhere among them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    AgentId, Clock, Codec, Envelope, Extra, MessageId, MessageType, Meta, Moment, Payload,
    PayloadError, Priority,
};
use std::time::Duration;

/// The only layout so far.
const VERSION: u8 = 1;
const EXPECTS_REPLY: u8 = 1;
const IS_REPLY: u8 = 2;

/// Why bytes at rest are no envelope.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The payload can't be encoded.
    #[error("the payload can't be kept")]
    Payload(#[from] PayloadError),
    /// The bytes are no envelope.
    #[error("the stored envelope can't be read: {reason}")]
    Malformed {
        /// What was expected and what came.
        reason: String,
    },
    /// A later version of mas wrote it.
    #[error("the stored envelope has layout {version}: this version reads {VERSION}")]
    Version {
        /// Its layout's number.
        version: u8,
    },
}

#[derive(Serialize, Deserialize)]
struct Record(
    u8,
    [u8; 16],
    AgentId,
    AgentId,
    MessageType,
    u8,
    Bytes,
    Terms,
);

#[derive(Serialize, Deserialize)]
struct Terms(
    Option<MessageId>,
    u8,
    u8,
    Option<u64>,
    u8,
    u32,
    Option<Box<Extra>>,
);

/// Encodes an envelope for the disk. A typed payload is settled first.
///
/// # Errors
/// [`RecordError::Payload`] when the payload refuses to be encoded or is larger than `bytes_max`.
pub fn encode_envelope(
    envelope: &mut Envelope,
    clock: &dyn Clock,
    bytes_max: usize,
) -> Result<Bytes, RecordError> {
    envelope.payload.settle(bytes_max)?;
    let (codec, body) = match envelope.payload.settled() {
        None => (0, Bytes::new()),
        Some((Codec::MessagePack, bytes)) => (1, bytes.clone()),
        Some((Codec::Json, bytes)) => (2, bytes.clone()),
    };
    let meta = &envelope.meta;
    let flags = u8::from(meta.expects_reply) * EXPECTS_REPLY + u8::from(meta.is_reply) * IS_REPLY;
    let deadline = meta.deadline.map(|at| {
        let left = at.since(clock.now());
        u64::try_from((clock.unix() + left).as_millis()).unwrap_or(u64::MAX)
    });
    let record = Record(
        VERSION,
        *envelope.id.as_bytes(),
        envelope.sender.clone(),
        envelope.target.clone(),
        envelope.message_type.clone(),
        codec,
        body,
        Terms(
            meta.correlation_id,
            flags,
            meta.priority.lane() as u8,
            deadline,
            meta.hops,
            meta.budget,
            meta.extra.clone(),
        ),
    );
    let malformed = |e: rmp_serde::encode::Error| RecordError::Malformed {
        reason: e.to_string(),
    };
    // Names the fields of `Extra`; what stands around it has none.
    Ok(rmp_serde::to_vec_named(&record).map_err(malformed)?.into())
}

/// Reads an envelope that [`encode_envelope`] wrote.
///
/// # Errors
/// [`RecordError::Version`] for a later layout, [`RecordError::Malformed`] for anything else that it did not write.
pub fn decode_envelope(bytes: &[u8], clock: &dyn Clock) -> Result<Envelope, RecordError> {
    let malformed = |reason: String| RecordError::Malformed { reason };
    // An array of up to 15 items is one byte, and a small number is itself.
    if let [0x90..=0x9f, version @ ..=0x7f, ..] = *bytes
        && version != VERSION
    {
        return Err(RecordError::Version { version });
    }
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    let record = Record::deserialize(&mut reader).map_err(|e| malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes follow its end", rest.len())));
    }
    let Record(_, id, sender, target, message_type, codec, body, terms) = record;
    let payload = match codec {
        0 => Payload::empty(),
        1 => Payload::encoded(Codec::MessagePack, body),
        2 => Payload::encoded(Codec::Json, body),
        other => return Err(malformed(format!("codec {other}: expected 0, 1 or 2"))),
    };
    let Terms(correlation_id, flags, lane, deadline, hops, budget, extra) = terms;
    let priority = Priority::from_lane(lane)
        .ok_or_else(|| malformed(format!("lane {lane}: expected 0 to 4")))?;
    let mut envelope = Envelope::new(
        MessageId::from_bytes(id),
        sender,
        target,
        message_type,
        payload,
    );
    envelope.meta = Meta {
        correlation_id,
        expects_reply: flags & EXPECTS_REPLY != 0,
        is_reply: flags & IS_REPLY != 0,
        priority,
        deadline: deadline.map(|unix_ms| moment_of(unix_ms, clock)),
        hops,
        budget,
        extra,
        ..Meta::default()
    };
    Ok(envelope)
}

/// The moment on the monotonic clock of a wall-clock time; the past is the present moment.
fn moment_of(unix_ms: u64, clock: &dyn Clock) -> Moment {
    clock.now() + Duration::from_millis(unix_ms).saturating_sub(clock.unix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entropy, SystemClock};
    use proptest::prelude::*;

    fn sample(text: &str) -> Envelope {
        let entropy = Entropy::seeded(3);
        let mut envelope = Envelope::new(
            MessageId::new(Duration::from_secs(5), &entropy),
            AgentId::new("a").unwrap(),
            AgentId::new("b@n").unwrap(),
            MessageType::new("task.process").unwrap(),
            Payload::typed(text.to_owned()),
        );
        envelope.meta.expects_reply = true;
        envelope.meta.priority = Priority::Bulk;
        envelope.meta.hops = 3;
        envelope.meta.extra = Some(Box::new(Extra {
            traceparent: Some("00-1-2-03".into()),
            ..Extra::default()
        }));
        envelope
    }

    proptest! {
        #[test]
        fn an_envelope_survives_the_disk(text in any::<String>(), budget in any::<u32>()) {
            let clock = SystemClock::new();
            let mut envelope = sample(&text);
            envelope.meta.budget = budget;
            let bytes = encode_envelope(&mut envelope, &clock, usize::MAX).unwrap();
            let back = decode_envelope(&bytes, &clock).unwrap();
            prop_assert_eq!(back.id, envelope.id);
            prop_assert_eq!((&back.sender, &back.target), (&envelope.sender, &envelope.target));
            prop_assert_eq!(&back.message_type, &envelope.message_type);
            prop_assert_eq!(&back.meta, &envelope.meta);
            prop_assert_eq!(back.payload.take::<String>().unwrap(), text);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..200, with in 1u8..) {
            let clock = SystemClock::new();
            let mut bytes = encode_envelope(&mut sample("x"), &clock, usize::MAX).unwrap().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= with;
            let _ = decode_envelope(&bytes, &clock);
        }
    }

    #[test]
    fn every_prefix_is_refused() {
        let clock = SystemClock::new();
        let bytes = encode_envelope(&mut sample("x"), &clock, usize::MAX).unwrap();
        for end in 0..bytes.len() {
            assert!(decode_envelope(&bytes[..end], &clock).is_err(), "{end}");
        }
    }

    #[test]
    fn bytes_after_its_end_are_refused() {
        let clock = SystemClock::new();
        let bytes = encode_envelope(&mut sample("x"), &clock, usize::MAX).unwrap();
        let error = decode_envelope(&[&bytes[..], &[0xc0]].concat(), &clock).unwrap_err();
        assert!(
            error.to_string().contains("1 bytes follow its end"),
            "{error}"
        );
    }

    /// An envelope with something in each place.
    fn full() -> Envelope {
        let mut envelope = sample("x");
        envelope.id = MessageId::from_bytes([0x11; 16]);
        envelope.meta.correlation_id = Some(MessageId::from_bytes([0x22; 16]));
        envelope.meta.is_reply = true;
        envelope.meta.deadline = Some(Moment::default());
        envelope.meta.budget = 70_000;
        envelope.meta.extra = Some(Box::new(Extra {
            session: Some("s".into()),
            sender_instance: Some(1),
            reply_to_instance: Some(2),
            traceparent: Some("p".into()),
            tracestate: Some("t".into()),
            headers: [("k".to_owned(), "v".to_owned())].into(),
        }));
        envelope
    }

    /// A clock that stands at 1000 s.
    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Moment {
            Moment::default()
        }

        fn unix(&self) -> Duration {
            Duration::from_secs(1000)
        }
    }

    /// What stands in stores: it may be added to, with another version, and never changed.
    const LAYOUT_1: &str = "9801dc001011111111111111111111111111111111a161a362406eac7461736b2e70726f6365737301c402a17897c410\
        222222222222222222222222222222220304ce000f424003ce0001117086a773657373696f6ea173af73656e6465725f\
        696e7374616e636501b17265706c795f746f5f696e7374616e636502ab7472616365706172656e74a170aa7472616365\
        7374617465a174a76865616465727381a16ba176";

    #[test]
    fn layout_1_of_an_envelope_is_as_it_was() {
        let bytes = encode_envelope(&mut full(), &Still, usize::MAX).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, LAYOUT_1);
        let back = decode_envelope(&bytes, &Still).unwrap();
        assert_eq!(back.meta, full().meta);
    }

    #[test]
    fn rare_terms_that_an_older_version_did_not_know_take_their_defaults() {
        // As the last five fields of `Extra` came later, and one is there that was never heard of.
        let rare = rmp_serde::to_vec_named(&serde_json::json!({"unheard": [1], "session": "s"}));
        let bytes = encode_envelope(&mut full(), &Still, usize::MAX).unwrap();
        let known = rmp_serde::to_vec_named(&full().meta.extra).unwrap();
        let head = bytes.strip_suffix(&known[..]).unwrap();
        let back = decode_envelope(&[head, &rare.unwrap()].concat(), &Still).unwrap();
        let expected = Extra {
            session: Some("s".into()),
            ..Extra::default()
        };
        assert_eq!(back.meta.extra, Some(Box::new(expected)));
    }

    #[test]
    fn a_later_layout_is_named() {
        let clock = SystemClock::new();
        let mut bytes = encode_envelope(&mut sample("x"), &clock, usize::MAX)
            .unwrap()
            .to_vec();
        bytes[1] = 2;
        let error = decode_envelope(&bytes, &clock).unwrap_err();
        assert!(matches!(error, RecordError::Version { version: 2 }));
    }

    #[test]
    fn a_deadline_goes_through_the_wall_clock() {
        let clock = SystemClock::new();
        let mut envelope = sample("x");
        let deadline = clock.now() + Duration::from_secs(30);
        envelope.meta.deadline = Some(deadline);
        let bytes = encode_envelope(&mut envelope, &clock, usize::MAX).unwrap();
        let back = decode_envelope(&bytes, &clock).unwrap().meta.deadline;
        let drift = back.unwrap().since(deadline) + deadline.since(back.unwrap());
        assert!(drift < Duration::from_secs(1), "{drift:?}");
    }
}

//! The two encodings of a payload, and the way between them without loss.
//!
//! MessagePack is ours (structs as maps with named fields); JSON is for peers that speak it. What JSON can say survives
//! both ways; what it can't (bytes, extension types, keys that are no text, numbers that are not finite or do not fit)
//! is a [`CodecError`], never a silent change.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a payload's bytes are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Codec {
    /// MessagePack, structs as maps with named fields.
    #[default]
    MessagePack,
    /// JSON (RFC 8259), UTF-8.
    Json,
}

/// Why bytes could not be made, read or translated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value refuses to be serialized, or is of a kind that the encoding can't say.
    #[error("can't encode as {codec:?}: {reason}")]
    Encode {
        /// The encoding asked for.
        codec: Codec,
        /// What the value or the encoder said.
        reason: String,
    },
    /// The bytes do not have the shape asked for.
    #[error("{}{reason}", at(path))]
    Decode {
        /// The field where it went wrong, as a path from the top; empty at the top itself.
        path: String,
        /// What was expected and what came.
        reason: String,
    },
    /// The bytes say something that the other encoding has no word for.
    #[error("{}can't be said in {codec:?}: {reason}", at(path))]
    NoWord {
        /// The encoding asked for.
        codec: Codec,
        /// The field, as a path from the top.
        path: String,
        /// What it is.
        reason: String,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() || path == "." {
        String::new()
    } else {
        format!("field `{path}`: ")
    }
}

impl Codec {
    /// Encodes `value`.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when the value refuses, or is of a kind that the encoding can't say.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, CodecError> {
        let encoded = match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| e.to_string()),
            Self::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
        };
        let codec = self;
        encoded
            .map(Bytes::from)
            .map_err(|reason| CodecError::Encode { codec, reason })
    }

    /// Reads a `T` out of `bytes`, all of them.
    ///
    /// # Errors
    /// [`CodecError::Decode`] with the field, what was expected there and what came.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        self.read(bytes).or_else(|()| self.explain(bytes))
    }

    /// The fast way: it says only whether it worked.
    fn read<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, ()> {
        match self {
            Self::MessagePack => {
                let mut rest = bytes;
                let mut reader = rmp_serde::Deserializer::new(&mut rest);
                let value = T::deserialize(&mut reader).map_err(drop)?;
                if rest.is_empty() { Ok(value) } else { Err(()) }
            }
            Self::Json => serde_json::from_slice(bytes).map_err(drop),
        }
    }

    /// The slow way, after the fast one failed: it says where and why.
    #[cold]
    fn explain<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::MessagePack => {
                // The value model of JSON says what came and what was expected; MessagePack's reader names its marker bytes.
                if let Ok(json::Strict(value)) = self.read(bytes)
                    && let Err(error) = serde_path_to_error::deserialize::<_, T>(value)
                {
                    return Err(told(&error));
                }
                let mut rest = bytes;
                let mut reader = rmp_serde::Deserializer::new(&mut rest);
                let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| told(&e))?;
                match rest.len() {
                    0 => Ok(value),
                    left => Err(CodecError::Decode {
                        path: String::new(),
                        reason: format!("{left} bytes follow the value: expected its end"),
                    }),
                }
            }
            Self::Json => {
                let mut reader = serde_json::Deserializer::from_slice(bytes);
                let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| told(&e))?;
                reader.end().map_err(|e| CodecError::Decode {
                    path: String::new(),
                    reason: without_content(&e.to_string()),
                })?;
                Ok(value)
            }
        }
    }

    /// Says in `target`'s encoding what `bytes` say in this one.
    ///
    /// # Errors
    /// [`CodecError::NoWord`] for what the other encoding can't say, [`CodecError::Decode`] for bytes that say nothing.
    pub fn translate(self, bytes: &Bytes, target: Self) -> Result<Bytes, CodecError> {
        match (self, target) {
            (Self::MessagePack, Self::MessagePack) | (Self::Json, Self::Json) => Ok(bytes.clone()),
            (Self::MessagePack, Self::Json) => {
                let value = self.decode::<json::Strict>(bytes)?;
                Self::Json.encode(&value.0)
            }
            (Self::Json, Self::MessagePack) => {
                json::check_integers(bytes)?;
                let value = self.decode::<Value>(bytes)?;
                Self::MessagePack.encode(&value)
            }
        }
    }
}

fn told<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> CodecError {
    CodecError::Decode {
        path: error.path().to_string(),
        reason: without_content(&error.inner().to_string()),
    }
}

/// A reader's text without what it quotes of the payload: an error may be logged, a payload may not.
fn without_content(text: &str) -> String {
    let quotes = [
        "invalid type: ",
        "invalid value: ",
        "unknown variant ",
        "unknown field ",
    ];
    if !quotes.iter().any(|start| text.starts_with(start)) {
        return text.to_owned();
    }
    let kind = text.find(['"', '`']).map_or(text, |end| &text[..end]);
    // What is quoted may itself hold the separator: the real one is the last.
    match text.rsplit_once(", expected ") {
        Some((came, expected)) => {
            let kind = &came[..kind.len().min(came.len())];
            format!("{}, expected {expected}", kind.trim_end())
        }
        None => kind.trim_end().to_owned(),
    }
}

/// What JSON can say, and nothing else.
mod json {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
    use serde_json::{Map, Number, Value};

    use super::{Codec, CodecError};

    /// A [`Value`] read from an encoding that can say more than JSON: what JSON can't say is an error.
    pub(super) struct Strict(pub(super) Value);

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(StrictVisitor).map(Self)
        }
    }

    struct StrictVisitor;

    impl<'de> Visitor<'de> for StrictVisitor {
        type Value = Value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("null, a boolean, a finite number, text, a list, or a map with text keys: JSON has nothing else")
        }

        fn visit_unit<E: Error>(self) -> Result<Value, E> {
            Ok(Value::Null)
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
            Ok(Value::Bool(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
            Ok(Value::from(value))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
            Ok(Value::from(value))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
            let number = Number::from_f64(value);
            number.map(Value::Number).ok_or_else(|| {
                E::custom(format_args!(
                    "the number {value} has no word in JSON: it must be finite"
                ))
            })
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
            Ok(Value::from(value))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
            let mut list = Vec::new();
            while let Some(Strict(item)) = items.next_element()? {
                list.push(item);
            }
            Ok(Value::Array(list))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
            let mut map = Map::new();
            while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key stands twice in one map"));
                }
            }
            Ok(Value::Object(map))
        }
    }

    /// Refuses integers that fit neither `i64` nor `u64`: the reader would round them.
    pub(super) fn check_integers(text: &[u8]) -> Result<(), CodecError> {
        let mut in_string = false;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                b'-' | b'0'..=b'9' if !in_string => {
                    let number = number_at(&text[at..]);
                    check_integer(number)?;
                    at += number.len().max(1) - 1;
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }

    fn number_at(text: &[u8]) -> &[u8] {
        let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = text.iter().take_while(|b| part(b)).count();
        &text[..length]
    }

    fn check_integer(number: &[u8]) -> Result<(), CodecError> {
        let Ok(text) = std::str::from_utf8(number) else {
            return Ok(());
        };
        let integer = !text.contains(['.', 'e', 'E']);
        if integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
            return Err(CodecError::NoWord {
                codec: Codec::MessagePack,
                path: String::new(),
                reason: format!("an integer of {} digits: it must fit 64 bits", text.len()),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Task {
        id: String,
        inner: Inner,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        count: u8,
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_json_says_survives_both_ways(value in any_json()) {
            let text = Codec::Json.encode(&value).unwrap();
            let packed = Codec::Json.translate(&text, Codec::MessagePack).unwrap();
            let back = Codec::MessagePack.translate(&packed, Codec::Json).unwrap();
            prop_assert_eq!(Codec::Json.decode::<Value>(&back).unwrap(), value);
        }

        #[test]
        fn bytes_off_a_wire_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = Codec::MessagePack.translate(&bytes, Codec::Json);
            let _ = Codec::Json.translate(&bytes, Codec::MessagePack);
            let _ = Codec::MessagePack.decode::<Task>(&bytes);
            let _ = Codec::Json.decode::<Task>(&bytes);
        }
    }

    #[test]
    fn a_wrong_shape_names_the_field_and_what_was_expected() {
        for codec in [Codec::MessagePack, Codec::Json] {
            let bytes = codec
                .encode(&json!({"id": "a", "inner": {"count": "many"}}))
                .unwrap();
            let error = codec.decode::<Task>(&bytes).unwrap_err().to_string();
            assert!(error.contains("field `inner.count`"), "{error}");
            assert!(
                error.contains("invalid type: string, expected u8"),
                "{error}"
            );
            assert!(!error.contains("many"), "payload told: {error}");
            let bytes = codec.encode(&json!({"id": "a"})).unwrap();
            let error = codec.decode::<Task>(&bytes).unwrap_err().to_string();
            assert!(error.contains("missing field `inner`"), "{error}");
        }
    }

    #[test]
    fn errors_never_quote_the_payload() {
        for (text, want) in [
            (
                r#"invalid type: string "a, expected b", expected u8"#,
                "invalid type: string, expected u8",
            ),
            (
                "invalid value: integer `300`, expected u8",
                "invalid value: integer, expected u8",
            ),
            (
                "unknown variant `x`, expected `a` or `b`",
                "unknown variant, expected `a` or `b`",
            ),
            (
                "invalid type: null, expected u8",
                "invalid type: null, expected u8",
            ),
            ("missing field `a`", "missing field `a`"),
        ] {
            assert_eq!(without_content(text), want);
        }
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        for codec in [Codec::MessagePack, Codec::Json] {
            let mut bytes = codec.encode(&json!({"count": 1})).unwrap().to_vec();
            bytes.push(b'1');
            assert!(codec.decode::<Inner>(&bytes).is_err());
        }
    }

    #[test]
    fn what_json_cannot_say_is_an_error() {
        let packed: [&[u8]; 5] = [
            &[0xc4, 1, 7],                         // bytes
            &[0x81, 1, 2],                         // a number as a key
            &[0xca, 0x7f, 0xc0, 0, 0],             // not a number
            &[0xd4, 1, 0],                         // an extension type
            &[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2], // one key twice
        ];
        for bytes in packed {
            let bytes = Bytes::copy_from_slice(bytes);
            let result = Codec::MessagePack.translate(&bytes, Codec::Json);
            assert!(result.is_err(), "{bytes:?}: {result:?}");
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_refused_and_text_that_looks_like_one_is_not() {
        let translate = |text: &'static str| {
            Codec::Json.translate(&Bytes::from_static(text.as_bytes()), Codec::MessagePack)
        };
        assert!(translate("[18446744073709551615, -9223372036854775808]").is_ok());
        assert!(translate("18446744073709551616").is_err());
        assert!(translate(r#"{"a\"": "99999999999999999999999"}"#).is_ok());
    }

    #[test]
    fn both_encodings_round_trip_a_struct() {
        let task = Task {
            id: "a".into(),
            inner: Inner { count: 3 },
        };
        for codec in [Codec::MessagePack, Codec::Json] {
            let bytes = codec.encode(&task).unwrap();
            assert_eq!(codec.decode::<Task>(&bytes).unwrap(), task);
        }
    }
}

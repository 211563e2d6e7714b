//! What JSON can say, and nothing else.

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

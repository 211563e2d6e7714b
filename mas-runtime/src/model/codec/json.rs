//! What JSON can say, and nothing else.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::nesting;
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

    /// An extension type of MessagePack.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, _: D) -> Result<Value, D::Error> {
        Err(Error::custom("an extension type has no word in JSON"))
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

/// Reads what `bytes` say, if both encodings have a word for it.
pub(super) fn read(codec: Codec, bytes: &[u8]) -> Result<Value, CodecError> {
    if codec == Codec::Json && is_well_formed(codec, bytes) {
        check_numbers(bytes)?;
    }
    let read = codec.decode::<Strict>(bytes).map(|strict| strict.0);
    read.map_err(|error| match error {
        // Whatever a reader can skip says something.
        CodecError::Decode { path, reason } if is_well_formed(codec, bytes) => {
            no_word(codec, path, reason)
        }
        error => error,
    })
}

fn is_well_formed(codec: Codec, bytes: &[u8]) -> bool {
    !nesting::is_too_deep(codec, bytes) && codec.read::<IgnoredAny>(bytes).is_ok()
}

fn no_word(from: Codec, path: String, reason: String) -> CodecError {
    let codec = match from {
        Codec::Json => Codec::MessagePack,
        Codec::MessagePack => Codec::Json,
    };
    CodecError::NoWord {
        codec,
        path,
        reason,
    }
}

/// Refuses numbers that the reader would round: integers beyond 64 bits, and decimals that no float stands for.
fn check_numbers(text: &[u8]) -> Result<(), CodecError> {
    let (mut in_string, mut at) = (false, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'-' | b'0'..=b'9' if !in_string => {
                let number = number_at(&text[at..]);
                check_number(number)
                    .map_err(|reason| no_word(Codec::Json, String::new(), reason))?;
                at += number.len() - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The number that `text` begins with.
fn number_at(text: &[u8]) -> &str {
    let part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = text.iter().take_while(|b| part(b)).count();
    std::str::from_utf8(&text[..length]).expect("invariant: these characters are ASCII")
}

fn check_number(number: &str) -> Result<(), String> {
    let characters = number.len();
    if !number.contains(['.', 'e', 'E']) {
        let fits = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
        return fits
            .then_some(())
            .ok_or_else(|| format!("an integer of {characters} characters: it must fit 64 bits"));
    }
    let nearest = number.parse::<f64>().ok().filter(|n| n.is_finite());
    let same = nearest.is_some_and(|n| decimal(&format!("{n:e}")) == decimal(number));
    same.then_some(()).ok_or_else(|| {
        format!("a decimal of {characters} characters: no float of 64 bits is written so")
    })
}

/// A decimal's digits without zeros at either end, and the power of ten of the last one; `None` where that is absurd.
fn decimal(number: &str) -> Option<(String, i64)> {
    let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole.trim_start_matches('-'), part].concat();
    let digits = digits.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((String::new(), 0));
    }
    let cut = i64::try_from(digits.len() - kept.len()).ok()?;
    let power: i64 = power.parse().ok()?;
    let last = power
        .checked_add(cut)?
        .checked_sub(i64::try_from(part.len()).ok()?)?;
    Some((kept.to_owned(), last))
}

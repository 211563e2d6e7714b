//! What JSON can say, and nothing else.

use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use super::explain::{Path, SOME_KEY, Step};
use super::tree::Tree;
use super::{Codec, CodecError};

/// Reads what `bytes` say, if both encodings have a word for it.
pub(super) fn read(codec: Codec, bytes: &[u8]) -> Result<Value, CodecError> {
    // The reader of the whole would round what this one skips.
    if codec == Codec::Json && codec.read::<IgnoredAny>(bytes).is_ok() {
        check_numbers(bytes)?;
    }
    say(Tree::read(codec, bytes)?)
        .map_err(|(path, reason)| no_word(codec, path.to_string(), reason))
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

/// Says a value in JSON's terms, or where it can't be said and why.
fn say(tree: Tree) -> Result<Value, (Path, String)> {
    let unsayable = |reason: String| Err((Path::default(), reason));
    let inside = |(mut path, reason): (Path, String), step| {
        path.inside(step);
        (path, reason)
    };
    match tree {
        Tree::Null => Ok(Value::Null),
        Tree::Bool(value) => Ok(value.into()),
        Tree::Signed(value) => Ok(value.into()),
        Tree::Unsigned(value) => Ok(value.into()),
        Tree::Text(text) => Ok(text.into()),
        Tree::Float(value) => match Number::from_f64(value) {
            Some(number) => Ok(number.into()),
            None => unsayable(format!("the number {value}: it must be finite")),
        },
        Tree::Bytes(_) | Tree::Extension => {
            unsayable(format!("it is a value of the kind {}", tree.kind()))
        }
        Tree::List(items) => {
            let said = items.into_iter().enumerate();
            let said = said.map(|(at, item)| say(item).map_err(|e| inside(e, Step::Item(at))));
            said.collect::<Result<_, _>>().map(Value::Array)
        }
        Tree::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let Tree::Text(key) = key else {
                    return unsayable(format!("a key of the kind {}: it must be text", key.kind()));
                };
                let value = say(value).map_err(|e| inside(e, Step::Field(SOME_KEY)))?;
                if map.insert(key, value).is_some() {
                    return unsayable("a key stands twice in one map".to_owned());
                }
            }
            Ok(Value::Object(map))
        }
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

//! What a payload says, whatever its encoding and its type: read when one of the two does not fit the other.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Codec, CodecError};

/// Any value of either encoding, with the order and the repetitions of its keys.
#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An extension type of MessagePack.
    Extension,
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Tree {
    /// Reads all of `bytes`.
    ///
    /// # Errors
    /// [`CodecError::Decode`] when they say nothing, in the reader's words: they tell of markers and places, of no content.
    pub(super) fn read(codec: Codec, bytes: &[u8]) -> Result<Self, CodecError> {
        let read = match codec {
            Codec::Json => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
            Codec::MessagePack => {
                let mut rest = bytes;
                let mut reader = rmp_serde::Deserializer::new(&mut rest);
                let tree = Self::deserialize(&mut reader).map_err(|e| e.to_string());
                tree.and_then(|tree| match rest.len() {
                    0 => Ok(tree),
                    left => Err(format!("{left} bytes follow the value: expected its end")),
                })
            }
        };
        let path = String::new();
        read.map_err(|reason| CodecError::Decode { path, reason })
    }

    /// Its kind, as errors name it: without content.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Signed(_) | Self::Unsigned(_) => "integer",
            Self::Float(_) => "floating point number",
            Self::Text(_) => "string",
            Self::Bytes(_) => "byte array",
            Self::Extension => "extension type",
            Self::List(_) => "sequence",
            Self::Map(_) => "map",
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(value.to_owned()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(inner).map(|_| Tree::Extension)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}

//! The two encodings of a payload, and the way between them without loss.
//!
//! MessagePack is ours (structs as maps with named fields); JSON is for peers that speak it. What JSON can say survives
//! both ways; what it can't (bytes, extension types, keys that are no text or stand twice, numbers that are not finite, do
//! not fit or would be rounded) is a [`CodecError`], never a silent change.
//!
//! | file | holds |
//! |---|---|
//! | `explain` | where and why bytes are not what was asked for |
//! | `json` | what JSON can say |
//! | `nesting` | how deep values stand in each other |
//! | `tree` | what a payload says, whatever its encoding |

mod explain;
mod json;
mod nesting;
#[cfg(test)]
mod tests;
mod tree;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
        /// The field where it went wrong, as a path from the top; empty at the top itself. `*` stands for a key that is no
        /// field of a type.
        path: String,
        /// What was expected and what came.
        reason: String,
    },
    /// The bytes say something that the other encoding has no word for.
    #[error("{}can't be said in {codec:?}: {reason}", at(path))]
    NoWord {
        /// The encoding asked for.
        codec: Codec,
        /// Where it stands, as a path from the top; `*` stands for a key of a map.
        path: String,
        /// What it is.
        reason: String,
    },
}

impl CodecError {
    fn too_deep() -> Self {
        let (path, reason) = (String::new(), nesting::too_deep());
        Self::Decode { path, reason }
    }
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("field `{path}`: ")
    }
}

impl Codec {
    /// Encodes `value`.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when the value refuses, is of a kind that the encoding can't say, or holds lists and maps in
    /// each other deeper than [`NESTING_MAX`](super::limits::NESTING_MAX), which nobody could read.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, CodecError> {
        let encoded = match self {
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| e.to_string()),
            Self::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
        };
        let encoded = encoded.and_then(|bytes| match nesting::is_too_deep(self, &bytes) {
            true => Err(nesting::too_deep()),
            false => Ok(Bytes::from(bytes)),
        });
        let codec = self;
        encoded.map_err(|reason| CodecError::Encode { codec, reason })
    }

    /// Reads a `T` out of `bytes`, all of them.
    ///
    /// # Errors
    /// [`CodecError::Decode`] with the field, what was expected there and what came; also for lists and maps in each other
    /// deeper than [`NESTING_MAX`](super::limits::NESTING_MAX).
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        if nesting::is_too_deep(self, bytes) {
            return Err(CodecError::too_deep());
        }
        self.read(bytes)
            .map_err(|()| explain::explain::<T>(self, bytes))
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

    /// Says in `target`'s encoding what `bytes` say in this one.
    ///
    /// # Errors
    /// [`CodecError::NoWord`] for what the other encoding can't say, [`CodecError::Decode`] for bytes that say nothing.
    pub fn translate(self, bytes: &Bytes, target: Self) -> Result<Bytes, CodecError> {
        if self == target {
            return Ok(bytes.clone());
        }
        if nesting::is_too_deep(self, bytes) {
            return Err(CodecError::too_deep());
        }
        target.encode(&json::read(self, bytes)?)
    }
}

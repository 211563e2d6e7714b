//! The body of an envelope: a typed value until somebody needs its bytes.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Codec, CodecError};

/// Why a payload could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// It could not be encoded, decoded or translated.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// There is no payload, and something other than `()` was asked for.
    #[error("the message has no payload: expected {expected}")]
    Missing {
        /// The type asked for.
        expected: &'static str,
    },
    /// More bytes than the limit.
    #[error("the payload has {bytes} bytes: the limit is {bytes_max}")]
    TooLarge {
        /// Its encoded size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
}

/// A value that can still be taken back as what it is, or encoded.
trait TypedPayload: Send {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    fn holds(&self, wanted: TypeId) -> bool;
    fn encode(&self, codec: Codec) -> Result<Bytes, CodecError>;
    fn type_name(&self) -> &'static str;
}

impl<T: Serialize + Send + 'static> TypedPayload for T {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn holds(&self, wanted: TypeId) -> bool {
        TypeId::of::<T>() == wanted
    }

    fn encode(&self, codec: Codec) -> Result<Bytes, CodecError> {
        codec.encode(self)
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

/// The body of an envelope.
///
/// A typed call moves its value in here, and a handler of the same type takes it out again without a byte being
/// encoded. Whoever needs bytes (a disk, a wire, a policy) encodes it once.
#[derive(Default)]
pub struct Payload(Body);

#[derive(Default)]
enum Body {
    #[default]
    Empty,
    // The mutex is never contended: it makes an envelope `Sync` although the value inside need not be.
    Typed(Mutex<Box<dyn TypedPayload>>),
    Encoded {
        codec: Codec,
        bytes: Bytes,
    },
}

impl Payload {
    /// No payload.
    pub const fn empty() -> Self {
        Self(Body::Empty)
    }

    /// A payload that stays `value` until somebody needs its bytes.
    pub fn typed<T: Serialize + Send + 'static>(value: T) -> Self {
        Self(Body::Typed(Mutex::new(Box::new(value))))
    }

    /// A payload that is encoded already.
    pub const fn encoded(codec: Codec, bytes: Bytes) -> Self {
        Self(Body::Encoded { codec, bytes })
    }

    /// Encodes `value` as MessagePack.
    ///
    /// # Errors
    /// [`PayloadError::Codec`] when the value refuses to be serialized.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let codec = Codec::MessagePack;
        let bytes = codec.encode(value)?;
        Ok(Self::encoded(codec, bytes))
    }

    /// Whether there is no payload.
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, Body::Empty)
    }

    /// The payload's bytes in `codec`; nothing is translated when it is in that encoding already. No payload is `null`.
    ///
    /// # Errors
    /// [`PayloadError::Codec`] when the value refuses, or says something that the encoding has no word for.
    pub fn bytes(&self, codec: Codec) -> Result<Bytes, PayloadError> {
        let bytes = match &self.0 {
            Body::Empty => codec.encode(&())?,
            Body::Typed(value) => lock(value).encode(codec)?,
            Body::Encoded { codec: own, bytes } => own.translate(bytes, codec)?,
        };
        Ok(bytes)
    }

    /// Reads the payload as a `T`, and leaves it as it is.
    ///
    /// # Errors
    /// [`PayloadError`] when the payload has another shape.
    pub fn decode<T: DeserializeOwned + 'static>(&self) -> Result<T, PayloadError> {
        match &self.0 {
            Body::Empty => nothing(),
            Body::Typed(value) => {
                let bytes = lock(value).encode(Codec::MessagePack)?;
                Ok(Codec::MessagePack.decode(&bytes)?)
            }
            Body::Encoded { codec, bytes } => Ok(codec.decode(bytes)?),
        }
    }

    /// Takes the payload as a `T`. A typed payload of just that type comes out as it went in.
    ///
    /// # Errors
    /// [`PayloadError`] when the payload has another shape.
    pub fn take<T: DeserializeOwned + 'static>(self) -> Result<T, PayloadError> {
        match self.0 {
            Body::Empty => nothing(),
            Body::Encoded { codec, bytes } => Ok(codec.decode(&bytes)?),
            Body::Typed(value) => {
                let value = value.into_inner().unwrap_or_else(PoisonError::into_inner);
                if value.holds(TypeId::of::<T>()) {
                    let same = value.into_any().downcast::<T>();
                    return Ok(*same.expect("invariant: its type id was just compared"));
                }
                let bytes = value.encode(Codec::MessagePack)?;
                Ok(Codec::MessagePack.decode(&bytes)?)
            }
        }
    }

    /// Encodes a typed payload in place, so that it can be read by many. Others stay as they are.
    ///
    /// # Errors
    /// [`PayloadError::Codec`] when the value refuses, [`PayloadError::TooLarge`] beyond `bytes_max`.
    pub fn settle(&mut self, bytes_max: usize) -> Result<(), PayloadError> {
        if let Body::Typed(value) = &mut self.0 {
            let value = value.get_mut().unwrap_or_else(PoisonError::into_inner);
            *self = Self::encoded(Codec::MessagePack, value.encode(Codec::MessagePack)?);
        }
        match &self.0 {
            Body::Encoded { bytes, .. } if bytes.len() > bytes_max => Err(PayloadError::TooLarge {
                bytes: bytes.len(),
                bytes_max,
            }),
            _ => Ok(()),
        }
    }

    /// Its size if it is encoded: the only one that is known without work.
    pub(crate) fn encoded_len(&self) -> Option<usize> {
        match &self.0 {
            Body::Encoded { bytes, .. } => Some(bytes.len()),
            Body::Empty => Some(0),
            Body::Typed(_) => None,
        }
    }

    /// The encoding and the bytes of a settled payload; `None` while it is empty or typed.
    pub(crate) fn settled(&self) -> Option<(Codec, &Bytes)> {
        match &self.0 {
            Body::Encoded { codec, bytes } => Some((*codec, bytes)),
            Body::Empty | Body::Typed(_) => None,
        }
    }

    /// A second payload with the same content. A typed one is encoded first.
    pub(crate) fn share(&mut self) -> Result<Self, PayloadError> {
        self.settle(usize::MAX)?;
        Ok(match &self.0 {
            Body::Encoded { codec, bytes } => Self::encoded(*codec, bytes.clone()),
            Body::Empty | Body::Typed(_) => Self::empty(),
        })
    }
}

/// Says what kind of payload it is, and never what it holds.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Body::Empty => f.write_str("Payload(empty)"),
            Body::Typed(value) => write!(f, "Payload({})", lock(value).type_name()),
            Body::Encoded { codec, bytes } => {
                write!(f, "Payload({codec:?}, {} bytes)", bytes.len())
            }
        }
    }
}

fn lock(value: &Mutex<Box<dyn TypedPayload>>) -> std::sync::MutexGuard<'_, Box<dyn TypedPayload>> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No payload reads as `()`, and as everything else that reads `null`: an `Option`, for one.
fn nothing<T: DeserializeOwned>() -> Result<T, PayloadError> {
    serde_json::from_value(serde_json::Value::Null).map_err(|_| PayloadError::Missing {
        expected: type_name::<T>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::cell::Cell;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Task {
        id: String,
    }

    /// Counts in itself how often it was serialized.
    #[derive(Default, Deserialize)]
    struct Watched(#[serde(skip)] Cell<u32>);

    impl Serialize for Watched {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.set(self.0.get() + 1);
            serializer.serialize_unit()
        }
    }

    #[test]
    fn a_typed_payload_comes_out_as_it_went_in() {
        let payload = Payload::typed(Watched::default());
        let back: Watched = payload.take().unwrap();
        assert_eq!(back.0.get(), 0, "nobody needed its bytes");
    }

    #[test]
    fn a_typed_payload_reads_as_another_type_of_the_same_shape() {
        #[derive(Deserialize)]
        struct Other {
            id: String,
        }
        let payload = Payload::typed(Task { id: "a".into() });
        assert_eq!(payload.decode::<Other>().unwrap().id, "a");
        assert_eq!(payload.take::<Other>().unwrap().id, "a");
    }

    #[test]
    fn no_payload_reads_as_unit_or_none_only() {
        Payload::empty().take::<()>().unwrap();
        assert_eq!(Payload::empty().take::<Option<u8>>().unwrap(), None);
        let error = Payload::empty().take::<String>().unwrap_err();
        assert!(matches!(error, PayloadError::Missing { .. }), "{error}");
    }

    #[test]
    fn settling_checks_the_limit() {
        let mut payload = Payload::typed("x".repeat(100));
        let error = payload.settle(50).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the payload has 102 bytes: the limit is 50"
        );
        assert!(payload.settle(102).is_ok());
        assert_eq!(payload.encoded_len(), Some(102));
    }

    #[test]
    fn shared_payloads_hold_the_same() {
        let mut payload = Payload::typed(Task { id: "a".into() });
        let copy = payload.share().unwrap();
        assert_eq!(
            copy.take::<Task>().unwrap(),
            payload.take::<Task>().unwrap()
        );
    }

    #[test]
    fn debug_never_tells_the_content() {
        let mut payload = Payload::typed("secret".to_owned());
        assert!(!format!("{payload:?}").contains("secret"));
        payload.settle(100).unwrap();
        assert_eq!(format!("{payload:?}"), "Payload(MessagePack, 7 bytes)");
    }
}

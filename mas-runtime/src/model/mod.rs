//! The words of mas: ids, envelopes, payloads, priorities, failures, time and chance.
//!
//! Everything above speaks in these types. They do no I/O, wait for nothing and know no runtime: time comes from a
//! [`Clock`], chance from an [`Entropy`], and both are handed in.
//!
//! | file | holds |
//! |---|---|
//! | `id` | [`AgentId`], [`MessageId`], [`MessageType`], [`RuntimeId`] and their rules |
//! | `envelope` | [`Envelope`] and its [`Meta`] |
//! | `payload` | [`Payload`]: a typed value until somebody needs its bytes |
//! | `codec` | MessagePack, JSON, and the way between them without loss |
//! | `record` | the bytes of an envelope at rest |
//! | `priority` | [`Priority`] and the weights of the lanes |
//! | `failure` | [`Failure`]: a handler's error as the asker sees it |
//! | `error` | [`Error`](struct@Error): what `?` turns every error into |
//! | `clock` | [`Clock`], [`Moment`] |
//! | `entropy` | [`Entropy`]: a seeded stream of random numbers; random bytes for keys and nonces |
//! | `limits` | every bound, with its unit and its reason |

mod clock;
mod codec;
mod entropy;
mod envelope;
mod error;
mod failure;
mod id;
pub mod limits;
mod payload;
mod priority;
mod record;

pub use clock::{Clock, Moment, SystemClock};
pub use codec::{Codec, CodecError};
pub(crate) use entropy::fill_random;
pub use entropy::{Entropy, EntropyError};
pub use envelope::{Envelope, Extra, Meta};
pub use error::{Error, Result};
pub(crate) use failure::chain;
pub use failure::{Failure, FailureCode};
pub use id::{AgentId, IdError, MessageId, MessageType, NodeName, RuntimeId};
pub use payload::{Payload, PayloadError};
pub use priority::Priority;
pub use record::{RecordError, decode_envelope, encode_envelope};

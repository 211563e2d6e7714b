//! Names and numbers of things: agents, nodes, messages, message types, runtimes.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use super::Entropy;
use super::entropy::mix;
use super::limits::NAME_BYTES_MAX;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing stands where a name should.
    #[error("{what} is empty: it takes 1 to {NAME_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : -")]
    Empty {
        /// Which part of which id.
        what: &'static str,
    },
    /// More bytes than a name may have.
    #[error("{what} has {bytes} bytes: it takes at most {NAME_BYTES_MAX}")]
    TooLong {
        /// Which part of which id.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("{what} holds {character:?} at byte {at}: only A-Z a-z 0-9 . _ : - are allowed")]
    Character {
        /// Which part of which id.
        what: &'static str,
        /// The character.
        character: char,
        /// Its byte offset.
        at: usize,
    },
}

/// Checks one name against the rules that all names share.
fn check(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > NAME_BYTES_MAX {
        let bytes = text.len();
        return Err(IdError::TooLong { what, bytes });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        Some((at, character)) => Err(IdError::Character {
            what,
            character,
            at,
        }),
        None => Ok(()),
    }
}

/// What every checked text has: construction from text, the text, and serde as text.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

/// Who an envelope is from or for: `worker` here, or `worker@node-2` on another node.
///
/// Each part is 1 to 128 bytes of `[A-Za-z0-9._:-]`. Texts up to 23 bytes cost no allocation, and a clone of any is cheap.
///
/// ```
/// # use mas_runtime::model::AgentId;
/// let id = AgentId::new("worker@node-2")?;
/// assert_eq!((id.name(), id.node()), ("worker", Some("node-2")));
/// assert!(AgentId::new("no spaces").is_err());
/// # Ok::<(), mas_runtime::model::IdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(SmolStr);

impl AgentId {
    /// Who sends what a program sends from outside any handler. No agent may take this id.
    pub const RUNTIME: Self = Self(SmolStr::new_static("runtime"));

    /// The id that this text spells.
    ///
    /// # Errors
    /// [`IdError`] when a part is empty, too long or holds another character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
        let text = text.as_ref();
        match text.split_once('@') {
            None => check("agent id", text)?,
            Some((name, node)) => {
                check("agent id before @", name)?;
                check("node name after @", node)?;
            }
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// The part before `@`: the agent's name on its node.
    pub fn name(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(name, _)| name)
    }

    /// The part after `@`, if the id names a node.
    pub fn node(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, node)| node)
    }
}

checked_text!(AgentId);

/// The name of a node: what stands after `@` in an [`AgentId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(SmolStr);

impl NodeName {
    /// The name that this text spells: 1 to 128 bytes of `[A-Za-z0-9._:-]`.
    ///
    /// # Errors
    /// [`IdError`] when it is empty, too long or holds another character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
        check("node name", text.as_ref())?;
        Ok(Self(SmolStr::new(text)))
    }
}

checked_text!(NodeName);

/// The text that picks a handler: `task.process`. 1 to 128 bytes of `[A-Za-z0-9._:-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageType(SmolStr);

impl MessageType {
    /// The message type that this text spells.
    ///
    /// # Errors
    /// [`IdError`] when it is empty, too long or holds another character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
        check("message type", text.as_ref())?;
        Ok(Self(SmolStr::new(text)))
    }

    /// A message type that `#[on]` has checked at compile time.
    pub(crate) const fn declared(text: &'static str) -> Self {
        Self(SmolStr::new_static(text))
    }
}

checked_text!(MessageType);

/// The id of an envelope: a UUID of version 7 (RFC 9562 §5.7), whose first 48 bits are Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id for this wall-clock time.
    pub fn new(unix: Duration, entropy: &Entropy) -> Self {
        let millis = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Self::from_parts(millis, entropy.next_u64(), entropy.next_u64())
    }

    /// The id of the `ordinal`-th ask of the handler that runs for this message: a rerun makes the same ones.
    pub(crate) fn derive(self, ordinal: u32) -> Self {
        let (high, low) = self.0.as_u64_pair();
        let first = mix(mix(high) ^ low ^ u64::from(ordinal));
        let second = mix(first ^ low.rotate_left(32));
        Self::from_parts(high >> 16, first, second)
    }

    /// The id with these bytes, whatever their version: peers choose theirs.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id's bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// When the id was made, as time since 1970-01-01 UTC with a resolution of one millisecond.
    pub const fn unix(self) -> Duration {
        let (high, _) = self.0.as_u64_pair();
        Duration::from_millis(high >> 16)
    }

    /// RFC 9562 §5.7: 48 bits of milliseconds, 4 of version, 12 random, 2 of variant, 62 random.
    const fn from_parts(millis: u64, first: u64, second: u64) -> Self {
        let high = (millis << 16) | (0x7 << 12) | (first & 0x0fff);
        let low = (0b10 << 62) | (second >> 2);
        Self(Uuid::from_u64_pair(high, low))
    }
}

impl FromStr for MessageId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::from_str(text).map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The identity of one runtime, 32 bytes, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuntimeId([u8; 32]);

impl RuntimeId {
    /// A new identity.
    pub fn new(entropy: &Entropy) -> Self {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&entropy.next_u64().to_be_bytes());
        }
        Self(bytes)
    }

    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The identity's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for good in ["a", "A.b_c:d-9", &long, &format!("{long}@{long}")] {
            assert!(AgentId::new(good).is_ok(), "{good}");
        }
        assert_eq!(
            AgentId::new("").unwrap_err().to_string(),
            "agent id is empty: it takes 1 to 128 bytes of A-Z a-z 0-9 . _ : -"
        );
        assert_eq!(
            AgentId::new(format!("{long}a")).unwrap_err(),
            IdError::TooLong {
                what: "agent id",
                bytes: 129
            }
        );
        assert_eq!(
            AgentId::new("größe").unwrap_err(),
            IdError::Character {
                what: "agent id",
                character: 'ö',
                at: 2
            }
        );
        for bad in ["a@", "@b", "a@b@c", "a b", "a/b", "\u{0}"] {
            assert!(AgentId::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeName::new("a@b").is_err());
        assert!(MessageType::new("task process").is_err());
    }

    #[test]
    fn serde_checks_what_it_reads() {
        assert!(serde_json::from_str::<AgentId>("\"worker@n\"").is_ok());
        assert!(serde_json::from_str::<AgentId>("\"a b\"").is_err());
    }

    #[test]
    fn message_ids_are_uuids_of_version_seven() {
        let entropy = Entropy::seeded(1);
        let unix = Duration::from_millis(1_700_000_000_123);
        let id = MessageId::new(unix, &entropy);
        assert_eq!(id.unix(), unix);
        let uuid = Uuid::from_bytes(*id.as_bytes());
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert_ne!(id, MessageId::new(unix, &entropy));
    }

    #[test]
    fn derived_ids_repeat_and_differ_by_ordinal() {
        let entropy = Entropy::seeded(2);
        let id = MessageId::new(Duration::from_secs(1), &entropy);
        assert_eq!(id.derive(0), id.derive(0));
        assert_ne!(id.derive(0), id.derive(1));
        assert_eq!(id.derive(5).unix(), id.unix());
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_a_named_error(text in any::<String>()) {
            match AgentId::new(&text) {
                Ok(id) => prop_assert_eq!(id.as_str(), text),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}

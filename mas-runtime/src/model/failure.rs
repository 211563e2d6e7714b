//! A handler's error, as the asker sees it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Error;

/// What kind of failure it is: a short text that programs compare. Peers may send codes that this version does not know.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureCode(SmolStr);

impl FailureCode {
    /// The handler returned an error.
    pub const HANDLER: Self = Self(SmolStr::new_static("handler_error"));
    /// The handler panicked.
    pub const PANIC: Self = Self(SmolStr::new_static("handler_panicked"));
    /// The handler ran longer than its agent's timeout.
    pub const TIMEOUT: Self = Self(SmolStr::new_static("handler_timed_out"));
    /// The message's deadline passed before a handler took it.
    pub const EXPIRED: Self = Self(SmolStr::new_static("expired"));
    /// The payload does not have the shape that the handler wants.
    pub const BAD_PAYLOAD: Self = Self(SmolStr::new_static("bad_payload"));
    /// The agent handles no such message type.
    pub const UNKNOWN_MESSAGE_TYPE: Self = Self(SmolStr::new_static("unknown_message_type"));
    /// The agent was stopped before it handled the message.
    pub const STOPPED: Self = Self(SmolStr::new_static("agent_stopped"));
    /// The agent failed for good: it restarted too often.
    pub const FAILED: Self = Self(SmolStr::new_static("agent_failed"));
    /// The mailbox had no room, and its agent declares that senders do not wait.
    pub const MAILBOX_FULL: Self = Self(SmolStr::new_static("mailbox_full"));
    /// The state's `validate` refused what the handler made of it.
    pub const STATE_REFUSED: Self = Self(SmolStr::new_static("state_refused"));
    /// Another instance moved the state meanwhile, and the message can't be run again.
    pub const CONFLICT: Self = Self(SmolStr::new_static("state_conflict"));
    /// The engine could not keep what the handler did.
    pub const STORE: Self = Self(SmolStr::new_static("store_failed"));
    /// The reply could not be encoded.
    pub const BAD_REPLY: Self = Self(SmolStr::new_static("bad_reply"));

    /// A code of your own: lower case words joined by `_`.
    pub fn new(code: impl AsRef<str>) -> Self {
        Self(SmolStr::new(code.as_ref()))
    }

    /// The code's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A handler's error as the asker sees it, on this machine or another.
///
/// ```
/// # use mas_runtime::model::Failure;
/// let failure = Failure::permanent("no such account").with_code("unknown_account");
/// assert_eq!(failure.to_string(), "no such account (unknown_account)");
/// assert!(!failure.retryable);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure it is, for programs.
    pub code: FailureCode,
    /// What went wrong, for people.
    pub message: Cow<'static, str>,
    /// Whether trying again may help. A durable message is tried again only while this holds.
    pub retryable: bool,
}

impl Failure {
    /// A failure with the given code that may be tried again.
    pub fn new(code: FailureCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: true,
        }
    }

    /// A handler's failure that may go away: a durable message that meets it is tried again.
    pub fn retryable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureCode::HANDLER, message)
    }

    /// A handler's failure that will not go away: nobody tries again.
    pub fn permanent(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureCode::HANDLER, message).lasting()
    }

    /// The same failure under a code of your own.
    #[must_use]
    pub fn with_code(mut self, code: impl AsRef<str>) -> Self {
        self.code = FailureCode::new(code);
        self
    }

    /// The same failure, not to be tried again.
    #[must_use]
    pub(crate) fn lasting(mut self) -> Self {
        self.retryable = false;
        self
    }

    /// What an asker is told of any error: the [`Failure`] inside it when there is one, else its texts.
    pub fn from_error(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let boxed: Box<dyn StdError + Send + Sync> = error.into();
        match boxed.downcast::<Self>() {
            Ok(failure) => *failure,
            Err(other) => Self::find(&*other).unwrap_or_else(|| Self::retryable(chain(&*other))),
        }
    }

    /// The first failure in an error's chain of sources.
    fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(link) = next {
            if let Some(failure) = link.downcast_ref::<Self>() {
                return Some(failure.clone());
            }
            next = link.source();
        }
        None
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl StdError for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from_error(error)
    }
}

/// An error's text and those of its sources, joined by colons.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Failure);

    #[test]
    fn a_failure_inside_an_error_is_kept() {
        let inner = Failure::permanent("no").with_code("x");
        assert_eq!(Failure::from_error(Outer(inner.clone())), inner);
        assert_eq!(Failure::from_error(inner.clone()), inner);
        assert_eq!(Failure::from(Error::from(inner.clone())), inner);
    }

    #[test]
    fn another_error_is_told_with_its_causes() {
        let parse = "x".parse::<u8>().unwrap_err();
        let failure = Failure::from_error(parse);
        assert_eq!(failure.message, "invalid digit found in string");
        assert!(failure.retryable);
    }
}

//! The error of handlers and programs: what `?` turns every error into.

use std::error::Error as StdError;
use std::fmt;

/// The result of handlers and of whole programs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, boxed. `?` makes one of everything that is a [`std::error::Error`].
///
/// It is not an error type itself, which is what allows that conversion; it turns into
/// `Box<dyn std::error::Error + Send + Sync>`. A [`Failure`](super::Failure) inside is kept and reaches the asker.
pub struct Error(Box<dyn StdError + Send + Sync>);

impl Error {
    /// An error that consists of its text.
    pub fn msg(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }

    /// The error inside, when it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// The error inside.
    pub fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<Error> for Box<dyn StdError> {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a program that ends in an error prints: its text, then its causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, "\n  because {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u8> {
        Ok(text.parse()?)
    }

    #[test]
    fn every_error_converts_and_can_be_found_again() {
        let error = parse("x").unwrap_err();
        assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
        let boxed: Box<dyn StdError + Send + Sync> = error.into();
        assert_eq!(boxed.to_string(), "invalid digit found in string");
    }
}

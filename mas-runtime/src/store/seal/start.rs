//! What a store that opens does about its keys. No way leads from sealed to plain, and only one that is asked for by name
//! from plain to sealed.

use std::io;

use super::check::Check;
use super::error::KeyError;
use super::ring::Keys;
use super::sealer::{Sealer, StoreId};
use crate::store::StoreError;

/// What is there.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing yet.
    Empty,
    /// A store whose values are plain.
    Plain,
    /// A store whose values are sealed, and its check.
    Sealed(Check),
}

/// How the user wants the store to be.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Plain. A sealed store is refused.
    Plain,
    /// Sealed under these keys. A plain store is refused.
    Sealed(Keys),
    /// The same, but a plain store is sealed whole instead. The user has said so in as many words.
    SealExisting(Keys),
}

/// What the engine does.
#[derive(Debug)]
pub(crate) enum Start {
    /// It keeps values as they are.
    Plain,
    /// It seals and opens every value.
    Sealed(Sealer),
    /// It seals every value that is there into new files, and opens when these and the check, on disk, have taken the place
    /// of the old in one step. Until then the store is plain: a crash leaves no mixture.
    SealExisting {
        /// Seals them.
        sealer: Sealer,
        /// What makes the store a sealed one.
        check: Check,
    },
}

/// Holds what was found against what is wanted.
///
/// | | plain wanted | sealed wanted | seal the existing |
/// |---|---|---|---|
/// | nothing found | plain | sealed, new check | sealed, new check |
/// | plain found | plain | [`KeyError::Plain`] | seal every value |
/// | sealed found | [`KeyError::Sealed`] | sealed, keys verified | sealed, keys verified |
///
/// `keep` brings the text of a new or changed check to disk. It has to be there before any value is sealed under the key
/// that it names, so no sealer comes out before `keep` came back.
///
/// # Errors
/// Those of the table, those of [`Check::verify`], and [`KeyError::Store`] when `keep` fails or no random bytes come.
pub(crate) fn start(
    found: Found,
    wanted: Wanted,
    keep: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Start, KeyError> {
    let keep = |check: &Check| {
        keep(&check.encode()).map_err(|error| StoreError::io("write the check of its keys", error))
    };
    match (found, wanted) {
        (Found::Empty | Found::Plain, Wanted::Plain) => Ok(Start::Plain),
        (Found::Empty, Wanted::Sealed(keys) | Wanted::SealExisting(keys)) => {
            let sealer = Sealer::new(StoreId::random()?, &keys);
            keep(&Check::new(&sealer)?)?;
            Ok(Start::Sealed(sealer))
        }
        (Found::Plain, Wanted::Sealed(_)) => Err(KeyError::Plain),
        (Found::Plain, Wanted::SealExisting(keys)) => {
            let sealer = Sealer::new(StoreId::random()?, &keys);
            let check = Check::new(&sealer)?;
            Ok(Start::SealExisting { sealer, check })
        }
        (Found::Sealed(_), Wanted::Plain) => Err(KeyError::Sealed),
        (Found::Sealed(check), Wanted::Sealed(keys) | Wanted::SealExisting(keys)) => {
            let sealer = check.verify(&keys)?;
            if let Some(grown) = check.with_newest(&sealer)? {
                keep(&grown)?;
            }
            Ok(Start::Sealed(sealer))
        }
    }
}

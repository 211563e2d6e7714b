//! What a store that opens does about its keys. No way leads from sealed to plain, and only one that is asked for by name
//! from plain to sealed.

use std::io;
use std::sync::Arc;

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
    /// A store that is being sealed, and its check: some values are sealed, others not yet.
    Sealing(Check),
    /// A store whose values are sealed, and its check.
    Sealed(Check),
}

/// How the user wants the store to be.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wanted {
    /// Plain. A sealed store is refused.
    #[default]
    Plain,
    /// Sealed under these keys. A plain store is refused.
    Sealed(Arc<Keys>),
    /// The same, but the values of a plain store are sealed. The user has said so in as many words.
    SealExisting(Arc<Keys>),
}

/// What the engine does.
#[derive(Debug)]
pub(crate) enum Start {
    /// It keeps values as they are.
    Plain,
    /// It seals every value, opens what is sealed and takes what is plain, until a pass has found all of them sealed.
    Sealing(Sealer, Check),
    /// It seals and opens every value.
    Sealed(Sealer, Check),
}

/// Holds what was found of `store` against what is wanted.
///
/// | | plain wanted | sealed wanted | seal the existing |
/// |---|---|---|---|
/// | nothing found | plain | sealed, new check | sealed, new check |
/// | plain found | plain | [`KeyError::Plain`] | sealing, new check |
/// | half sealed found | [`KeyError::Sealed`] | sealing, keys verified | sealing, keys verified |
/// | sealed found | [`KeyError::Sealed`] | sealed, keys verified | sealed, keys verified |
///
/// `keep` brings the text of a new or changed check to disk. It has to be there before any value is sealed under the key
/// that it names, so no sealer comes out before `keep` came back.
///
/// # Errors
/// Those of the table, those of [`Check::verify`], and [`KeyError::Store`] when `keep` fails or no random bytes come.
pub(crate) fn start(
    found: Found,
    wanted: &Wanted,
    store: StoreId,
    keep: impl FnOnce(&str) -> io::Result<()>,
) -> Result<Start, KeyError> {
    let keep = |check: &Check| {
        keep(&check.encode()).map_err(|error| StoreError::io("write the check of its keys", error))
    };
    let (keys, is_by_name) = match wanted {
        Wanted::Plain => {
            return match found {
                Found::Empty | Found::Plain => Ok(Start::Plain),
                Found::Sealing(_) | Found::Sealed(_) => Err(KeyError::Sealed),
            };
        }
        Wanted::Sealed(keys) => (keys, false),
        Wanted::SealExisting(keys) => (keys, true),
    };
    let (found, is_sealing) = match found {
        Found::Empty => (None, false),
        Found::Plain if is_by_name => (None, true),
        Found::Plain => return Err(KeyError::Plain),
        Found::Sealing(check) => (Some(check), true),
        Found::Sealed(check) => (Some(check), false),
    };
    let (sealer, check) = match found {
        None => {
            let sealer = Sealer::new(store, keys);
            let check = Check::new(&sealer)?;
            keep(&check)?;
            (sealer, check)
        }
        Some(check) => {
            let sealer = check.verify(keys)?;
            let grown = check.with_newest(&sealer)?;
            if let Some(grown) = &grown {
                keep(grown)?;
            }
            (sealer, grown.unwrap_or(check))
        }
    };
    Ok(if is_sealing {
        Start::Sealing(sealer.taking_plain(), check)
    } else {
        Start::Sealed(sealer, check)
    })
}

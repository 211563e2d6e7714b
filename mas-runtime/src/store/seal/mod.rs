//! Encryption at rest: every value of a store is sealed once, when its batch is committed, and opened when it is read.
//!
//! Values are sealed with XChaCha20-Poly1305 under a key from a [key file](KeyFile), each with 24 random bytes as its nonce
//! and bound to its store and its key of the map. So many random bytes never meet twice in practice, whatever is copied,
//! forked or restored, and need no counter that a crash could set back.
//!
//! **What it protects**: whoever gets the files (a stolen disk, a backup, a copied volume) and not the key file can't read
//! a value, change one unnoticed, move one to another key, or bring one in from another store.
//!
//! **What it does not**:
//!
//! - The keys of the map stay readable: ids of agents, names of journals and of secrets, numbers, message ids. So do the
//!   sizes of values, how many there are, and when they were written.
//! - Whoever can write to the files can remove a value, put an older one of the same key back, or put the whole directory
//!   back to an earlier day: each was sealed truly once.
//! - Nothing is hidden from whoever reads the memory of the process, its core dumps or its swap. Keys are wiped when they
//!   are dropped, opened values are not.
//! - Who loses the key file loses the store. It belongs in a backup, and not in that of the data.
//!
//! A store is sealed or plain as a whole. Values of a plain store carry nothing of this module; a plain value in a sealed
//! store is damage, never a value. Only while a plain store is being sealed, which its format note says, it holds both.
//!
//! **How a store opens**: [`start`] holds what was found against what is wanted, and gives the [`Sealer`] or the reason why
//! not. **How a key is rotated**: [`KeyFile::rotate`] adds a key, the store takes it when it opens next and seals with it
//! from then on; a task in the background leads a [`Pass`] over all values; once one has found none under an older key, the
//! store no longer needs those ([`Check::without_old`]), and their lines may go from the file.
//!
//! | file | holds |
//! |---|---|
//! | `sealer` | [`Sealer`]: the layout of a sealed value |
//! | `ring` | [`Keys`]: what a key file says |
//! | `key_file` | [`KeyFile`]: the file itself, and who may read it |
//! | `check` | [`Check`]: how a store knows its keys again |
//! | `start` | [`start`]: what a store that opens does about its keys |
//! | `rotation` | [`Pass`]: everything under the newest key |
//! | `error` | [`KeyError`], [`FileFault`], [`LineFault`] |

mod check;
mod error;
mod key_file;
mod ring;
mod rotation;
mod sealer;
mod start;
#[cfg(test)]
pub(crate) mod tests;

pub use error::{FileFault, KeyError, LineFault};
pub use key_file::KeyFile;
pub use ring::{KeyId, Keys};

pub(crate) use check::{CHECK_BYTES_MAX, Check};
pub(crate) use rotation::{Clean, Pass, PassEnd};
#[cfg(test)]
pub(crate) use sealer::SEALED_BYTES_EXTRA;
pub(crate) use sealer::{Sealer, StoreId, is_sealed};
pub(crate) use start::{Found, Start, Wanted, start};

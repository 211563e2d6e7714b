//! Why a store gets no key. No text here holds a part of one.

use std::io;
use std::path::PathBuf;

use super::ring::KeyId;
use crate::model::EntropyError;
use crate::model::limits::STORE_KEYS_MAX;
use crate::store::StoreError;

/// Why a key file or a store's keys were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The system has no random bytes to make a key of.
    #[error("no key can be made")]
    Entropy(#[from] EntropyError),
    /// The key file is not what a key file must be.
    #[error("the key file {} {fault}", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        fault: FileFault,
    },
    /// The system refused.
    #[error("can't {action} the key file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A line of the key file is not what it must be.
    #[error("line {line} of the key file {} {fault}", path.display())]
    Line {
        /// The key file.
        path: PathBuf,
        /// The line, the first is 1.
        line: usize,
        /// What is wrong with it, and what to do.
        fault: LineFault,
    },
    /// Values of the store are sealed under a key that the file does not hold.
    #[error(
        "the store holds values under key {id}, which the key file {} lacks: put its line back",
        path.display()
    )]
    MissingKey {
        /// The key.
        id: KeyId,
        /// The key file.
        path: PathBuf,
    },
    /// A key file was given for a store whose values are plain.
    #[error(
        "the store is plain and a key file was given: open it without one, or ask for it to be sealed"
    )]
    Plain,
    /// The store is sealed and no key file was given.
    #[error("the store is sealed: open it with its key file")]
    Sealed,
    /// The store failed to keep its check of the keys.
    #[error("the store can't keep its check of the keys")]
    Store(#[from] StoreError),
    /// The key with this id is another than the one that the store's values are sealed under.
    #[error(
        "key {id} of the key file {} is not the one that the store is sealed with: give the key file of this store",
        path.display()
    )]
    WrongKey {
        /// The key.
        id: KeyId,
        /// The key file.
        path: PathBuf,
    },
}

/// What is wrong with a key file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// A rotation is under way, or was interrupted.
    #[error("has a file with the end `.new` beside it: when no rotation is under way, remove that")]
    Busy,
    /// It does not end with a line break.
    #[error("does not end with a line break: its last line may be cut off")]
    CutOff,
    /// There is a file already where one was to be made.
    #[error("is there already: it was left as it is")]
    Exists,
    /// It does not begin as a key file does.
    #[error("does not begin with the line `mas-store-key 1`")]
    Header,
    /// The newest key has the highest id that there is.
    #[error("has used up the ids of keys")]
    IdsUsedUp,
    /// A later version of mas wrote it.
    #[error("has format {found}, this version of mas reads 1: use the later version")]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// It holds no key.
    #[error("holds no key")]
    NoKeys,
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file")]
    NotRegular,
    /// It belongs to somebody else than root and the user of this process.
    #[error(
        "belongs to user {owner} and this process runs as user {user}: run as its owner, or give it to user {user}"
    )]
    Owner {
        /// The user that it belongs to.
        owner: u32,
        /// The user that this process runs as.
        user: u32,
    },
    /// Others than its owner may read or change it.
    #[error("has mode {mode:04o}, which lets in others than its owner: set it to 0600 or 0400")]
    Shared {
        /// Its permissions.
        mode: u32,
    },
    /// It is a symbolic link.
    #[error("is a symbolic link: name the file that it leads to")]
    SymbolicLink,
    /// It is larger than a key file can be.
    #[error("has more than {max} bytes: that is no key file")]
    TooLarge {
        /// The most that is read.
        max: usize,
    },
    /// It holds too many keys.
    #[error("holds {STORE_KEYS_MAX} keys, or more than that: remove those that no store needs")]
    TooManyKeys,
}

/// What is wrong with a line of a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// The key is not 64 hexadecimal digits.
    #[error("holds a key that is not 64 hexadecimal digits, with nothing behind them")]
    Hex,
    /// The id is no id.
    #[error("does not begin with an id: a number from 1 to 4294967295 without leading zeros")]
    Id,
    /// The id is not higher than that of the line before.
    #[error("has id {id} after {before}: ids must rise from line to line")]
    Order {
        /// The id of the line.
        id: KeyId,
        /// The id of the line before.
        before: KeyId,
    },
    /// An earlier line holds the same key.
    #[error("holds the same key as the line of id {other}: every line needs a key of its own")]
    SameKey {
        /// The id of the earlier line.
        other: KeyId,
    },
    /// It is not an id, a blank and a key.
    #[error("is not an id, one blank and a key")]
    Shape,
    /// All bytes of the key are the same.
    #[error("holds a key whose bytes are all the same: make one at random")]
    Weak,
}

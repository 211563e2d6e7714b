//! sled, at arm's length: the index of the embedded engine, and the store of the engine before it.
//!
//! | file | holds |
//! |---|---|
//! | `index` | the index of leaves |
//! | `earlier` | what the first engine kept, to be read once |
//! | `digest` | a hash of entries |
//! | `files` | sled's files, where it does not look after them itself |
//! | `guard` | sled's panics and errors in our words |

mod digest;
pub(super) mod earlier;
mod files;
mod guard;
mod index;

pub(super) use index::SledHome;

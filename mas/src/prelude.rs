//! What a program with agents needs: `use mas::prelude::*;`.

pub use crate::{agent, on, on_any, on_start, on_stop};
pub use futures_core::Stream;
pub use mas_runtime::actor::{AgentRef, Context};
pub use mas_runtime::model::{Envelope, Failure, Priority, Result};
pub use mas_runtime::runtime::Runtime;
#[cfg(feature = "testkit")]
pub use mas_runtime::testkit::{Harness, TestKit};
pub use serde::{Deserialize, Serialize};

/// This many seconds.
pub const fn secs(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

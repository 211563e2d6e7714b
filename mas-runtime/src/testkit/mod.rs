//! Testing agents: one alone, or a whole system in virtual time.
//!
//! | file | holds |
//! |---|---|
//! | `harness` | [`Harness`]: one agent, no runtime |
//! | `kit` | [`TestKit`]: a runtime in virtual time, with probes and faults |
//! | `probe` | [`Probe`]: an agent that records what it gets |
//! | `clock` | virtual time as a [`Clock`](crate::model::Clock) |
//! | `engine` | [`FaultyEngine`]: any engine, failing when told to |
//!
//! The suite that every engine passes is [`conformance`].

mod clock;
mod engine;
mod harness;
mod kit;
mod probe;

pub use crate::store::conformance;
pub use engine::{Fault, FaultyEngine};
pub use harness::{Harness, Outcome, Timer};
pub use kit::{KitBuilder, TestKit};
pub use probe::Probe;

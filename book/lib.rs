//! The book's code, compiled: every chapter that holds Rust is a doctest here.
//!
//! Longer code stands in `examples/`, and in [`expansion`], and is shown from there.

pub mod documented;
pub mod expansion;

#[doc = include_str!("../README.md")]
mod readme {}

#[doc = include_str!("src/introduction.md")]
mod introduction {}

#[doc = include_str!("src/quickstart.md")]
mod quickstart {}

#[doc = include_str!("src/writing-agents.md")]
mod writing_agents {}

#[doc = include_str!("src/state-and-delivery.md")]
mod state_and_delivery {}

#[doc = include_str!("src/store.md")]
mod store {}

#[doc = include_str!("src/supervision.md")]
mod supervision {}

#[doc = include_str!("src/testing.md")]
mod testing {}

#[doc = include_str!("src/macros.md")]
mod macros {}

#[doc = include_str!("src/errors.md")]
mod errors {}

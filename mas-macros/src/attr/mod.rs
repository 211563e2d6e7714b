//! Options to typed values: what stands in the parentheses of an attribute.
//!
//! `agent` parses the keys of `#[agent(..)]`, `on` the attributes of handlers, `value` the values of keys. Each value
//! is checked by itself here; what several of them mean together is `check`'s business.

pub(crate) mod agent;
pub(crate) mod on;
mod value;

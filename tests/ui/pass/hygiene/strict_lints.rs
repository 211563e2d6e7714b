//! The output passes whatever lints its user turns on.

#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications
)]
#![deny(
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    single_use_lifetimes,
    trivial_casts
)]
#![deny(
    unused_lifetimes,
    unused_results,
    let_underscore_drop,
    non_ascii_idents
)]
#![deny(
    redundant_lifetimes,
    unit_bindings,
    variant_size_differences,
    unnameable_types,
    unused_import_braces
)]
#![forbid(unsafe_code)]

use mas::prelude::*;
use serde::de::DeserializeOwned;

/// A payload that nobody else sees.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Hidden(u8);

/// A state.
#[derive(Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tally {
    /// How many.
    pub done: u64,
}

/// An open agent.
#[derive(Debug)]
#[agent(state = Tally, durable, capabilities = ["a"])]
pub struct Open(u8);

#[agent]
impl Open {
    #[on("a")]
    async fn a(&mut self, hidden: Hidden, ctx: &mut Context<Self>) -> Result<Hidden> {
        ctx.update_state(|tally| tally.done += u64::from(self.0));
        Ok(hidden)
    }

    #[on("b")]
    fn b(&self) -> impl Stream<Item = Hidden> {
        futures_util::stream::iter([Hidden(self.0)])
    }

    #[on_any]
    async fn other(&self, envelope: Envelope) {
        drop(envelope);
    }

    #[on_start]
    async fn start(&mut self) {}
}

/// A closed agent, whose typed calls nobody uses.
#[derive(Debug)]
#[agent]
struct Closed<T>(T);

#[agent]
impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Closed<T> {
    #[on("get")]
    async fn get(&self) -> T {
        self.0.clone()
    }
}

fn main() {
    let open = Open(1);
    let closed = Closed(1);
    assert_eq!(open.0, closed.0);
}

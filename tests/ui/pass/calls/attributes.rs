//! A typed call carries its handler's docs, conditions, levels of lints and deprecation.

#![deny(missing_docs, deprecated, non_snake_case)]

use mas::prelude::*;
use mas::private::Call;

/// An agent.
#[agent]
pub struct Worker;

#[agent]
impl Worker {
    /// Says hello.
    #[on("hello")]
    pub async fn hello(&self) {}

    // No docs here: the typed call gets some of its own.
    #[on("bye")]
    async fn bye(&self) {}

    /// Does it the old way.
    #[deprecated = "use `hello`"]
    #[on("old")]
    pub async fn old(&self) {}

    /// Has a name of its own kind.
    #[allow(non_snake_case)]
    #[on("camel")]
    pub async fn camelCase(&self) {}

    /// Is not there.
    #[cfg(any())]
    #[on("gone")]
    pub async fn gone(&self, payload: NoSuchType) {}

    /// Is there.
    #[cfg_attr(all(), cfg(all()), doc = "More.")]
    #[on("there")]
    pub async fn there(&self) {}
}

fn main() {
    let _: [fn(&WorkerRef) -> Call<()>; 4] = [
        WorkerRef::hello,
        WorkerRef::bye,
        WorkerRef::camelCase,
        WorkerRef::there,
    ];
    #[expect(deprecated)]
    let _: fn(&WorkerRef) -> Call<()> = WorkerRef::old;
}

//! The level of a lint holds for what is generated, too, on whichever of the two items it stands.

#![deny(non_camel_case_types, non_snake_case, missing_docs)]

use mas::prelude::*;

/// An agent in the case of something else.
#[expect(non_camel_case_types, reason = "it is named after a program")]
#[agent]
pub struct worker;

#[agent]
#[allow(non_snake_case)]
impl worker {
    /// Has a name of its own kind.
    #[on("camel")]
    pub async fn camelCase(&self) {}
}

/// An agent whose block and handlers say it themselves.
#[forbid(missing_docs)]
#[agent]
pub struct Strict;

#[agent]
#[deny(dead_code)]
impl Strict {
    #![allow(non_snake_case)]

    /// Has a name of its own kind.
    #[on("camel")]
    pub async fn camelCase(&self) {}

    /// Has one too.
    #[expect(non_snake_case)]
    #[cfg_attr(all(), forbid(unused_mut))]
    #[on("hump")]
    pub async fn humpCase(&self) {}
}

fn main() {
    let _ = (worker, Strict);
    let _: fn(&workerRef) -> mas::private::Call<()> = workerRef::camelCase;
    let _: [fn(&StrictRef) -> mas::private::Call<()>; 2] =
        [StrictRef::camelCase, StrictRef::humpCase];
}

//! An agent borrows nothing.

use mas::prelude::*;

#[agent]
struct Worker<'a> {
    name: &'a str,
}

fn main() {
    let _ = Worker { name: "a" }.name;
}

//! An agent that keeps nothing has nothing to be kept in any way.

use mas::prelude::*;

#[agent(durability = "buffered")]
struct Worker;

#[agent]
impl Worker {}

fn main() {}

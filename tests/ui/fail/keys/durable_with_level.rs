//! `durable` says that messages are kept, `durability` says how.

use mas::prelude::*;

#[agent(durable = "buffered")]
struct Worker;

#[agent]
impl Worker {}

fn main() {}

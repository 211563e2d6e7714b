//! Words that `durability` does not know.

use mas::prelude::*;

#[agent(durable, durability = "bufered")]
struct Misspelt;

#[agent(durable, durability = "relaxed")]
struct Unknown;

#[agent(durable, durability = buffered)]
struct Bare;

#[agent(durable, durability)]
struct Missing;

#[agent(durable, durabilty = "buffered")]
struct Key;

fn main() {}

//! A function is no agent.

use mas::prelude::*;

#[agent]
async fn process(n: u8) -> u8 {
    n
}

fn main() {
    let _ = process(3);
}

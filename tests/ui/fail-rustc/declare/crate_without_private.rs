//! A crate path that leads nowhere.

use mas::prelude::*;

#[agent(crate = "crate::framework")]
struct Worker;

fn main() {
    let _ = Worker;
}

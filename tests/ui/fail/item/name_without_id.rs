//! A name of which no id can be made.

use mas::prelude::*;

#[agent]
struct Größe;

fn main() {
    let _ = Größe;
}

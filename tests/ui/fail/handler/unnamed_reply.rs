//! Replies without a named type.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("one")]
    async fn one(&self) -> impl Serialize {
        1
    }

    #[on("two")]
    async fn two(&self) -> Result<impl Serialize> {
        Ok(2)
    }
}

fn main() {
    let _ = Worker;
}

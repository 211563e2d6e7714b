//! A reply that is borrowed mutably.

use mas::prelude::*;

#[agent]
struct Worker(String);

#[agent]
impl Worker {
    #[on("name")]
    async fn name(&mut self) -> &mut String {
        &mut self.0
    }
}

fn main() {
    let _ = Worker(String::new());
}

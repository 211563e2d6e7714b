//! Nobody waits for the reply of a start.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on_start]
    async fn start(&mut self) -> u8 {
        1
    }

    #[on_stop]
    async fn stop(&mut self) -> Result<u8> {
        Ok(1)
    }
}

fn main() {
    let _ = Worker;
}

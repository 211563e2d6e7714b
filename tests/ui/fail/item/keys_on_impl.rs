//! Keys that stand on the struct.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent(id = "worker", capabilties = ["nlp"])]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, n: u8) -> u8 {
        n
    }
}

fn main() {
    let uses = async |runtime: Runtime| -> Result<u8> {
        Ok(runtime.spawn(Worker).await?.process(3).await?)
    };
    let _ = uses;
}

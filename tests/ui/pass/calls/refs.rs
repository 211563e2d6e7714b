//! A ref derefs to the agent's `AgentRef`, can be made from one, cloned, shown and sent, whatever the agent is.

use mas::prelude::*;

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("a")]
    async fn a(&self, n: u8) -> u8 {
        n
    }
}

fn takes_untyped(worker: &AgentRef<Worker>) -> String {
    worker.id().to_string()
}

fn sendable<T: Clone + std::fmt::Debug + Send + Sync + 'static + From<AgentRef<Worker>>>(_: &T) {}

fn main() {
    let uses = |runtime: &Runtime| -> Result<()> {
        let worker = WorkerRef::attach(runtime, "worker@node-2")?;
        sendable(&worker);
        takes_untyped(&worker);
        let again: WorkerRef = AgentRef::clone(&worker).into();
        let _ = again.a(3);
        Ok(())
    };
    let _ = uses;
}

//! Every key of `#[agent(..)]` reaches the declaration.

use std::time::Duration;

use mas::prelude::*;
use mas::private::{Declaration, Declare, Durability, Overflow, Restart, Strategy};

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[agent(
    id = "worker:1",
    capabilities = ["nlp", "text"],
    metadata = { owner = "search", "build.version" = "7", type = "words" },
    state = Tally,
    durable,
    durability = "buffered",
    mailbox = 8,
    overflow = "drop_oldest",
    concurrency = 2,
    restart = "never",
    strategy = "rest_for_one",
    max_restarts = 0,
    max_attempts = 9,
    timeout = "500ms",
    security = "direct",
    state_version = 2,
    crate = "::mas",
)]
struct Worker;

#[agent(crate = "mas")]
impl Worker {}

fn main() {
    let expected = Declaration::new("worker:1")
        .capability("nlp")
        .capability("text")
        .metadata("owner", "search")
        .metadata("build.version", "7")
        .metadata("type", "words")
        .stateful()
        .durable()
        .durability(Durability::Buffered)
        .mailbox(8)
        .overflow(Overflow::DropOldest)
        .concurrency(2)
        .restart(Restart::Never)
        .strategy(Strategy::RestForOne)
        .max_restarts(0)
        .max_attempts(9)
        .timeout(Duration::from_millis(500))
        .state_version(2);
    let declared = <WorkerRef as Declare<Worker>>::declaration();
    assert_eq!(format!("{declared:?}"), format!("{expected:?}"));
    assert_eq!(Tally::default().done, 0);
}

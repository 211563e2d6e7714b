//! mas' embedded engine by its public traits: the only file that opens it.
//!
//! Queues are inboxes. Records are what agents remember of messages, the one kind of entry that is written without a
//! condition, read alone and read in pages.

use std::path::Path;

use bytes::Bytes;
use mas::store::{Batch, Commit, EmbeddedEngine, EmbeddedOptions, Inbox, Op};
use mas::{AgentId, MessageId, Priority};

use super::store::{CACHE_BYTES, Change, Key, Store, agents};

pub struct Mas {
    engine: EmbeddedEngine,
}

impl Store for Mas {
    const WRITERS_ARE_TASKS: bool = true;

    fn open(dir: &Path) -> Self {
        let options = EmbeddedOptions::default().cache_bytes(CACHE_BYTES);
        let engine = EmbeddedEngine::open(dir, options).expect("it opens");
        Self { engine }
    }

    async fn commit(&self, changes: Vec<Change>) -> Vec<u64> {
        let mut batch = Batch::new();
        for change in changes {
            batch.push(op(change));
        }
        self.engine.commit(batch).await.expect("on disk").seqs
    }

    async fn get(&self, key: Key) -> Option<Bytes> {
        let entry = self.engine.dedup(&agent(key.agent), message(key.number));
        entry.await.expect("read")?.reply
    }

    async fn scan(&self) -> u64 {
        let mut count = 0;
        for number in agents() {
            let agent = agent(number);
            let mut after = None;
            loop {
                let page = self.engine.dedup_page(&agent, after, usize::MAX).await;
                let page = page.expect("read");
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                count += page.len() as u64;
            }
        }
        count
    }
}

fn op(change: Change) -> Op {
    match change {
        Change::Put { key, value } => Op::DedupPut {
            agent: agent(key.agent),
            id: message(key.number),
            reply: Some(value),
            expires_unix_ms: u64::MAX,
        },
        Change::Append { queue, value } => Op::InboxAppend {
            agent: agent(queue),
            lane: Priority::Normal,
            id: message(u64::from(queue)),
            envelope: value,
        },
        Change::Remove { queue, number } => Op::InboxAck {
            agent: agent(queue),
            lane: Priority::Normal,
            seq: number,
        },
    }
}

fn agent(number: u32) -> AgentId {
    AgentId::new(format!("agent-{number}")).expect("a valid id")
}

fn message(number: u64) -> MessageId {
    MessageId::from_bytes(u128::from(number).to_be_bytes())
}

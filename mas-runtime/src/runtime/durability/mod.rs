//! How durably each agent's things are kept: what the agent says, what the runtime says for those that say nothing, and what
//! follows for each batch.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | [`Levels`]: who is kept at which level, and the one function that decides the level of a batch |
//! | `engine` | [`LeveledEngine`]: stands before the runtime's engine, and gives each batch its level and its home |
//! | `tests` | the table of levels, line by line; the engine's homes |
//!
//! What is kept has two homes: the runtime's engine, and, for agents of level [`Durability::Memory`], a memory engine beside
//! it. A batch has one home, so that it is all or nothing. Hence a message between two homes is never part of its sender's
//! batch: it waits in the sender's outbox, is appended where its target is at home, and is then taken out. Within the process
//! the target's dedup drops a second copy, so that it takes effect once. To the next process a message into memory is what
//! one to an agent without an inbox is: it comes again if its outbox entry was not taken out, and what the first has sent on
//! stays sent.

mod engine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

pub(super) use self::engine::{LeveledEngine, home_of_letter};
use crate::actor::{Declaration, Durability};
use crate::model::{AgentId, Codec};
use crate::store::{self, Op};

/// Said of an agent that is kept in another home than before. Nothing is moved, and nothing removed.
pub(super) const LEFT_BEHIND: &str = "the agent was kept on disk before and is kept in memory now, or the other way round: \
    it finds what it has left there when it is kept there again";

/// Where an agent's things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In the runtime's engine.
    Engine,
    /// In this process only.
    Memory,
}

/// Who is kept at which level.
#[derive(Debug)]
pub(super) struct Levels {
    default: Durability,
    /// The agents that say something else. As many as have said so and were not removed.
    said: RwLock<BTreeMap<AgentId, Durability>>,
}

impl Levels {
    pub(super) fn new(default: Durability) -> Self {
        Self {
            default,
            said: RwLock::default(),
        }
    }

    /// An agent says how it is kept, or leaves it to the runtime.
    pub(super) fn say(&self, agent: &AgentId, word: Option<Durability>) {
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        match word {
            Some(word) if word != self.default => drop(said.insert(agent.clone(), word)),
            _ => drop(said.remove(agent)),
        }
    }

    /// Where the things of an agent are that says this.
    pub(super) fn home_of(&self, word: Option<Durability>) -> Home {
        match word.unwrap_or(self.default) {
            Durability::Memory => Home::Memory,
            Durability::Durable | Durability::Buffered => Home::Engine,
        }
    }

    /// Where the things of an agent are.
    pub(super) fn home(&self, agent: &AgentId) -> Home {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner);
        self.home_of(said.get(agent).copied())
    }

    /// When the commit of these operations is answered: as the strongest of those says that one of them belongs to.
    ///
    /// | commit | its operations belong to | so it is answered as |
    /// |---|---|---|
    /// | a message goes into an inbox | its target | the target says: that is what the sender's await promises |
    /// | a handler's message settles | the agent, and the targets whose inboxes are in the batch | the strongest of them says |
    /// | `#[on_start]`, `#[on_stop]`, an update of a `&self` handler | the agent | it says |
    /// | an attempt is counted, a message is given up on or was handled before | the agent | it says |
    /// | a delivery begins | nobody waits for it | `Relaxed`: what is lost is a count |
    /// | a timer fires, or is cancelled | the agent | it says |
    /// | an outbox entry goes into an inbox | sender and target | the stronger of them says |
    /// | an outbox entry is taken out, or given up on | the sender | it says; the dead letter goes along |
    /// | an agent is entered into the directory | the agent | it says |
    /// | an agent is removed | an operator's word | `Durable` |
    /// | a dead letter is retried or dropped | an operator's word | `Durable` |
    /// | a record of a journal, a secret | the runtime | `Durable` |
    /// | nothing | all before it | `Durable`: it brings all before it to disk |
    ///
    /// A topic's messages and those of a watch are messages. A buffered handler that tells a durable agent waits for the
    /// disk as it settles: what is in a durable inbox is there when anybody is told so. What a durable agent makes of a
    /// buffered one's reply can't outlive what the reply stands for: whatever is lost is lost from the end of the log.
    ///
    /// With it comes the one home of the batch. `None` when it has two.
    pub(super) fn of_batch(&self, ops: &[Op]) -> Option<(Home, store::Durability)> {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner);
        let (mut home, mut level) = (None, None);
        for op in ops {
            let (own_home, own_level) = match part_of(op) {
                Part::Agent(agent) => {
                    let word = said.get(agent).copied();
                    (self.home_of(word), self.level_of(word, op))
                }
                Part::Letter(number) => (home_of_letter(number), store::Durability::Durable),
                Part::Operator | Part::Runtime => (Home::Engine, store::Durability::Durable),
                Part::Rest => continue,
            };
            if *home.get_or_insert(own_home) != own_home {
                return None;
            }
            level = Some(level.map_or(own_level, |level| stronger(level, own_level)));
        }
        Some((
            home.unwrap_or(Home::Engine),
            level.unwrap_or(store::Durability::Durable),
        ))
    }

    /// When a change of what an agent keeps is answered, if the agent says this.
    fn level_of(&self, word: Option<Durability>, op: &Op) -> store::Durability {
        match word.unwrap_or(self.default) {
            _ if matches!(op, Op::InboxClaim { .. }) => store::Durability::Relaxed,
            Durability::Durable => store::Durability::Durable,
            Durability::Buffered => store::Durability::Buffered,
            // At home in memory, where every commit is answered at once.
            Durability::Memory => store::Durability::Relaxed,
        }
    }
}

const fn stronger(one: store::Durability, other: store::Durability) -> store::Durability {
    use store::Durability::{Buffered, Durable, Relaxed};
    match (one, other) {
        (Durable, _) | (_, Durable) => Durable,
        (Buffered, _) | (_, Buffered) => Buffered,
        (Relaxed, Relaxed) => Relaxed,
    }
}

/// Whom an operation belongs to.
enum Part<'a> {
    /// An agent.
    Agent(&'a AgentId),
    /// Whoever removes an agent, wherever that is at home.
    Operator,
    /// Whoever retries or drops the dead letter of this number.
    Letter(u64),
    /// The runtime as a whole.
    Runtime,
    /// Whoever the rest of its batch belongs to.
    Rest,
}

fn part_of(op: &Op) -> Part<'_> {
    match op {
        Op::StatePut { agent, .. }
        | Op::StateRemove { agent, .. }
        | Op::InboxAppend { agent, .. }
        | Op::InboxClaim { agent, .. }
        | Op::InboxAck { agent, .. }
        | Op::InboxNack { agent, .. }
        | Op::InboxBury { agent, .. }
        | Op::OutboxPut { agent, .. }
        | Op::OutboxRemove { agent, .. }
        | Op::DedupPut { agent, .. }
        | Op::DedupRemove { agent, .. }
        | Op::TimerPut { agent, .. }
        | Op::TimerRemove { agent, .. }
        | Op::AgentPut { agent, .. } => Part::Agent(agent),
        Op::AgentRemove { .. } | Op::AgentErase { .. } => Part::Operator,
        Op::DeadRemove { seq } | Op::DeadRetry { seq, .. } => Part::Letter(*seq),
        Op::DeadPut { .. } => Part::Rest,
        Op::JournalAppend { .. }
        | Op::JournalTrim { .. }
        | Op::SecretPut { .. }
        | Op::SecretRemove { .. } => Part::Runtime,
    }
}

/// What the directory keeps of a durable agent, for the time in which it does not run: MessagePack, named fields.
#[derive(Serialize, Deserialize)]
struct Listed {
    capabilities: Vec<String>,
    /// What it has said of its durability.
    durability: Option<Durability>,
}

/// The directory's record of an agent.
pub(super) fn listing(declaration: &Declaration) -> bytes::Bytes {
    let names = declaration.capabilities.iter();
    let listed = Listed {
        capabilities: names.map(|&name| name.to_owned()).collect(),
        durability: declaration.durability,
    };
    Codec::MessagePack.encode(&listed).unwrap_or_default()
}

/// What a record says of its agent's durability. A record of before that could be said, or one that can't be read, leaves it
/// to the runtime.
pub(super) fn listed(record: &[u8]) -> Option<Durability> {
    let listed: Listed = Codec::MessagePack.decode(record).ok()?;
    listed.durability
}

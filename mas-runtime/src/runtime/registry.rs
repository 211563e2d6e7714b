//! Who exists here and what they can do: discovery is served from an index by capability, not by a scan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::actor::{AgentRecord, AgentStatus, Durability, Port, Query};
use crate::model::{AgentId, Moment};

/// The agents of one runtime, by what they declare.
#[derive(Debug, Default)]
pub(super) struct Registry {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    agents: BTreeMap<AgentId, Arc<Port>>,
    by_capability: BTreeMap<&'static str, BTreeSet<AgentId>>,
    /// Durable agents that the engine knows, whether they run or not, and what they say of their durability.
    kept: BTreeMap<AgentId, Option<Durability>>,
}

impl Registry {
    pub(super) fn add(&self, port: &Arc<Port>) {
        let mut index = self.write();
        for &capability in &port.declaration.capabilities {
            let agents = index.by_capability.entry(capability).or_default();
            agents.insert(port.id.clone());
        }
        if port.declaration.durable {
            let word = port.declaration.durability;
            index.kept.insert(port.id.clone(), word);
        }
        index.agents.insert(port.id.clone(), Arc::clone(port));
    }

    pub(super) fn remove(&self, port: &Port) {
        let mut index = self.write();
        for capability in &port.declaration.capabilities {
            if let Some(agents) = index.by_capability.get_mut(capability) {
                agents.remove(&port.id);
                if agents.is_empty() {
                    index.by_capability.remove(capability);
                }
            }
        }
        index.agents.remove(&port.id);
    }

    /// The engine knows a durable agent of this id.
    pub(super) fn keep(&self, id: AgentId, word: Option<Durability>) {
        self.write().kept.insert(id, word);
    }

    /// The engine does not know it any more.
    pub(super) fn forget(&self, id: &AgentId) {
        self.write().kept.remove(id);
    }

    pub(super) fn is_kept(&self, id: &AgentId) -> bool {
        self.read().kept.contains_key(id)
    }

    /// What the engine knows of the durability of an agent, if it knows the agent.
    pub(super) fn kept_as(&self, id: &AgentId) -> Option<Option<Durability>> {
        self.read().kept.get(id).copied()
    }

    /// All agents that run here, in order of their ids.
    pub(super) fn ports(&self) -> Vec<Arc<Port>> {
        self.read().agents.values().map(Arc::clone).collect()
    }

    /// The agents that a query asks for, in order of their ids.
    pub(super) fn find(&self, query: &Query, now: Moment, lease: Duration) -> Vec<AgentRecord> {
        let index = self.read();
        let matches = index
            .candidates(query)
            .filter(|port| fits(port, query))
            .map(|port| record(port, now, lease))
            .filter(|record| query.also_inactive || record.status == AgentStatus::Active);
        match query.limit {
            Some(limit) => matches.take(limit).collect(),
            None => matches.collect(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// A superset of what a query asks for, as small as the index can give it.
    fn candidates<'a>(&'a self, query: &Query) -> Box<dyn Iterator<Item = &'a Arc<Port>> + 'a> {
        let of = |capability: &String| self.by_capability.get(capability.as_str());
        if !query.all.is_empty() {
            let rarest = query
                .all
                .iter()
                .map(of)
                .min_by_key(|agents| agents.map_or(0, BTreeSet::len));
            let ids = rarest.flatten().into_iter().flatten();
            return Box::new(ids.filter_map(|id| self.agents.get(id)));
        }
        if !query.any.is_empty() {
            let ids: BTreeSet<&AgentId> = query.any.iter().filter_map(of).flatten().collect();
            return Box::new(ids.into_iter().filter_map(|id| self.agents.get(id)));
        }
        Box::new(self.agents.values())
    }
}

fn fits(port: &Port, query: &Query) -> bool {
    let declaration = &port.declaration;
    let has = |capability: &String| declaration.capabilities.contains(&capability.as_str());
    let says = |(key, value): (&String, &String)| {
        let own = declaration.metadata.iter().find(|(own, _)| own == key);
        own.is_some_and(|(_, own)| own == value)
    };
    query.all.iter().all(has)
        && (query.any.is_empty() || query.any.iter().any(has))
        && query.metadata.iter().all(says)
}

fn record(port: &Port, now: Moment, lease: Duration) -> AgentRecord {
    let mut capabilities: Vec<String> = port
        .declaration
        .capabilities
        .iter()
        .map(|&capability| capability.to_owned())
        .collect();
    capabilities.sort_unstable();
    let metadata = &port.declaration.metadata;
    AgentRecord::new(
        port.id.clone(),
        capabilities,
        metadata
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        status(port, now, lease),
        u32::try_from(port.slots.len()).unwrap_or(u32::MAX),
    )
}

pub(super) fn status(port: &Port, now: Moment, lease: Duration) -> AgentStatus {
    if now.since(port.renewed()) <= lease {
        AgentStatus::Active
    } else {
        AgentStatus::Inactive
    }
}

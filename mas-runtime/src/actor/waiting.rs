//! Who waits for whom: an ask that would close a circle of waiting agents fails at once instead of timing out.
//!
//! A handler that waits holds its agent only so far as its receiver says: while a `&mut self` handler waits, nothing gets
//! through to its instance; while a `&self` handler waits, other `&self` handlers do, and only `&mut self` ones are held
//! off. An agent with several instances is stuck when all of them are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::AgentId;

/// The pending asks between agents of one runtime.
#[derive(Debug, Default)]
pub(crate) struct WaitGraph {
    edges: Mutex<Edges>,
}

#[derive(Debug, Default)]
struct Edges {
    next: u64,
    by_asker: BTreeMap<AgentId, Vec<Edge>>,
}

#[derive(Clone, Debug)]
struct Edge {
    number: u64,
    asking: Asking,
}

/// An ask between agents.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) asker: AgentId,
    /// Which of the asker's instances waits.
    pub(crate) instance: u32,
    /// How many instances the asker has.
    pub(crate) instances: u32,
    pub(crate) target: AgentId,
    /// Whether the waiting handler holds its instance for itself.
    pub(crate) holds: bool,
    /// Whether the handler that is asked needs its instance for itself.
    pub(crate) needs: bool,
}

impl WaitGraph {
    /// Notes that an ask begins, and gives it a number for [`WaitGraph::end`].
    ///
    /// # Errors
    /// The circle, from the asker back to it, when the ask would close one. Nothing is noted then.
    pub(crate) fn begin(&self, asking: Asking) -> Result<u64, Vec<AgentId>> {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path = vec![asking.asker.clone()];
        if edges.leads_back(&asking.target, asking.needs, &asking, &mut path) {
            return Err(path);
        }
        let number = edges.next;
        edges.next += 1;
        let own = edges.by_asker.entry(asking.asker.clone()).or_default();
        own.push(Edge { number, asking });
        Ok(number)
    }

    /// The ask of this number is over.
    pub(crate) fn end(&self, asker: &AgentId, number: u64) {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = edges.by_asker.get_mut(asker) {
            own.retain(|edge| edge.number != number);
            if own.is_empty() {
                edges.by_asker.remove(asker);
            }
        }
    }
}

impl Edges {
    /// Whether a message to `agent` can't be handled before `origin` gets its answer. Leaves the circle in `path`.
    fn leads_back(
        &self,
        agent: &AgentId,
        needs: bool,
        origin: &Asking,
        path: &mut Vec<AgentId>,
    ) -> bool {
        let back = *agent == origin.asker;
        if !back && path.contains(agent) {
            return false;
        }
        path.push(agent.clone());
        let own: Vec<&Asking> = self
            .by_asker
            .get(agent)
            .map(|own| own.iter().map(|edge| &edge.asking).collect())
            .unwrap_or_default();
        let instances = match own.first() {
            Some(edge) => edge.instances,
            None if back => origin.instances,
            None => 0,
        };
        let stuck = instances > 0
            && (0..instances).all(|instance| {
                let asks = back && instance == origin.instance && (origin.holds || needs);
                asks || own
                    .iter()
                    .filter(|edge| edge.instance == instance && (edge.holds || needs))
                    .any(|edge| {
                        let at = path.len();
                        let stuck =
                            !back && self.leads_back(&edge.target, edge.needs, origin, path);
                        if !stuck {
                            path.truncate(at);
                        }
                        stuck
                    })
            });
        if !stuck {
            path.pop();
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn ask(asker: &str, target: &str, holds: bool, needs: bool) -> Asking {
        Asking {
            asker: id(asker),
            instance: 0,
            instances: 1,
            target: id(target),
            holds,
            needs,
        }
    }

    #[test]
    fn a_circle_is_found_and_told() {
        let graph = WaitGraph::default();
        graph.begin(ask("a", "b", true, true)).unwrap();
        graph.begin(ask("b", "c", true, true)).unwrap();
        let path = graph.begin(ask("c", "a", true, true)).unwrap_err();
        assert_eq!(path, [id("c"), id("a"), id("b"), id("c")]);
    }

    #[test]
    fn an_agent_that_asks_itself_alone_is_a_circle() {
        let graph = WaitGraph::default();
        let path = graph.begin(ask("a", "a", true, false)).unwrap_err();
        assert_eq!(path, [id("a"), id("a")]);
    }

    #[test]
    fn side_by_side_handlers_do_not_block_each_other() {
        let graph = WaitGraph::default();
        graph.begin(ask("a", "b", false, false)).unwrap();
        graph.begin(ask("b", "a", false, false)).unwrap();
        assert!(graph.begin(ask("a", "a", false, false)).is_ok());
        assert!(
            graph.begin(ask("b", "a", false, true)).is_ok(),
            "b goes on answering a, whose handler then ends"
        );
        assert!(
            graph.begin(ask("b", "a", true, true)).is_err(),
            "it needs a for itself, whose handler waits for b, which it holds"
        );
    }

    #[test]
    fn an_ask_that_ended_is_forgotten() {
        let graph = WaitGraph::default();
        let number = graph.begin(ask("a", "b", true, true)).unwrap();
        graph.end(&id("a"), number);
        assert!(graph.begin(ask("b", "a", true, true)).is_ok());
    }

    #[test]
    fn a_pool_is_stuck_only_when_all_of_it_is() {
        let graph = WaitGraph::default();
        let pool = |instance| Asking {
            instance,
            instances: 2,
            ..ask("pool", "b", true, true)
        };
        graph.begin(pool(0)).unwrap();
        assert!(
            graph.begin(ask("b", "pool", true, true)).is_ok(),
            "the other instance is free"
        );
        let graph = WaitGraph::default();
        graph.begin(pool(0)).unwrap();
        graph.begin(pool(1)).unwrap();
        assert!(graph.begin(ask("b", "pool", true, true)).is_err());
    }
}

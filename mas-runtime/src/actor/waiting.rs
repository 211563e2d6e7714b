//! Who waits for whom: an ask that would close a circle of waiting agents fails at once instead of timing out.
//!
//! A handler that waits holds its agent only so far as its receiver says: while a `&mut self` handler waits, nothing gets
//! through to its instance; while a `&self` handler waits, other `&self` handlers do, and only `&mut self` ones are held
//! off. An agent with several instances is stuck when all of them are.

use std::collections::{BTreeMap, VecDeque};
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
    /// Notes that an ask begins, and gives it a number for [`WaitGraph::end`]. Its work is linear in the asks that wait.
    ///
    /// # Errors
    /// The circle, from the asker back to it, when the ask would close one. Nothing is noted then.
    pub(crate) fn begin(&self, asking: Asking) -> Result<u64, Vec<AgentId>> {
        let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = edges.circle(&asking) {
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
    /// The circle that an ask would close, from the asker back to it.
    fn circle(&self, asking: &Asking) -> Option<Vec<AgentId>> {
        if asking.target != asking.asker && !self.by_asker.contains_key(&asking.target) {
            return None;
        }
        let mut search = Search {
            edges: self,
            origin: asking,
            stops: Vec::new(),
            numbers: BTreeMap::new(),
        };
        search.explore();
        search.free();
        search.way_back()
    }
}

/// Whom an ask would wait for, directly or through others, and which of them get on without its asker.
struct Search<'a> {
    edges: &'a Edges,
    /// The ask that is about to begin.
    origin: &'a Asking,
    /// The first is the target of the ask.
    stops: Vec<Stop<'a>>,
    numbers: BTreeMap<(&'a AgentId, bool), usize>,
}

/// A message to an agent, for a handler that needs its instance for itself or not.
struct Stop<'a> {
    agent: &'a AgentId,
    needs: bool,
    /// For each instance, how many asks keep it from handling the message.
    holds: Vec<usize>,
    /// Which instances of which stops wait for this one.
    waiters: Vec<(usize, usize)>,
    /// Whether some instance will handle it, whatever becomes of the ask.
    free: bool,
}

impl<'a> Search<'a> {
    /// Finds all that the target waits for, each once.
    fn explore(&mut self) {
        self.number(&self.origin.target, self.origin.needs);
        let mut at = 0;
        while at < self.stops.len() {
            for edge in self.waits(at) {
                let target = self.number(&edge.target, edge.needs);
                let instance = edge.instance as usize;
                if let Some(holds) = self.stops[at].holds.get_mut(instance) {
                    *holds += 1;
                    self.stops[target].waiters.push((at, instance));
                }
            }
            at += 1;
        }
    }

    /// Marks what gets on: where some instance waits for nobody, or only for those that get on.
    fn free(&mut self) {
        let mut freed = Vec::new();
        for (at, stop) in self.stops.iter_mut().enumerate() {
            stop.free = stop.holds.is_empty() || stop.holds.contains(&0);
            if stop.free {
                freed.push(at);
            }
        }
        while let Some(at) = freed.pop() {
            for (waiter, instance) in std::mem::take(&mut self.stops[at].waiters) {
                let stop = &mut self.stops[waiter];
                stop.holds[instance] -= 1;
                if stop.holds[instance] == 0 && !stop.free {
                    stop.free = true;
                    freed.push(waiter);
                }
            }
        }
    }

    /// The shortest way from the asker back to it, through those that do not get on.
    fn way_back(&self) -> Option<Vec<AgentId>> {
        let mut from = vec![None; self.stops.len()];
        let mut seen = vec![false; self.stops.len()];
        let mut next = VecDeque::from_iter((!self.stops[0].free).then_some(0));
        while let Some(at) = next.pop_front() {
            if *self.stops[at].agent == self.origin.asker {
                let steps = std::iter::successors(Some(at), |at| from[*at]);
                let mut path: Vec<_> = steps.map(|at| self.stops[at].agent.clone()).collect();
                path.push(self.origin.asker.clone());
                path.reverse();
                return Some(path);
            }
            for edge in self.waits(at) {
                let to = self.numbers[&(&edge.target, edge.needs)];
                if !self.stops[to].free && to != 0 && !std::mem::replace(&mut seen[to], true) {
                    from[to] = Some(at);
                    next.push_back(to);
                }
            }
        }
        None
    }

    /// The asks that hold off a message.
    fn waits(&self, at: usize) -> impl Iterator<Item = &'a Asking> + use<'a> {
        let Stop { agent, needs, .. } = self.stops[at];
        let own = self.edges.by_asker.get(agent).into_iter().flatten();
        own.map(|edge| &edge.asking)
            .filter(move |edge| edge.holds || needs)
    }

    /// The number of a stop, which is made when it is first met.
    fn number(&mut self, agent: &'a AgentId, needs: bool) -> usize {
        if let Some(number) = self.numbers.get(&(agent, needs)) {
            return *number;
        }
        let is_asker = *agent == self.origin.asker;
        let own = self.edges.by_asker.get(agent).and_then(|own| own.first());
        let instances = match own {
            Some(edge) => edge.asking.instances,
            None if is_asker => self.origin.instances,
            None => 0,
        };
        let mut holds = vec![0; instances as usize];
        if is_asker
            && (self.origin.holds || needs)
            && let Some(own) = holds.get_mut(self.origin.instance as usize)
        {
            *own += 1;
        }
        let number = self.stops.len();
        self.numbers.insert((agent, needs), number);
        self.stops.push(Stop {
            agent,
            needs,
            holds,
            waiters: Vec::new(),
            free: false,
        });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// Layers of two agents, each of which asks both of the next layer: they all ask side by side handlers.
    fn layers(graph: &WaitGraph, count: usize) {
        for layer in 1..count {
            for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (from, to) = (format!("{}-{from}", layer - 1), format!("{layer}-{to}"));
                graph.begin(ask(&from, &to, true, false)).unwrap();
            }
        }
    }

    #[test]
    fn a_wide_graph_is_searched_once() {
        let graph = WaitGraph::default();
        layers(&graph, 30);
        assert!(graph.begin(ask("outside", "0-0", true, true)).is_ok());
        let path = graph.begin(ask("29-1", "0-0", true, true)).unwrap_err();
        assert_eq!(path.len(), 31, "{path:?}");
        assert_eq!((&path[0], &path[30]), (&id("29-1"), &id("29-1")));
        assert_eq!(path[1], id("0-0"));
        assert!(graph.begin(ask("29-1", "elsewhere", true, true)).is_ok());
    }

    #[test]
    fn a_pool_whose_instances_wait_for_each_others_askers_is_stuck() {
        let graph = WaitGraph::default();
        let pool = |instance, target| Asking {
            instance,
            instances: 2,
            ..ask("pool", target, true, true)
        };
        graph.begin(ask("b", "pool", true, true)).unwrap();
        graph.begin(pool(0, "b")).unwrap();
        let path = graph.begin(pool(1, "b")).unwrap_err();
        assert_eq!(path, [id("pool"), id("b"), id("pool")]);
        assert!(graph.begin(pool(1, "c")).is_ok());
    }

    #[test]
    fn an_instance_that_its_agent_has_no_more_is_passed_over() {
        let graph = WaitGraph::default();
        let late = Asking {
            instance: 3,
            ..ask("a", "b", true, true)
        };
        graph.begin(late).unwrap();
        assert!(graph.begin(ask("b", "a", true, true)).is_ok());
    }

    /// Whether an ask would close a circle, slowly: those get on of whom an instance waits for nobody, or only for those
    /// that get on.
    fn is_circle(noted: &[Asking], new: &Asking) -> bool {
        let all = || noted.iter().chain([new]);
        let mut on: Vec<(AgentId, bool)> = Vec::new();
        loop {
            let gets_on = |agent: &AgentId, needs: bool| {
                let instances = all()
                    .find(|edge| edge.asker == *agent)
                    .map_or(1, |edge| edge.instances);
                (0..instances).any(|instance| {
                    let own = all()
                        .filter(|edge| edge.asker == *agent && edge.instance == instance)
                        .filter(|edge| edge.holds || needs);
                    own.clone()
                        .all(|edge| on.contains(&(edge.target.clone(), edge.needs)))
                })
            };
            let more: Vec<_> = all()
                .map(|edge| (edge.target.clone(), edge.needs))
                .filter(|(agent, needs)| gets_on(agent, *needs))
                .filter(|stop| !on.contains(stop))
                .collect();
            if more.is_empty() {
                return !on.contains(&(new.target.clone(), new.needs));
            }
            on.extend(more);
        }
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_a_slow_one(
            asks in prop::collection::vec((0..5_u8, 0..2_u32, 0..5_u8, any::<bool>(), any::<bool>()), 1..20),
        ) {
            let graph = WaitGraph::default();
            let mut noted = Vec::new();
            for (asker, instance, target, holds, needs) in asks {
                // The agents with even numbers are pools of two.
                let instances = 2 - u32::from(asker % 2);
                let asking = Asking {
                    instance: instance % instances,
                    instances,
                    ..ask(&format!("n{asker}"), &format!("n{target}"), holds, needs)
                };
                let begun = graph.begin(asking.clone());
                prop_assert_eq!(begun.is_err(), is_circle(&noted, &asking), "{:?} {:?}", noted, asking);
                match begun {
                    Ok(_) => noted.push(asking),
                    Err(path) => {
                        prop_assert_eq!(path.first(), Some(&asking.asker));
                        prop_assert_eq!(path.last(), Some(&asking.asker));
                        prop_assert_eq!(&path[1], &asking.target);
                    }
                }
            }
        }
    }
}

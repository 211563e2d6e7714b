//! Who wants to hear of whose end.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::RequestError;
use crate::model::AgentId;
use crate::model::limits::WATCHES_MAX;

/// The watches of one runtime, from both sides.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_watched: BTreeMap<AgentId, BTreeSet<AgentId>>,
    by_watcher: BTreeMap<AgentId, BTreeSet<AgentId>>,
}

impl Watches {
    /// Adds a watch; adding it again does nothing.
    ///
    /// # Errors
    /// When the watcher has too many.
    pub(super) fn add(&mut self, watcher: &AgentId, watched: &AgentId) -> Result<(), RequestError> {
        let own = self.by_watcher.entry(watcher.clone()).or_default();
        if own.len() >= WATCHES_MAX && !own.contains(watched) {
            return Err(RequestError::TooManyWatches {
                agent: watcher.clone(),
                watches_max: WATCHES_MAX,
            });
        }
        own.insert(watched.clone());
        let watchers = self.by_watched.entry(watched.clone()).or_default();
        watchers.insert(watcher.clone());
        Ok(())
    }

    /// Takes one watch out. False when there is none.
    pub(super) fn take(&mut self, watcher: &AgentId, watched: &AgentId) -> bool {
        remove(&mut self.by_watcher, watcher, watched);
        remove(&mut self.by_watched, watched, watcher)
    }

    /// An agent has ended: takes its own watches out, and gives those who watched it.
    pub(super) fn ended(&mut self, agent: &AgentId) -> BTreeSet<AgentId> {
        for watched in self.by_watcher.remove(agent).unwrap_or_default() {
            remove(&mut self.by_watched, &watched, agent);
        }
        let watchers = self.by_watched.remove(agent).unwrap_or_default();
        for watcher in &watchers {
            remove(&mut self.by_watcher, watcher, agent);
        }
        watchers
    }
}

/// Takes one entry out, and the set that it leaves empty.
fn remove(sets: &mut BTreeMap<AgentId, BTreeSet<AgentId>>, of: &AgentId, entry: &AgentId) -> bool {
    let Some(own) = sets.get_mut(of) else {
        return false;
    };
    let had = own.remove(entry);
    if own.is_empty() {
        sets.remove(of);
    }
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn is_empty(watches: &Watches) -> bool {
        watches.by_watched.is_empty() && watches.by_watcher.is_empty()
    }

    #[test]
    fn a_watch_that_is_taken_out_leaves_those_of_others() {
        let mut watches = Watches::default();
        watches.add(&id("one"), &id("watched")).unwrap();
        watches.add(&id("other"), &id("watched")).unwrap();
        assert!(watches.take(&id("one"), &id("watched")));
        assert!(!watches.take(&id("one"), &id("watched")), "it is told once");
        assert!(watches.take(&id("other"), &id("watched")));
        assert!(is_empty(&watches));
    }

    #[test]
    fn an_agent_that_ended_watches_nobody_and_is_watched_by_nobody() {
        let mut watches = Watches::default();
        watches.add(&id("a"), &id("b")).unwrap();
        watches.add(&id("b"), &id("c")).unwrap();
        assert_eq!(watches.ended(&id("b")), BTreeSet::from([id("a")]));
        assert!(is_empty(&watches));
    }

    #[test]
    fn one_watch_more_than_the_limit_is_refused() {
        let mut watches = Watches::default();
        for number in 0..WATCHES_MAX {
            watches.add(&id("a"), &id(&format!("n{number}"))).unwrap();
        }
        assert!(watches.add(&id("a"), &id("n0")).is_ok(), "it has that one");
        let refused = watches.add(&id("a"), &id("more")).unwrap_err();
        let agent = id("a");
        let watches_max = WATCHES_MAX;
        assert_eq!(refused, RequestError::TooManyWatches { agent, watches_max });
        assert!(watches.add(&id("b"), &id("more")).is_ok());
    }
}

//! How full the inboxes of durable agents are that do not run now.
//!
//! An engine may walk a whole inbox to count it. So it is asked once, and what is appended meanwhile is added here. There are
//! as many counts as durable agents that the engine knows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::AgentId;
use crate::model::limits::INBOX_ENTRIES_MAX;

/// The counts of one runtime.
#[derive(Debug, Default)]
pub(super) struct Unattended {
    entries: Mutex<BTreeMap<AgentId, usize>>,
}

impl Unattended {
    /// Takes room for one entry: whether there was any. `None` when the inbox has not been counted.
    pub(super) fn take_room(&self, agent: &AgentId) -> Option<bool> {
        let mut counts = self.counts();
        let entries = counts.get_mut(agent)?;
        let room = *entries < INBOX_ENTRIES_MAX;
        *entries += usize::from(room);
        Some(room)
    }

    /// The inbox was counted. A count that somebody else has brought meanwhile stays: more has been added to it.
    pub(super) fn counted(&self, agent: &AgentId, entries: u64) {
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        self.counts().entry(agent.clone()).or_insert(entries);
    }

    /// The entry that room was taken for was not stored.
    pub(super) fn give_room_back(&self, agent: &AgentId) {
        if let Some(entries) = self.counts().get_mut(agent) {
            *entries = entries.saturating_sub(1);
        }
    }

    /// The agent is about to run, or has run: its inbox moves in other ways.
    pub(super) fn forget(&self, agent: &AgentId) {
        self.counts().remove(agent);
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<AgentId, usize>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_that_was_counted_once_is_kept_count_of() {
        let unattended = Unattended::default();
        let agent = AgentId::new("agent").unwrap();
        assert_eq!(unattended.take_room(&agent), None);
        unattended.counted(&agent, INBOX_ENTRIES_MAX as u64 - 1);
        assert_eq!(unattended.take_room(&agent), Some(true));
        assert_eq!(unattended.take_room(&agent), Some(false));
        unattended.counted(&agent, 0);
        assert_eq!(unattended.take_room(&agent), Some(false), "it came later");
        unattended.give_room_back(&agent);
        assert_eq!(unattended.take_room(&agent), Some(true));
        unattended.forget(&agent);
        assert_eq!(unattended.take_room(&agent), None);
    }
}

//! Which entries of an inbox are on their way into the engine, so that each takes one place and gives one back.
//!
//! A refill may find an entry before its sender hears that it is stored, and a sender may hear of an error although its
//! entry is stored. Both are known here by the id of their message.

use std::collections::BTreeMap;

use crate::model::MessageId;

/// Entries on their way into the engine, and those that it could not answer for. Both hold a place in the inbox, so there
/// are never more of them than the inbox has places.
#[derive(Default)]
pub(super) struct Flights {
    on_the_way: BTreeMap<MessageId, Flight>,
    doubts: Doubts,
    /// The doubts that the engine is being read for.
    looked_for: Doubts,
}

/// The entries of one message: nearly always one.
#[derive(Default)]
struct Flight {
    count: usize,
    /// Those that were found in the engine meanwhile, by their sequence numbers.
    found: Vec<u64>,
}

/// Entries of which nobody knows whether they are stored: how many of each message.
type Doubts = BTreeMap<MessageId, usize>;

impl Flights {
    /// An entry is given to the engine.
    pub(super) fn set_out(&mut self, id: MessageId) {
        self.on_the_way.entry(id).or_default().count += 1;
    }

    /// An entry was found in the engine, and is loaded.
    pub(super) fn found(&mut self, id: MessageId, seq: u64) {
        if let Some(flight) = self.on_the_way.get_mut(&id) {
            flight.found.push(seq);
        }
        self.clear_up(id);
    }

    /// An entry was found in the engine: if it was in doubt, it is no more.
    pub(super) fn clear_up(&mut self, id: MessageId) {
        if !take_one(&mut self.looked_for, id) {
            take_one(&mut self.doubts, id);
        }
    }

    /// The engine has stored an entry. True when it was found before.
    pub(super) fn arrived(&mut self, id: MessageId, seq: u64) -> bool {
        let found = self.on_the_way.get(&id);
        let found = found.is_some_and(|flight| flight.found.contains(&seq));
        self.ended(id);
        found
    }

    /// The engine could not answer for an entry: it keeps its place until it is found, or known not to be there.
    pub(super) fn doubt(&mut self, id: MessageId) {
        let flight = self.on_the_way.get_mut(&id);
        let found = flight.and_then(|flight| flight.found.pop());
        self.ended(id);
        if found.is_none() {
            *self.doubts.entry(id).or_default() += 1;
        }
    }

    /// An entry is not on its way any more.
    pub(super) fn ended(&mut self, id: MessageId) {
        if let Some(flight) = self.on_the_way.get_mut(&id) {
            flight.count -= 1;
            if flight.count == 0 {
                self.on_the_way.remove(&id);
            }
        }
    }

    pub(super) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// The engine is read for what is in doubt now.
    pub(super) fn look(&mut self) {
        for (id, count) in std::mem::take(&mut self.doubts) {
            *self.looked_for.entry(id).or_default() += count;
        }
    }

    /// All of the engine was read. Gives how many entries were not there.
    pub(super) fn looked(&mut self) -> usize {
        std::mem::take(&mut self.looked_for).into_values().sum()
    }

    /// The engine could not be read: what was in doubt still is.
    pub(super) fn look_again(&mut self) {
        for (id, count) in std::mem::take(&mut self.looked_for) {
            *self.doubts.entry(id).or_default() += count;
        }
    }

    /// All that is stored is known.
    pub(super) fn forget_doubts(&mut self) {
        self.doubts.clear();
        self.looked_for.clear();
    }
}

fn take_one(doubts: &mut Doubts, id: MessageId) -> bool {
    let Some(count) = doubts.get_mut(&id) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        doubts.remove(&id);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Entropy, SystemClock};

    fn id() -> MessageId {
        MessageId::new(SystemClock::new().unix(), &Entropy::seeded(1))
    }

    #[test]
    fn an_entry_is_found_before_it_arrives_or_not() {
        let (mut flights, id) = (Flights::default(), id());
        flights.set_out(id);
        flights.found(id, 7);
        assert!(flights.arrived(id, 7));
        flights.set_out(id);
        assert!(!flights.arrived(id, 7), "that was another one");
        flights.found(id, 8);
        assert!(flights.on_the_way.is_empty(), "it had arrived");
    }

    #[test]
    fn two_entries_of_one_message_are_told_apart() {
        let (mut flights, id) = (Flights::default(), id());
        flights.set_out(id);
        flights.set_out(id);
        flights.found(id, 2);
        assert!(!flights.arrived(id, 1));
        assert!(flights.arrived(id, 2));
        assert!(flights.on_the_way.is_empty());
    }

    #[test]
    fn an_entry_in_doubt_is_stored_when_it_is_found_and_else_is_not() {
        let (mut flights, id) = (Flights::default(), id());
        for _ in 0..3 {
            flights.set_out(id);
        }
        flights.found(id, 1);
        for _ in 0..3 {
            flights.doubt(id);
        }
        assert!(flights.on_the_way.is_empty());
        flights.look();
        assert!(!flights.has_doubts());
        flights.found(id, 2);
        assert_eq!(flights.looked(), 1, "three, of which two were found");
    }

    #[test]
    fn what_was_looked_for_in_vain_is_looked_for_again() {
        let (mut flights, id) = (Flights::default(), id());
        flights.set_out(id);
        flights.doubt(id);
        flights.look();
        flights.look_again();
        assert!(flights.has_doubts());
        flights.look();
        flights.set_out(id);
        flights.doubt(id);
        assert_eq!(flights.looked(), 1);
        assert!(flights.has_doubts(), "it came later");
    }
}

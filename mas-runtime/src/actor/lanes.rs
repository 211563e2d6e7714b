//! The lanes of a mailbox: one queue a priority, served by weighted round robin.

use std::collections::VecDeque;

use crate::model::Priority;

const LANES: usize = Priority::ALL.len();

/// One queue a priority. Nothing here is bounded: the mailbox around it counts.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: [VecDeque<T>; LANES],
    /// What each lane may still give in this round.
    credit: [u32; LANES],
    len: usize,
}

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: [const { VecDeque::new() }; LANES],
            credit: Priority::ALL.map(Priority::weight),
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, priority: Priority, item: T) {
        self.lanes[priority.lane()].push_back(item);
        self.len += 1;
    }

    pub(crate) fn push_front(&mut self, priority: Priority, item: T) {
        self.lanes[priority.lane()].push_front(item);
        self.len += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn lane_len(&self, priority: Priority) -> usize {
        self.lanes[priority.lane()].len()
    }

    /// The oldest of one lane.
    pub(crate) fn pop_lane(&mut self, priority: Priority) -> Option<T> {
        let item = self.lanes[priority.lane()].pop_front();
        self.len -= usize::from(item.is_some());
        item
    }

    /// The next by weight: while all lanes wait, a round is 10 critical, 5 high, 2 normal and 1 low; bulk goes when
    /// nothing else waits.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let lane = self.next_lane();
        self.credit[lane] = self.credit[lane].saturating_sub(1);
        self.len -= 1;
        self.lanes[lane].pop_front()
    }

    /// A lane that holds something: with credit in this round if there is one, else in a new round.
    fn next_lane(&mut self) -> usize {
        let bulk = Priority::Bulk.lane();
        let waiting = |lanes: &[VecDeque<T>; LANES], lane: &usize| !lanes[*lane].is_empty();
        if let Some(lane) =
            (0..bulk).find(|lane| waiting(&self.lanes, lane) && self.credit[*lane] > 0)
        {
            return lane;
        }
        self.credit = Priority::ALL.map(Priority::weight);
        (0..bulk)
            .find(|lane| waiting(&self.lanes, lane))
            .unwrap_or(bulk)
    }

    /// Takes everything, most urgent lane first.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        self.lanes.iter_mut().flat_map(std::mem::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_round_follows_the_weights_and_bulk_waits() {
        let mut lanes = Lanes::new();
        for priority in Priority::ALL {
            for _ in 0..40 {
                lanes.push(priority, priority);
            }
        }
        let round: Vec<_> = (0..18).map(|_| lanes.pop().unwrap()).collect();
        for (priority, count) in Priority::ALL.into_iter().zip([10, 5, 2, 1, 0]) {
            assert_eq!(
                round.iter().filter(|p| **p == priority).count(),
                count,
                "{priority:?}"
            );
        }
        let rest: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(rest.len(), 200 - 18);
        assert!(rest[rest.len() - 40..].iter().all(|p| *p == Priority::Bulk));
    }

    proptest! {
        #[test]
        fn each_lane_keeps_its_order_and_nothing_is_lost(
            pushes in prop::collection::vec((0u8..5, any::<bool>()), 0..300)
        ) {
            let mut lanes = Lanes::new();
            let mut popped = Vec::new();
            for (number, (lane, pop)) in pushes.iter().enumerate() {
                let priority = Priority::from_lane(*lane).unwrap();
                lanes.push(priority, (priority, number));
                if *pop {
                    popped.extend(lanes.pop());
                }
            }
            popped.extend(std::iter::from_fn(|| lanes.pop()));
            prop_assert_eq!(popped.len(), pushes.len());
            prop_assert_eq!(lanes.len(), 0);
            for priority in Priority::ALL {
                let own: Vec<_> = popped.iter().filter(|(p, _)| *p == priority).collect();
                prop_assert!(own.is_sorted());
            }
        }
    }
}

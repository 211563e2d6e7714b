//! How urgent an envelope is.

use serde::{Deserialize, Serialize};

/// How urgent an envelope is. Each priority has a lane of its own in every mailbox.
///
/// Lanes are served by weighted round robin: 10 critical, 5 high, 2 normal and 1 low envelope a round while all of
/// them wait; bulk only when nothing else does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::exhaustive_enums,
    reason = "five lanes are the design, and their order is on disk"
)]
pub enum Priority {
    /// Must pass whatever else waits.
    Critical,
    /// Before ordinary work.
    High,
    /// Ordinary work.
    #[default]
    Normal,
    /// After ordinary work.
    Low,
    /// When nothing else waits.
    Bulk,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Critical,
        Self::High,
        Self::Normal,
        Self::Low,
        Self::Bulk,
    ];

    /// Envelopes of this lane in one round of the mailbox; 0 for bulk, which has no share of a round.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Critical => 10,
            Self::High => 5,
            Self::Normal => 2,
            Self::Low => 1,
            Self::Bulk => 0,
        }
    }

    /// The lane's number, 0 for critical to 4 for bulk: also its byte at rest.
    pub const fn lane(self) -> usize {
        self as usize
    }

    /// The priority of a lane's number.
    pub const fn from_lane(lane: u8) -> Option<Self> {
        if (lane as usize) < Self::ALL.len() {
            Some(Self::ALL[lane as usize])
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_count_from_the_most_urgent() {
        for (number, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority.lane(), number);
            assert_eq!(Priority::from_lane(number as u8), Some(priority));
        }
        assert_eq!(Priority::from_lane(5), None);
    }
}

//! Virtual time: tokio's paused clock, and a wall clock that begins at a fixed date.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Clock, Moment};

/// 2026-01-01 00:00:00 UTC: where the wall clock of every kit begins, so that two runs make the same ids.
const WALL_CLOCK_START: Duration = Duration::from_secs(1_767_225_600);

/// tokio's clock, which stands still while somebody works and jumps when everybody waits.
#[derive(Debug)]
pub(super) struct VirtualClock {
    origin: Instant,
}

impl VirtualClock {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        Moment::from_origin(self.origin.elapsed())
    }

    fn unix(&self) -> Duration {
        WALL_CLOCK_START + self.origin.elapsed()
    }
}

//! How long to wait before trying again.

use std::time::Duration;

use crate::model::Entropy;

/// Exponential backoff with jitter: each wait doubles the one before, less a random part of up to a quarter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

/// Between attempts of a durable message: four waits of at most 1.5 s together, well under an ask's 60 s.
pub(crate) const REDELIVERY: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_secs(10),
};

/// Between restarts of an instance, after the first, which comes at once.
pub(crate) const RESTART: Backoff = Backoff {
    first: Duration::from_millis(10),
    most: Duration::from_secs(10),
};

impl Backoff {
    /// No wait is longer.
    pub(crate) const fn longest(self) -> Duration {
        self.most
    }

    /// The wait before try number `tries` + 1, from 1 on.
    pub(crate) fn wait(self, tries: u32, entropy: &Entropy) -> Duration {
        let doublings = tries.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        // Whole milliseconds, the grain of the timers: a finer wait would be rounded by when the process happened to start.
        let quarter = u64::try_from(full.as_millis() / 4).unwrap_or(u64::MAX);
        full - Duration::from_millis(entropy.below(quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_with_a_quarter_of_jitter() {
        let entropy = Entropy::seeded(1);
        for tries in 1..40 {
            let full = REDELIVERY
                .first
                .saturating_mul(1 << (tries - 1).min(20))
                .min(REDELIVERY.most);
            let wait = REDELIVERY.wait(tries, &entropy);
            assert!(wait <= full && wait >= full * 3 / 4, "{tries}: {wait:?}");
        }
    }

    #[test]
    fn all_attempts_of_a_message_fit_well_into_an_ask() {
        let entropy = Entropy::seeded(1);
        let attempts = crate::model::limits::ATTEMPTS_DEFAULT;
        let sum: Duration = (1..attempts).map(|n| REDELIVERY.wait(n, &entropy)).sum();
        assert!(sum < crate::model::limits::ASK_TIMEOUT / 10, "{sum:?}");
    }
}

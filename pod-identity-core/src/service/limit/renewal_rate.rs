//! The rate of renewals.

use std::time::Duration;

/// A constant rate. It allows the renewals of one second, and one more, at once, so that a caller that asks once a
/// second loses none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RenewalRate {
    saved: f64,
    at: Duration,
}

impl RenewalRate {
    /// Takes a permit, if there is one.
    pub(super) fn take(&mut self, per_second: f64, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.saved = (self.saved + passed * per_second).min(per_second + 1.0);
        self.at = self.at.max(now);
        let there = self.saved >= 1.0;
        if there {
            self.saved -= 1.0;
        }
        there
    }
}

/// Returns the renewals per second: `at_least`, or the rate that renews all entries within a quarter of their
/// lifetime. A quarter is half of the time that is left when they are due.
pub(super) fn renewals_per_second(at_least: f64, entries: usize, lifetime: Duration) -> f64 {
    let half_lifetime = lifetime.as_secs_f64() / 2.0;
    #[allow(clippy::cast_precision_loss)]
    let needed = 2.0 * entries as f64 / half_lifetime;
    if needed.is_finite() { at_least.max(needed) } else { at_least }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_per_second_gets_the_full_rate_and_no_more() {
        for per_second in [0.2, 1.0, 3.0, 8.9] {
            let mut rate = RenewalRate::default();
            let taken: u32 = (1..=100)
                .map(|second| {
                    (0..1000).filter(|_| rate.take(per_second, Duration::from_secs(second))).count() as u32
                })
                .sum();
            let expected = 100.0 * per_second;
            assert!((expected - 1.0..=expected).contains(&f64::from(taken)), "{per_second}: {taken}");
        }
    }

    #[test]
    fn unused_renewals_do_not_accumulate() {
        let mut rate = RenewalRate::default();
        let hour = Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| rate.take(3.0, hour)).count(), 4);
        assert!(!rate.take(3.0, Duration::ZERO), "an earlier time gives no renewal");
    }

    #[test]
    fn rate_is_high_enough_for_the_entries() {
        let lifetime = Duration::from_secs(6 * 3600);
        assert_eq!(renewals_per_second(3.0, 250, lifetime), 3.0);
        let busy = renewals_per_second(3.0, 2000, Duration::from_secs(900));
        assert!((8.8..8.9).contains(&busy), "{busy}");
        assert_eq!(renewals_per_second(3.0, 0, Duration::ZERO), 3.0);
        assert_eq!(renewals_per_second(3.0, 5, Duration::ZERO), 3.0);
    }
}

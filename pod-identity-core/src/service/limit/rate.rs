//! The rate limit of calls after the upstream has throttled.

use std::time::Duration;

use crate::backoff::LONGEST_RETRY_AFTER;

/// Maximum number of calls per second. There is no limit until the upstream throttles.
///
/// Then the limit is half of the calls that began in the last second, at least [`FLOOR`](Self::FLOOR). It grows by one
/// each second. At [`CEILING`](Self::CEILING) it ends. As in TCP, additive increase and multiplicative decrease share
/// the upstream fairly among nodes without coordination (Chiu and Jain, 1989).
///
/// A burst halves the rate once: the response to a call that began before the last halving is ignored.
#[derive(Debug, Clone, Default)]
pub(super) struct AdaptiveRate {
    limit: Option<Limit>,
    /// Time of the last halving.
    halved_at: Option<Duration>,
    /// The upstream's `Retry-After`.
    not_before: Duration,
    recent: Recent,
}

/// The time at which a call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now. The call is counted.
    Now,
    /// Not before this time of the monotonic clock. Check again then.
    At(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Calls per second at the time `since`.
    rate: f64,
    since: Duration,
    /// Time at which the next call may begin.
    next: Duration,
}

impl AdaptiveRate {
    /// Minimum rate, in calls per second: the rate at which AWS's agent renews.
    pub(super) const FLOOR: f64 = 3.0;
    /// The rate at which the limit ends: as many calls per second as may be concurrent.
    pub(super) const CEILING: f64 = 64.0;

    /// Returns the time at which a call may begin.
    pub(super) fn turn(&mut self, now: Duration) -> Turn {
        if now < self.not_before {
            return Turn::At(self.not_before);
        }
        let rate = self.limit(now);
        self.limit = self.limit.filter(|_| rate.is_some());
        if let (Some(limit), Some(rate)) = (&mut self.limit, rate) {
            if now < limit.next {
                return Turn::At(limit.next);
            }
            limit.next = now + Duration::from_secs_f64(1.0 / rate);
        }
        self.recent.count(now);
        Turn::Now
    }

    /// Halves the rate, because the upstream throttled a call that began at `began`.
    pub(super) fn throttled(&mut self, began: Duration, retry_after: Option<Duration>, now: Duration) {
        let pause = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.not_before = self.not_before.max(now + pause);
        let rate = self.limit(now).unwrap_or_else(|| self.recent.in_a_second(now));
        // The limit grows from the time of the next call, because a pause shows nothing about the upstream.
        let since = self.not_before;
        if self.halved_at.is_some_and(|halved_at| began <= halved_at) {
            self.limit = self.limit.map(|limit| Limit { rate, since, ..limit });
            return;
        }
        let rate = (rate.min(Self::CEILING) / 2.0).max(Self::FLOOR);
        self.limit = Some(Limit { rate, since, next: now + Duration::from_secs_f64(1.0 / rate) });
        self.halved_at = Some(now);
    }

    /// Returns the rest of the pause that the upstream requested.
    pub(super) fn pause(&self, now: Duration) -> Option<Duration> {
        self.not_before.checked_sub(now).filter(|pause| !pause.is_zero())
    }

    /// Returns the maximum calls per second, or `None` without a limit.
    pub(super) fn limit(&self, now: Duration) -> Option<f64> {
        let limit = self.limit?;
        let rate = limit.rate + now.saturating_sub(limit.since).as_secs_f64();
        (rate < Self::CEILING).then_some(rate)
    }
}

/// The numbers of calls that began in this second and in the second before.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    second: Duration,
    running: u32,
    before: u32,
}

impl Recent {
    fn count(&mut self, now: Duration) {
        *self = self.at(now);
        self.running += 1;
    }

    fn in_a_second(&self, now: Duration) -> f64 {
        let recent = self.at(now);
        f64::from(recent.running.max(recent.before))
    }

    fn at(self, now: Duration) -> Self {
        match now.saturating_sub(self.second).as_secs() {
            0 => self,
            passed => Self {
                second: self.second + Duration::from_secs(passed),
                running: 0,
                before: if passed == 1 { self.running } else { 0 },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Returns the number of calls that begin in the second from `from` on, for clients that always try again.
    fn begun(rate: &mut AdaptiveRate, from: Duration) -> u32 {
        (0..1000).filter(|after| rate.turn(from + ms(*after)) == Turn::Now).count() as u32
    }

    #[test]
    fn has_no_limit_until_the_upstream_throttles() {
        let mut rate = AdaptiveRate::default();
        assert!((0..10_000).all(|_| rate.turn(ms(5)) == Turn::Now));
        assert_eq!(rate.limit(ms(5)), None);
    }

    #[test]
    fn burst_halves_once_and_later_calls_halve_again() {
        let mut rate = AdaptiveRate::default();
        let turns = |rate: &mut AdaptiveRate, at| (0..40).all(|_| rate.turn(at) == Turn::Now);
        assert!(turns(&mut rate, ms(1000)));
        for answer in 0..40 {
            rate.throttled(ms(1000), None, ms(1050 + answer));
        }
        assert!((20.0..20.1).contains(&rate.limit(ms(1090)).unwrap()), "{rate:?}");
        let Turn::At(next) = rate.turn(ms(1090)) else { panic!("{rate:?}") };
        assert_eq!(rate.turn(next), Turn::Now);
        rate.throttled(next, None, next + ms(50));
        assert!((10.0..10.1).contains(&rate.limit(next + ms(50)).unwrap()), "{rate:?}");
    }

    #[test]
    fn limit_grows_by_one_each_second_until_it_ends() {
        let mut rate = AdaptiveRate::default();
        assert_eq!(rate.turn(ms(0)), Turn::Now);
        rate.throttled(ms(0), None, ms(0));
        assert_eq!(rate.limit(ms(0)), Some(AdaptiveRate::FLOOR));
        for second in 0..60 {
            let in_a_second = begun(&mut rate, ms(second * 1000));
            // Each pause is rounded up to the next millisecond of this test.
            let (fewest, most) = (2 + second * 9 / 10, 5 + second);
            assert!((fewest..=most).contains(&u64::from(in_a_second)), "second {second}: {in_a_second}");
        }
        assert_eq!(rate.limit(ms(61_000)), None);
        assert_eq!(begun(&mut rate, ms(61_000)), 1000);
    }

    #[test]
    fn waits_for_retry_after_and_does_not_grow_meanwhile() {
        let mut rate = AdaptiveRate::default();
        assert_eq!(rate.turn(ms(0)), Turn::Now);
        assert_eq!(rate.pause(ms(0)), None);
        rate.throttled(ms(0), Some(ms(20_000)), ms(50));
        assert_eq!(rate.turn(ms(51)), Turn::At(ms(20_050)));
        assert_eq!(rate.pause(ms(51)), Some(ms(19_999)));
        assert_eq!(rate.pause(ms(20_050)), None);
        assert_eq!(rate.turn(ms(20_049)), Turn::At(ms(20_050)));
        assert_eq!(rate.turn(ms(20_050)), Turn::Now);
        assert_eq!(rate.limit(ms(20_050)), Some(AdaptiveRate::FLOOR));
        // Another response of the same burst may request a longer pause, but not a shorter one.
        rate.throttled(ms(0), Some(ms(1000)), ms(20_060));
        rate.throttled(ms(0), Some(ms(500)), ms(20_061));
        assert_eq!(rate.turn(ms(20_062)), Turn::At(ms(21_060)));
    }

    #[test]
    fn retry_after_stops_calls_for_at_most_30_seconds() {
        let mut rate = AdaptiveRate::default();
        rate.throttled(ms(0), Some(Duration::MAX), ms(0));
        assert_eq!(rate.turn(ms(0)), Turn::At(ms(30_000)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pass(u64),
        Call,
        Throttled { began_before: u64, retry_after: Option<u64> },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u64..3000).prop_map(Step::Pass),
            Just(Step::Call),
            (0_u64..5000, prop::option::of(0_u64..100_000))
                .prop_map(|(began_before, retry_after)| Step::Throttled { began_before, retry_after }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn calls_go_on_at_the_floor_and_recover(steps in steps()) {
            let (mut rate, mut now, mut last) = (AdaptiveRate::default(), ms(10_000), None);
            for step in steps {
                match step {
                    Step::Pass(milliseconds) => now += ms(milliseconds),
                    Step::Call => {
                        let limit = rate.limit(now);
                        match (rate.turn(now), limit) {
                            (Turn::Now, Some(_)) => {
                                let least = Duration::from_secs_f64(1.0 / AdaptiveRate::CEILING);
                                let since = last.map(|last| now - last);
                                prop_assert!(since.is_none_or(|since| since >= least), "{since:?}");
                                last = Some(now);
                            }
                            (Turn::Now, None) => last = None,
                            (Turn::At(at), _) => {
                                let longest = LONGEST_RETRY_AFTER + ms(334);
                                prop_assert!(now < at && at <= now + longest, "{at:?} at {now:?}");
                            }
                        }
                    }
                    Step::Throttled { began_before, retry_after } => {
                        let began = now.saturating_sub(ms(began_before));
                        rate.throttled(began, retry_after.map(ms), now);
                        last = None;
                    }
                }
                let limit = rate.limit(now);
                let within = AdaptiveRate::FLOOR..AdaptiveRate::CEILING;
                prop_assert!(limit.is_none_or(|limit| within.contains(&limit)), "{limit:?}");
            }
            // From the floor, and after the longest pause.
            now += LONGEST_RETRY_AFTER + Duration::from_secs(61);
            prop_assert_eq!(rate.limit(now), None);
            prop_assert_eq!(rate.turn(now), Turn::Now);
        }
    }
}

//! Pauses between attempts.
//!
//! ```
//! use std::time::Duration;
//!
//! use pod_identity_core::backoff::Backoff;
//!
//! const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
//! // After the third failure in a row, with the longest jitter.
//! assert_eq!(PAUSES.full_jitter(3, 1.0), Duration::from_millis(400));
//! assert_eq!(PAUSES.full_jitter(9, 1.0), Duration::from_secs(1));
//! ```

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses that double with each failure in a row up to a maximum. Jitter keeps clients that failed together from
/// trying again together (AWS Architecture Blog, *Exponential Backoff And Jitter*).
///
/// The random number, from 0 to 1, is an argument as the time is. [`random_fraction`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Makes pauses of `first`, twice that, and so on up to `longest`, before jitter.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Returns the longest pause, before jitter.
    pub(crate) const fn longest(&self) -> Duration {
        self.longest
    }

    /// Returns a pause from zero to the full pause, for a few attempts within a deadline.
    pub fn full_jitter(&self, failures: u32, chance: f64) -> Duration {
        self.full(failures).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Returns the full pause, up to a quarter shorter or longer, for calls that must not repeat at once.
    pub fn around(&self, failures: u32, chance: f64) -> Duration {
        self.full(failures).mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// Returns the full pause after a number of failures in a row. Without a failure it is the first pause.
    fn full(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

/// Returns a random number from 0 to 1, to spread events in time. It is not for secrets: it comes from the hash keys
/// of the standard library, which need no system call.
pub fn random_fraction() -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let random = RandomState::new().hash_one(0_u8) as f64;
    random / u64::MAX as f64
}

/// Maximum `Retry-After`. A service that wants a longer pause gets one call after 30 s.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Parses a `Retry-After` header in seconds (RFC 9110, section 10.2.3), limited to 30 s. The date form is not
/// supported, because clocks may differ.
pub fn retry_after(header: &str) -> Option<Duration> {
    let seconds = header.trim();
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let pause = Duration::from_secs(seconds.parse().unwrap_or(u64::MAX));
    digits.then(|| pause.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSES: Backoff = Backoff::new(SECOND, Duration::from_secs(30));

    #[test]
    fn pauses_double_up_to_maximum() {
        let whole = |failures| PAUSES.full_jitter(failures, 1.0).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 40, u32::MAX].map(whole), [1, 1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(PAUSES.full_jitter(4, 0.0), Duration::ZERO);
        assert_eq!(PAUSES.full_jitter(4, 0.25), 2 * SECOND);
    }

    #[test]
    fn pause_is_never_short_for_calls_that_must_not_repeat_at_once() {
        assert_eq!(PAUSES.around(1, 0.0), Duration::from_millis(750));
        assert_eq!(PAUSES.around(1, 1.0), Duration::from_millis(1250));
    }

    #[test]
    fn random_fraction_varies_and_stays_between_0_and_1() {
        let numbers: Vec<f64> = (0..1000).map(|_| random_fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            let within = numbers.iter().filter(|number| (low..low + 0.1).contains(*number)).count();
            assert!(within > 30, "{within} of 1000 numbers from {low:.1}, want about 100");
        }
    }

    #[test]
    fn retry_after_is_limited_seconds() {
        assert_eq!(retry_after("2"), Some(2 * SECOND));
        assert_eq!(retry_after(" 0 "), Some(Duration::ZERO));
        for long in ["31", "86400", "99999999999999999999999"] {
            assert_eq!(retry_after(long), Some(LONGEST_RETRY_AFTER), "{long}");
        }
        for other in ["", "-1", "1.5", "+1", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_exceeds_maximum(failures: u32, chance: f64) {
            prop_assert!(PAUSES.full_jitter(failures, chance) <= PAUSES.longest());
            prop_assert!(PAUSES.around(failures, chance) <= PAUSES.longest().mul_f64(1.25));
        }
    }
}

//! One cache entry.

use std::time::Duration;

use crate::backoff::random_fraction;
use crate::time::{Expires, Expiry, Now};

/// Limits for serving an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Time before the expiry at which an entry is no longer served, so that the pod has time to use it.
    pub margin: Duration,
    /// Percentage of the lifetime for which an entry is fresh. A fresh entry is served without a call to the upstream.
    /// A stale entry is served while the upstream is down (`stale-if-error` of RFC 5861).
    pub fresh_percent: u8,
}

impl Serving {
    /// Makes limits with which entries are fresh until the margin.
    pub fn until_end(margin: Duration) -> Self {
        Self { margin, fresh_percent: 100 }
    }
}

/// A value with its expiry and the time of its renewal. It is immutable and replaced as a whole.
#[derive(Debug)]
pub struct Entry<V> {
    value: V,
    expiry: Expiry,
    lifetime: Duration,
    renew_at: Duration,
    /// Start of its fetch, by the monotonic clock.
    begun: Duration,
}

impl<V: Expires> Entry<V> {
    /// Makes an entry of a value whose fetch started at `begun` and ended now. It is due for renewal at 45 to 55 % of
    /// its lifetime. SDKs fetch again 5 to 15 minutes before the expiry, the SDK for Java 60 minutes before. They
    /// should then find a newer entry.
    pub(super) fn new(value: V, begun: Duration, now: Now) -> Self {
        let expiry = Expiry::at(value.expires_at(), now);
        let lifetime = expiry.left(now);
        let renew_at = now.monotonic.saturating_add(lifetime.mul_f64(0.45 + 0.1 * random_fraction()));
        Self { value, expiry, lifetime, renew_at, begun }
    }
}

impl<V> Entry<V> {
    /// Returns the value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Returns the expiry.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Returns whether the entry is served without a call to the upstream.
    pub(super) fn is_fresh(&self, now: Now, serving: Serving) -> bool {
        let stale_for = u128::from(100_u8.saturating_sub(serving.fresh_percent));
        let left = self.expiry.left(now);
        // In nanoseconds, because the product of a very long lifetime overflows a `Duration`.
        left > serving.margin && left.as_nanos() * 100 >= self.lifetime.as_nanos() * stale_for
    }

    /// Returns the lifetime at the time of the fetch.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns the start of the fetch, by the monotonic clock.
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// Returns whether the entry should be renewed.
    pub(super) fn is_due(&self, now: Now) -> bool {
        now.monotonic >= self.renew_at
    }
}

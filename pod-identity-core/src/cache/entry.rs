//! One cache entry.

use std::time::Duration;

use crate::backoff::random_fraction;
use crate::time::{Expires, Expiry, Now};

/// Which entries are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Time before the expiry at which an entry is no longer served. It leaves the pod time for a request.
    pub margin: Duration,
    /// Percentage of its life for which an entry is fresh, that is, served without a call to the upstream. A
    /// stale entry is served when the upstream is down (`stale-if-error` of RFC 5861).
    pub fresh_percent: u8,
}

impl Serving {
    /// Entries are fresh until their margin.
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
    /// Makes an entry of a value whose fetch began at `begun` and ended now. It is due for renewal at 45 to 55 %
    /// of its life. SDKs fetch again when 5 to 15 minutes are left, Java's when 60 are, and should then find a
    /// newer entry.
    pub(super) fn new(value: V, begun: Duration, now: Now) -> Self {
        let expiry = Expiry::at(value.expires_at(), now);
        let lifetime = expiry.left(now);
        let renew_at = now.monotonic.saturating_add(lifetime.mul_f64(0.45 + 0.1 * random_fraction()));
        Self { value, expiry, lifetime, renew_at, begun }
    }
}

impl<V> Entry<V> {
    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Its expiry.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Whether it is served without a call to the upstream.
    pub(super) fn is_fresh(&self, now: Now, serving: Serving) -> bool {
        let stale_for = u128::from(100_u8.saturating_sub(serving.fresh_percent));
        let left = self.expiry.left(now);
        // As numbers, since an issuer may name an end that no product of a `Duration` holds.
        left > serving.margin && left.as_nanos() * 100 >= self.lifetime.as_nanos() * stale_for
    }

    /// Its life when it was fetched.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Start of its fetch, by the monotonic clock.
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// Whether it should be renewed.
    pub(super) fn is_due(&self, now: Now) -> bool {
        now.monotonic >= self.renew_at
    }
}

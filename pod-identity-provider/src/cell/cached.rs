//! Cached credentials, with several copies of their identity against contention between threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::backoff::random_fraction;
use pod_identity_core::time::{Expires, Now};

use crate::clock::unix_seconds_of;
use crate::error::{Error, ExpiredCredentials};

/// The age at which credentials without an expiry are fetched again, as in the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::default_expiration`). They stay valid until that fetch succeeds.
const MAX_AGE_WITHOUT_EXPIRY: Duration = Duration::from_secs(15 * 60);
/// The lifetime of credentials without an expiry: longer than a program runs.
const UNLIMITED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The time before expiry in which requests wait for new credentials. Credentials that expire sooner may be refused: the
/// request takes time, and AWS's clock may be ahead. The SDK's own cache has the same buffer (aws-smithy-runtime,
/// `LazyCacheBuilder::buffer_time`).
const EXPIRY_BUFFER: Duration = Duration::from_secs(10);
/// The number of copies of the identity. Each clone increments a reference count. With one copy, all threads would contend
/// for the cache line of its count.
const IDENTITY_COPIES: usize = 8;

/// Credentials with their expiry and the time at which they are due for renewal.
#[derive(Debug)]
pub(crate) struct CachedCredentials {
    credentials: Credentials,
    identities: [Identity; IDENTITY_COPIES],
    expires_at: SystemTime,
    /// The time from renewal to expiry.
    renewal_window: Duration,
    /// The time before expiry in which requests wait for new credentials.
    expiry_buffer: Duration,
    /// The time of the fetch, in whole seconds since 1970.
    fetched_at: u64,
    /// The time from the fetch until the credentials are due, in whole seconds.
    fresh_seconds: u64,
}

/// How close cached credentials are to their expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// One request starts a renewal, and no request waits for it.
    RenewalDue,
    /// Requests wait for new credentials.
    NearExpiry {
        remaining: Duration,
    },
}

impl CachedCredentials {
    /// Returns a cache entry for credentials that were fetched at `now`. They are due for renewal `refresh_ahead` before
    /// expiry, or halfway through a lifetime shorter than twice that. A random delay of up to a fifth of that time keeps
    /// programs that started together from fetching together.
    ///
    /// # Errors
    /// [`Error::Expired`] if the credentials have expired. AWS would refuse them.
    pub(super) fn new(credentials: Credentials, now: Now, refresh_ahead: Duration) -> Result<Self, Error> {
        let expiry = credentials.expiry();
        let expires_at = expiry.unwrap_or(now.wall + UNLIMITED);
        let lifetime = expires_at.duration_since(now.wall).unwrap_or_default();
        if lifetime.is_zero() {
            return Err(Error::Expired(ExpiredCredentials { expired_at: expires_at, now: now.wall }));
        }
        let spread = 1.0 - 0.2 * random_fraction();
        let renewal_window = match expiry {
            Some(_) => refresh_ahead.min(lifetime / 2).mul_f64(spread),
            None => lifetime - MAX_AGE_WITHOUT_EXPIRY.mul_f64(spread),
        };
        let expiry_buffer = EXPIRY_BUFFER.min(lifetime / 10);
        let (fetched_at, due) = (unix_seconds_of(now.wall), expires_at - renewal_window.max(expiry_buffer));
        Ok(Self {
            identities: std::array::from_fn(|_| Identity::from(credentials.clone())),
            credentials,
            expires_at,
            renewal_window,
            expiry_buffer,
            fetched_at,
            fresh_seconds: unix_seconds_of(due).saturating_sub(fetched_at),
        })
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns this thread's copy of the identity if the credentials are not due for renewal. Returns `None` if `now`, in
    /// seconds since 1970, is before the fetch: the wall clock was set back.
    pub(super) fn fresh_identity(&self, now: u64) -> Option<Identity> {
        thread_local!(static COPY: usize = NEXT.fetch_add(1, Ordering::Relaxed) % IDENTITY_COPIES);
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        (now.wrapping_sub(self.fetched_at) < self.fresh_seconds)
            .then(|| self.identities[COPY.with(|copy| *copy)].clone())
    }

    /// Returns the freshness of the credentials `remaining` before expiry.
    pub(super) fn freshness(&self, remaining: Duration) -> Freshness {
        match remaining {
            _ if remaining <= self.expiry_buffer => Freshness::NearExpiry { remaining },
            _ if remaining <= self.renewal_window => Freshness::RenewalDue,
            _ => Freshness::Fresh,
        }
    }

    /// Returns the time until the credentials are due for renewal, at `remaining` before expiry.
    pub(super) fn due_in(&self, remaining: Duration) -> Duration {
        remaining.saturating_sub(self.renewal_window)
    }
}

impl Expires for CachedCredentials {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

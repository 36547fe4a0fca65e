//! Cached credentials, with one copy of their identity for each of a few threads.

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
const WITHOUT_EXPIRY: Duration = Duration::from_secs(15 * 60);
/// Longer than a program runs.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The last part of a life, in which requests wait for new credentials: these may expire on the way to AWS, or by a clock
/// that is ahead of this one. It is the buffer of the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::buffer_time`).
const LAST: Duration = Duration::from_secs(10);
/// The number of copies of the identity. A clone counts references in its copy, and threads that count in the same place
/// wait for each other's cache line.
const COPIES: usize = 8;

/// Credentials with their expiry and the time of their renewal.
#[derive(Debug)]
pub(crate) struct CachedCredentials {
    credentials: Credentials,
    identities: [Identity; COPIES],
    expires_at: SystemTime,
    /// They are due for renewal when this much of their life is left.
    renew_at: Duration,
    /// Requests wait for new ones when this much is left.
    last: Duration,
    /// The second of the fetch by the wall clock, and the number of seconds until they are due.
    fetched: u64,
    fresh_for: u64,
}

/// The work that cached credentials need, besides being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// They are due: one request starts their renewal, and none waits for it.
    Renewal,
    /// They expire in a moment: a request waits for new ones.
    Fetch {
        left: Duration,
    },
}

impl CachedCredentials {
    /// Credentials that were fetched now. They are due when `ahead` of their life is left, or half of a life shorter than
    /// twice that. The due time is later by a random part of up to a fifth of that, so that programs that started together
    /// do not fetch together.
    ///
    /// # Errors
    /// [`Error::Expired`] if they have expired: every request signed with them would fail.
    pub(super) fn new(credentials: Credentials, now: Now, ahead: Duration) -> Result<Self, Error> {
        let expiry = credentials.expiry();
        let expires_at = expiry.unwrap_or(now.wall + CENTURY);
        let life = expires_at.duration_since(now.wall).unwrap_or_default();
        if life.is_zero() {
            return Err(Error::Expired(ExpiredCredentials { expired_at: expires_at, now: now.wall }));
        }
        let spread = 1.0 - 0.2 * random_fraction();
        let renew_at = match expiry {
            Some(_) => ahead.min(life / 2).mul_f64(spread),
            None => life - WITHOUT_EXPIRY.mul_f64(spread),
        };
        let last = LAST.min(life / 10);
        let (fetched, due) = (unix_seconds_of(now.wall), expires_at - renew_at.max(last));
        Ok(Self {
            identities: std::array::from_fn(|_| Identity::from(credentials.clone())),
            credentials,
            expires_at,
            renew_at,
            last,
            fetched,
            fresh_for: unix_seconds_of(due).saturating_sub(fetched),
        })
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns this thread's copy of the identity, from the fetch until the credentials are due. A wall clock that was set
    /// to a time before the fetch ends that too.
    pub(super) fn fresh_identity(&self, second: u64) -> Option<Identity> {
        thread_local!(static COPY: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COPIES);
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        (second.wrapping_sub(self.fetched) < self.fresh_for)
            .then(|| self.identities[COPY.with(|copy| *copy)].clone())
    }

    /// Returns what they need when `left` of their life is left.
    pub(super) fn need(&self, left: Duration) -> Need {
        match left {
            _ if left <= self.last => Need::Fetch { left },
            _ if left <= self.renew_at => Need::Renewal,
            _ => Need::Nothing,
        }
    }

    /// Returns the time until they are due when `left` of their life is left.
    pub(super) fn due_in(&self, left: Duration) -> Duration {
        left.saturating_sub(self.renew_at)
    }
}

impl Expires for CachedCredentials {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

//! What a cell holds: credentials, and copies of them that threads do not share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::backoff::random_fraction;
use pod_identity_core::cache::Expires;
use pod_identity_core::now::Now;

use super::Origin;
use crate::error::Error;

/// After how long credentials that name no end are fetched anew, as in the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::default_expiration`). Until that succeeds they hold.
const WITHOUT_END: Duration = Duration::from_secs(15 * 60);
/// Longer than a program runs.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// With how little left credentials may end on the way to AWS, or by a clock that is ahead of this one: then new ones
/// are worth waiting for. It is the buffer of the SDK's own cache (aws-smithy-runtime, `LazyCacheBuilder::buffer_time`).
const LAST: Duration = Duration::from_secs(10);
/// How many copies of an identity there are. Whoever takes one counts references in it, and threads that count in
/// the same place wait for each other's cache line.
const COPIES: usize = 8;

/// Credentials with their end and the time of their renewal.
#[derive(Debug)]
pub(super) struct Held {
    credentials: Credentials,
    serial: u64,
    identities: [Identity; COPIES],
    expires_at: SystemTime,
    /// They are renewed when that much is left.
    renew_at: Duration,
    /// Requests wait for new ones when that much is left.
    last: Duration,
}

/// What is to be done about credentials that are held, besides serving them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// They are due: somebody is to renew them, and nobody has to wait for that.
    Renewal,
    /// They are about to end: new ones are worth waiting for.
    Fetch {
        left: Duration,
    },
}

impl Held {
    /// Credentials that were fetched now, to be renewed when `ahead` is left or half of a shorter life; up to a fifth
    /// of that later, by chance, so that programs that started together do not ask together.
    ///
    /// # Errors
    /// Where they have ended already: every request that is signed with them would fail.
    pub(super) fn new(
        mut credentials: Credentials,
        now: Now,
        ahead: Duration,
        origin: Origin,
    ) -> Result<Self, Error> {
        let end = credentials.expiry();
        let expires_at = end.unwrap_or(now.wall + CENTURY);
        let life = expires_at.duration_since(now.wall).unwrap_or_default();
        if life.is_zero() {
            return Err(Error::Ended { expired_at: expires_at, now: now.wall });
        }
        let spread = 1.0 - 0.2 * random_fraction();
        let renew_at = match end {
            Some(_) => ahead.min(life / 2).mul_f64(spread),
            None => life - WITHOUT_END.mul_f64(spread),
        };
        let serial = origin.serial();
        credentials.set_property(origin);
        let identities = std::array::from_fn(|_| Identity::from(credentials.clone()));
        Ok(Self { credentials, serial, identities, expires_at, renew_at, last: LAST.min(life / 10) })
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Which of all fetches of this process brought them.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// The identity, in this thread's copy.
    pub(super) fn identity(&self) -> Identity {
        thread_local!(static COPY: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COPIES);
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        self.identities[COPY.with(|copy| *copy)].clone()
    }

    /// What they need, if that much of their life is left.
    pub(super) fn need(&self, left: Duration) -> Need {
        match left {
            _ if left <= self.last => Need::Fetch { left },
            _ if left <= self.renew_at => Need::Renewal,
            _ => Need::Nothing,
        }
    }

    /// How long it is until they are to be renewed, if that much of their life is left.
    pub(super) fn due_in(&self, left: Duration) -> Duration {
        left.saturating_sub(self.renew_at)
    }
}

impl Expires for Held {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

//! What a cell holds: credentials, and copies of them that threads do not share.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::backoff::random_fraction;
use pod_identity_core::cache::Expires;
use pod_identity_core::now::Now;

use super::Reader;
use crate::error::Error;

/// How long credentials count that name no end, as in the SDK's own cache (aws-smithy-runtime,
/// `LazyCacheBuilder::default_expiration`).
const LIFE_WITHOUT_END: Duration = Duration::from_secs(15 * 60);
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
        home: Home,
    ) -> Result<Self, Error> {
        let expires_at = credentials.expiry().unwrap_or(now.wall + LIFE_WITHOUT_END);
        let life = expires_at.duration_since(now.wall).unwrap_or_default();
        if life.is_zero() {
            return Err(Error::Ended { expired_at: expires_at, now: now.wall });
        }
        let renew_at = ahead.min(life / 2).mul_f64(1.0 - 0.2 * random_fraction());
        let serial = home.serial;
        credentials.set_property(home);
        let identities = std::array::from_fn(|_| Identity::from(credentials.clone()));
        Ok(Self { credentials, serial, identities, expires_at, renew_at })
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

/// The property of credentials by which an identity cache knows where they come from.
#[derive(Clone)]
pub(crate) struct Home {
    reader: Weak<Reader>,
    serial: u64,
}

impl Home {
    /// For the credentials that the next fetch brings.
    pub(super) fn of(reader: &Arc<Reader>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { reader: Arc::downgrade(reader), serial: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Where an identity is to be found, if it was taken from a cell, and its serial number there.
    pub(crate) fn of_identity(identity: &Identity) -> Option<(Arc<Reader>, u64)> {
        let credentials: &Credentials = identity.data()?;
        let home: &Self = credentials.get_property()?;
        let reader = home.reader.upgrade()?;
        (!reader.differs(home.serial, credentials)).then_some((reader, home.serial))
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pod-identity-provider")
    }
}

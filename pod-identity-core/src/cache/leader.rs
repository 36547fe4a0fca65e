//! The leader of a flight. It calls the upstream for an identity or for an unverified token.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::state::State;
use super::tokens::{KnownToken, Tokens};
use super::{Entry, SlotLeader};
use crate::backoff::random_fraction;
use crate::error::{CacheEffect, UpstreamError};
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Minimum time for which a refused token is remembered. The maximum is twice that.
const REFUSAL_MEMORY: Duration = Duration::from_secs(1);

/// Credentials that the upstream issued.
#[derive(Debug, Clone)]
pub struct Issued<K, V> {
    /// The identity.
    pub identity: K,
    /// Expiry of the token.
    pub token_expires_at: SystemTime,
    /// The credentials.
    pub value: V,
}

/// An unusable response of the upstream. The cache converts it into its user's error type, and all waiters get that
/// error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableResponse {
    /// The credentials are for another identity.
    #[error(
        "the upstream issued credentials for {issued}, want credentials for {wanted}, the identity of the token"
    )]
    OtherIdentity {
        /// Identity of the token.
        wanted: String,
        /// Identity of the credentials.
        issued: String,
    },
    /// The credentials have expired by this host's clock.
    #[error("the credentials expired at {}, and this host's clock is at {}", Rfc3339(*.expires_at), Rfc3339(*.now))]
    Expired {
        /// Expiry of the credentials.
        expires_at: SystemTime,
        /// The time of this host's wall clock.
        now: SystemTime,
    },
}

/// Displays a time in UTC, to the second.
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.0}"),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}

/// The leader of a flight. Its owner calls the upstream and completes the flight. If the leader is dropped, its
/// waiters begin again.
#[derive(Debug)]
pub struct Leader<K: Hash + Eq + Clone, V, E> {
    state: Arc<State<K, V, E>>,
    slot: SlotLeader<V, E>,
    token: PodToken,
    /// `None` for an unverified token.
    identity: Option<K>,
    /// The generation of known tokens before this token was looked up.
    generation: u64,
}

impl<K: Hash + Eq + Clone, V: Expires, E: UpstreamError> Leader<K, V, E> {
    pub(super) fn new(
        state: Arc<State<K, V, E>>,
        slot: SlotLeader<V, E>,
        token: PodToken,
        identity: Option<K>,
        generation: u64,
    ) -> Self {
        Self { state, slot, token, identity, generation }
    }

    /// Returns the token to send to the upstream.
    pub fn token(&self) -> &PodToken {
        &self.token
    }

    /// Returns the identity, or `None` for an unverified token.
    pub fn identity(&self) -> Option<&K> {
        self.identity.as_ref()
    }

    /// Ends the flight with the upstream's response. Returns the error for the waiters.
    ///
    /// An [`UnusableResponse`] is an error. So a pod never gets another pod's credentials, and credentials that arrive
    /// expired do not cause a call for each request.
    pub fn complete(self, now: Now, response: Result<Issued<K, V>, E>) -> Option<Arc<E>>
    where
        K: fmt::Display,
        E: From<UnusableResponse>,
    {
        let response = response.and_then(|issued| self.check(&issued, now).map(|()| issued).map_err(E::from));
        let Self { state, slot: leader, token, identity, generation } = self;
        let (tokens, digest) = (&state.tokens, token.digest());
        let unverified = identity.is_none();
        // A cache without capacity stores nothing, so it remembers no tokens.
        let keeps = state.config.capacity > 0;
        match response {
            Ok(issued) => {
                // The leader's own slot may have left the map: then nothing is cached. The slot of an unverified token
                // is not the slot of its identity, so the credentials go to the identity's slot.
                let slot = if unverified && keeps {
                    state.slot(&issued.identity, now)
                } else {
                    leader.slot().clone()
                };
                let expiry = Expiry::at(issued.token_expires_at, now);
                if state.config.remember_tokens {
                    slot.keep_newest(&token, expiry);
                }
                // The order matters: first the entry, then the token, then the waiters.
                let entry = slot.publish(Arc::new(Entry::new(issued.value, leader.begun(), now)));
                let known = KnownToken { identity: issued.identity, expiry, slot };
                // A token that keys verified is known already, or was forgotten with its keys. The upstream may have
                // older keys, so it does not make that token known again. A token that another call has just refused
                // does not become known either.
                if unverified && keeps && tokens.refusal(&digest, now).is_none() {
                    tokens.remember(digest, known, generation);
                }
                end_flight(tokens, unverified, &digest, false, now, || leader.finish(entry));
                None
            }
            Err(error) => {
                let error = Arc::new(error);
                let effect = error.effect();
                let of_token = effect == CacheEffect::RefusesToken;
                // The slot remembers a failure that is not about the token.
                if of_token || (unverified && !effect.keeps_credentials()) {
                    let memory = REFUSAL_MEMORY.mul_f64(1.0 + random_fraction());
                    tokens.refuse(digest, error.clone(), memory, now);
                }
                let remembered = effect.keeps_credentials();
                end_flight(tokens, unverified, &digest, remembered, now, || leader.fail(&error, now));
                Some(error)
            }
        }
    }

    /// Checks that the response can be used.
    fn check(&self, issued: &Issued<K, V>, now: Now) -> Result<(), UnusableResponse>
    where
        K: fmt::Display,
    {
        if let Some(wanted) = self.identity.as_ref().filter(|identity| **identity != issued.identity) {
            let (wanted, issued) = (wanted.to_string(), issued.identity.to_string());
            return Err(UnusableResponse::OtherIdentity { wanted, issued });
        }
        let expires_at = issued.value.expires_at();
        if Expiry::at(expires_at, now).is_over(now, Duration::ZERO) {
            return Err(UnusableResponse::Expired { expires_at, now: now.wall });
        }
        Ok(())
    }
}

/// Ends a flight. The flight of an unverified token ends under the lock under which `begin` looks for it. Otherwise a
/// request that has just missed the known token could also miss the flight and lead a second one.
fn end_flight<K, V, E>(
    tokens: &Tokens<K, V, E>,
    unverified: bool,
    digest: &TokenDigest,
    failure: bool,
    now: Now,
    end: impl FnOnce(),
) where
    K: Hash + Eq + Clone,
    V: Expires,
    E: UpstreamError,
{
    if !unverified {
        return end();
    }
    let mut flights = tokens.unverified();
    end();
    flights.end(digest, failure, now);
}

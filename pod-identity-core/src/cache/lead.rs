//! The leader of a flight: it calls the upstream for an identity or for an unverified token.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::state::State;
use super::tokens::{KnownToken, Tokens};
use super::{Entry, SlotLead};
use crate::backoff::random_fraction;
use crate::error::{Effect, UpstreamError};
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Minimum time for which a refusal of a token is remembered. The maximum is twice that.
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

/// An answer of the upstream that the cache refuses. The cache converts it into the error type of its
/// user, and all waiters get that error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableAnswer {
    /// The credentials are for another identity.
    #[error("the token is that of {wanted}, and the upstream issued credentials for {issued}")]
    OtherIdentity {
        /// Identity of the token.
        wanted: String,
        /// Identity of the credentials.
        issued: String,
    },
    /// By this host's clock the credentials have expired.
    #[error("the credentials end at {}, and this host's clock says {}", Rfc3339(*.expires_at), Rfc3339(*.now))]
    Expired {
        /// Expiry of the credentials.
        expires_at: SystemTime,
        /// The time by the wall clock of this host.
        now: SystemTime,
    },
}

/// A time in a message, in UTC and to the second.
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.0}"),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}

/// The leader of a flight. Its owner calls the upstream and completes it. If it is dropped, its waiters begin again.
#[derive(Debug)]
pub struct Lead<K: Hash + Eq + Clone, V, E> {
    state: Arc<State<K, V, E>>,
    slot: SlotLead<V, E>,
    token: PodToken,
    /// `None` for an unverified token.
    identity: Option<K>,
    /// The generation of known tokens before this one was looked up.
    generation: u64,
}

impl<K: Hash + Eq + Clone, V: Expires, E: UpstreamError> Lead<K, V, E> {
    pub(super) fn new(
        state: Arc<State<K, V, E>>,
        slot: SlotLead<V, E>,
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

    /// Ends the flight with the answer of the upstream. Returns the error that the waiters get.
    ///
    /// An [`UnusableAnswer`] is an error. A pod never gets credentials of another pod, and credentials
    /// that have expired on arrival do not cause a call for each request.
    pub fn complete(self, now: Now, answer: Result<Issued<K, V>, E>) -> Option<Arc<E>>
    where
        K: fmt::Display,
        E: From<UnusableAnswer>,
    {
        let answer = answer.and_then(|issued| self.check(&issued, now).map(|()| issued).map_err(E::from));
        let Self { state, slot: lead, token, identity, generation } = self;
        let (tokens, digest) = (&state.tokens, token.digest());
        let unverified = identity.is_none();
        // A cache without room keeps nothing, so its tokens lead to nothing.
        let keeps = state.config.capacity > 0;
        match answer {
            Ok(issued) => {
                // The leader's own slot, which may have left its map: then nothing is kept. An unverified token had a
                // slot of its own, and its credentials belong into that of the identity.
                let slot =
                    if unverified && keeps { state.slot(&issued.identity, now) } else { lead.slot().clone() };
                let expiry = Expiry::at(issued.token_expires_at, now);
                if state.config.remember_tokens {
                    slot.keep_newest(&token, expiry);
                }
                // First the entry, then the way to it, then the waiters.
                let entry = slot.publish(Arc::new(Entry::new(issued.value, lead.begun(), now)));
                let known = KnownToken { identity: issued.identity, expiry, slot };
                // A token that keys verified is known already, or was forgotten with its keys. Then the upstream, which
                // may have older keys, does not make it known again. Nor does an answer make a token known that the
                // answer to another call has just refused.
                if unverified && keeps && tokens.refusal(&digest, now).is_none() {
                    tokens.remember(digest, known, generation);
                }
                ending(tokens, unverified, &digest, false, now, || lead.land(entry));
                None
            }
            Err(error) => {
                let error = Arc::new(error);
                let effect = error.effect();
                let of_token = effect == Effect::RefusesToken;
                // A failure that is not about the token is remembered in the slot.
                if of_token || (unverified && !effect.keeps_credentials()) {
                    let memory = REFUSAL_MEMORY.mul_f64(1.0 + random_fraction());
                    tokens.refuse(digest, error.clone(), memory, now);
                }
                let remembered = effect.keeps_credentials();
                ending(tokens, unverified, &digest, remembered, now, || lead.fail(&error, now));
                Some(error)
            }
        }
    }

    /// Checks that the answer can be used.
    fn check(&self, issued: &Issued<K, V>, now: Now) -> Result<(), UnusableAnswer>
    where
        K: fmt::Display,
    {
        if let Some(wanted) = self.identity.as_ref().filter(|identity| **identity != issued.identity) {
            let (wanted, issued) = (wanted.to_string(), issued.identity.to_string());
            return Err(UnusableAnswer::OtherIdentity { wanted, issued });
        }
        let expires_at = issued.value.expires_at();
        if Expiry::at(expires_at, now).is_over(now, Duration::ZERO) {
            return Err(UnusableAnswer::Expired { expires_at, now: now.wall });
        }
        Ok(())
    }
}

/// Ends a flight. The flight of an unverified token ends under the lock under which `begin` looks for it. Otherwise a
/// request that had just not found the known token could miss its flight too, and lead a second one.
fn ending<K, V, E>(
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

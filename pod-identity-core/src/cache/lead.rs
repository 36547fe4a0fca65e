//! The right and the duty to fetch for an identity, or for a token that is yet to be judged.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tokens::{KnownToken, Tokens};
use super::{CredentialCache, Effect, Entry, Expires, Refusal, SlotLead};
use crate::backoff::random_fraction;
use crate::now::{Expiry, Now};
use crate::token::{BearerToken, TokenDigest};

/// How long a refusal of a token is remembered, at least; at most twice that.
const REFUSAL_MEMORY: Duration = Duration::from_secs(1);

/// What the upstream gave.
#[derive(Debug, Clone)]
pub struct Issued<K, V> {
    /// Whose it is.
    pub identity: K,
    /// The end of the token that it was given for.
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

/// The right and the duty to fetch. Fetch in a task of its own, so that a client that hangs up cancels
/// nothing, and with a deadline. Dropped without completing, it lets all who wait begin again.
#[derive(Debug)]
pub struct Lead<K: Hash + Eq + Clone, V, E> {
    cache: CredentialCache<K, V, E>,
    slot: SlotLead<V, E>,
    token: BearerToken,
    digest: TokenDigest,
    /// Verified by keys, or accepted before; `None`: the upstream will say.
    identity: Option<K>,
    /// Of the known tokens, before this one was looked up.
    generation: u64,
}

impl<K: Hash + Eq + Clone, V: Expires, E: Refusal> Lead<K, V, E> {
    pub(super) fn new(
        cache: CredentialCache<K, V, E>,
        slot: SlotLead<V, E>,
        token: BearerToken,
        digest: TokenDigest,
        identity: Option<K>,
        generation: u64,
    ) -> Self {
        Self { cache, slot, token, digest, identity, generation }
    }

    /// The token to fetch with.
    pub fn token(&self) -> &BearerToken {
        &self.token
    }

    /// The identity to fetch for, where it is known.
    pub fn identity(&self) -> Option<&K> {
        self.identity.as_ref()
    }

    /// Ends the flight with the upstream's answer. Returns the error that the waiters get, if there is
    /// one.
    ///
    /// An [`UnusableAnswer`] is an error. A pod never gets credentials of another pod, and credentials
    /// that have expired on arrival do not cause a call for each request.
    pub fn complete(self, now: Now, answer: Result<Issued<K, V>, E>) -> Option<Arc<E>>
    where
        K: fmt::Display,
        E: From<UnusableAnswer>,
    {
        let answer = answer.and_then(|issued| self.check(&issued, now).map(|()| issued).map_err(E::from));
        let Self { cache, slot: lead, token, digest, identity, generation } = self;
        let tokens = cache.tokens();
        let unverified = identity.is_none();
        match answer {
            Ok(issued) => {
                // Its own slot, which may have been taken out of the map: then nothing is kept. That of a
                // token that has just been judged is the identity's.
                let slot = if unverified { cache.slot(&issued.identity, now) } else { lead.slot().clone() };
                let expiry = Expiry::at(issued.token_expires_at, now);
                slot.keep_newest(&token, digest, expiry);
                // The entry, then the way to it, then those who wait.
                let entry = slot.publish(Arc::new(Entry::new(issued.value, lead.begun(), now)));
                let known = KnownToken { identity: issued.identity, expiry, slot };
                // One that keys verified is known already, or was forgotten with its keys: then what an upstream
                // says, which may have older keys, does not make it known again.
                // Nor does an answer make a token known that another call's answer has just refused.
                if unverified && tokens.refusal(&digest, now).is_none() {
                    tokens.remember(digest, known, generation);
                }
                ending(tokens, unverified, &digest, false, now, || lead.land(entry));
                None
            }
            Err(error) => {
                let error = Arc::new(error);
                let effect = error.effect();
                let of_token = effect == Effect::RefusesToken;
                // A failure that says nothing of the token is remembered in the slot.
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

    /// Whether the answer can be used.
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

/// Ends a flight. That of an unverified token ends under the lock under which `begin` looks for it:
/// else one that had just not found the token among the known could find its flight gone too, and lead
/// a second one.
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
    E: Refusal,
{
    if !unverified {
        return end();
    }
    let mut flights = tokens.unverified();
    end();
    flights.end(digest, failure, now);
}

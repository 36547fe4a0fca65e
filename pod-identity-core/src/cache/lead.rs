//! The right and the duty to fetch for an identity, or for a token that is yet to be judged.

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

impl<K, V, E> Lead<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: Refusal,
{
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

    /// Ends the flight with what the upstream said.
    ///
    /// An answer for another identity than the verified one is thrown away, and all who wait begin
    /// again: no pod gets another's credentials, whatever the upstream does.
    pub fn complete(self, now: Now, answer: Result<Issued<K, V>, E>) {
        let Self { cache, slot: lead, token, digest, identity, generation } = self;
        let tokens = cache.tokens();
        let unverified = identity.is_none();
        match answer {
            Ok(issued) => {
                if identity.is_some_and(|identity| identity != issued.identity) {
                    return; // dropping the lead tells those who wait
                }
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
                if unverified {
                    tokens.remember(digest, known, generation);
                }
                ending(tokens, unverified, &digest, || lead.land(entry));
            }
            Err(error) => {
                let error = Arc::new(error);
                let effect = error.effect();
                let of_token = effect == Effect::RefusesToken;
                if of_token || (unverified && effect != Effect::CannotAsk) {
                    let memory = REFUSAL_MEMORY.mul_f64(1.0 + random_fraction());
                    tokens.refuse(digest, error.clone(), now.monotonic + memory);
                }
                ending(tokens, unverified, &digest, || lead.fail(&error, now));
            }
        }
    }
}

/// Ends a flight. That of an unverified token ends under the lock under which `begin` looks for it:
/// else one that had just not found the token among the known could find its flight gone too, and lead
/// a second one.
fn ending<K, V, E>(tokens: &Tokens<K, V, E>, unverified: bool, digest: &TokenDigest, end: impl FnOnce())
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: Refusal,
{
    if !unverified {
        return end();
    }
    let mut flights = tokens.unverified();
    end();
    flights.end(digest);
}

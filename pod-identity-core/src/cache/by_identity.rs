//! The cache of credentials, with the tokens that lead to them.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::state::State;
use super::tokens::KnownToken;
use super::{CacheConfig, Entry, Lead, Serving, Slot, SlotBegin, Waiter};
use crate::error::UpstreamError;
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Credentials by identity, and the tokens that lead to them.
///
/// A clone is the same cache.
pub struct CredentialCache<K, V, E>(Arc<State<K, V, E>>);

impl<K, V, E> Clone for CredentialCache<K, V, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The next step of a request.
#[derive(Debug)]
pub enum Begin<K: Hash + Eq + Clone, V, E> {
    /// Serve these credentials.
    Hit(Arc<Entry<V>>),
    /// Serve these credentials. They are stale, but a call to the upstream failed a moment ago.
    Stale(Arc<Entry<V>>),
    /// Serve this error. The upstream gave it a moment ago.
    Refused(Arc<E>),
    /// Wait for the flight of another request.
    Wait(Waiter<V, E>),
    /// Call the upstream, complete the lead, and wait like the others.
    Lead(Lead<K, V, E>, Waiter<V, E>),
}

/// Credentials that are due for renewal.
#[derive(Debug)]
pub struct Due<K: Hash + Eq + Clone, V, E> {
    /// The identity.
    pub identity: K,
    /// Life of the credentials when they were fetched. Renewals must keep up with it.
    pub lifetime: Duration,
    /// The lead of the renewal.
    pub lead: Lead<K, V, E>,
}

impl<K, V, E> CredentialCache<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: UpstreamError,
{
    /// Makes an empty cache.
    pub fn new(config: CacheConfig) -> Self {
        Self(Arc::new(State::new(config)))
    }

    /// Returns the credentials that a known token leads to, by its digest. Most requests need no more. It takes
    /// no lock and copies nothing. `None` says nothing about the token.
    pub fn hit(&self, token: &TokenDigest, now: Now) -> Option<Arc<Entry<V>>> {
        self.0.tokens.hit(token, now, self.serving())
    }

    /// Returns the error that the token was refused with a moment ago.
    pub fn refusal(&self, token: &TokenDigest, now: Now) -> Option<Arc<E>> {
        self.0.tokens.refusal(token, now)
    }

    /// Returns the identity and the expiry of a known token.
    pub fn known(&self, token: &TokenDigest, now: Now) -> Option<(K, SystemTime)> {
        self.0.tokens.known(token, now).map(|known| (known.identity.clone(), known.expiry.wall()))
    }

    /// Counts the calls of [`forget_tokens`](Self::forget_tokens). Read it before a token is verified and pass
    /// it to [`begin`](Self::begin): a token that was verified with old keys is not remembered.
    pub fn generation(&self) -> u64 {
        self.0.tokens.generation()
    }

    /// Begins a request. `verified` is the identity and the expiry of a token that keys verified; `None` means
    /// that the upstream verifies it.
    pub fn begin(
        &self,
        token: &PodToken,
        verified: Option<(K, SystemTime)>,
        generation: u64,
        now: Now,
    ) -> Begin<K, V, E> {
        let (tokens, digest) = (&self.0.tokens, token.digest());
        let Some((identity, expires_at)) = verified else {
            // Looked up under the lock, and once: with two look-ups, an acceptance between them would make a
            // second leader.
            let mut unverified = tokens.unverified();
            if let Some(known) = tokens.known(&digest, now) {
                drop(unverified);
                return self.begin_known(token, &known, generation, now);
            }
            let begun = unverified.slot(digest).begin(Some(digest), now, self.serving());
            drop(unverified);
            return self.begun(begun, token, None, generation);
        };
        let known = match tokens.known(&digest, now).filter(|known| known.identity == identity) {
            Some(known) => known,
            None if self.0.config.remember_tokens => {
                let slot = self.0.slot(&identity, now);
                let known = KnownToken { identity, expiry: Expiry::at(expires_at, now), slot };
                tokens.remember(digest, known, generation)
            }
            None => {
                let (begun, _) = self.0.sessions.begin_in_slot(&identity, Some(digest), now, |_| ());
                return self.begun(begun, token, Some(&identity), generation);
            }
        };
        self.begin_known(token, &known, generation, now)
    }

    /// Returns the credentials of an identity, fresh or stale, unless they expire within the margin: for a
    /// request that cannot wait any longer. After a refusal there are none.
    pub fn read(&self, identity: &K, now: Now) -> Option<Arc<Entry<V>>> {
        self.0.sessions.read(identity, now)
    }

    fn begin_known(
        &self,
        token: &PodToken,
        known: &Arc<KnownToken<K, V, E>>,
        generation: u64,
        now: Now,
    ) -> Begin<K, V, E> {
        let digest = token.digest();
        let keep = |slot: &Slot<V, E>| slot.keep_newest(token, known.expiry);
        let (begun, slot) = self.0.sessions.begin_in_slot(&known.identity, Some(digest), now, keep);
        if !Arc::ptr_eq(&slot, &known.slot) {
            self.0.tokens.lead_to(digest, known, slot);
        }
        self.begun(begun, token, Some(&known.identity), generation)
    }

    fn begun(
        &self,
        begun: SlotBegin<V, E>,
        token: &PodToken,
        identity: Option<&K>,
        generation: u64,
    ) -> Begin<K, V, E> {
        match begun {
            SlotBegin::Hit(entry) => Begin::Hit(entry),
            SlotBegin::Stale(entry) => Begin::Stale(entry),
            SlotBegin::Refused(error) => Begin::Refused(error),
            SlotBegin::Wait(waiter) => Begin::Wait(waiter),
            SlotBegin::Lead(lead, waiter) => {
                let lead = Lead::new(self.0.clone(), lead, token.clone(), identity.cloned(), generation);
                Begin::Lead(lead, waiter)
            }
        }
    }

    fn serving(&self) -> Serving {
        self.0.config.serving
    }

    /// Returns the credentials that are due for renewal, the earliest expiry first.
    ///
    /// Credentials are due after about half of their life, if they were requested within that life and 15 minutes (an
    /// SDK fetches again shortly before the expiry), their newest token is valid, and nobody is fetching them. The
    /// caller completes each [`Due`] at its own rate. A dropped one is due again.
    pub fn due(&self, now: Now) -> Vec<Due<K, V, E>> {
        let mut due = Vec::new();
        let generation = self.0.tokens.generation();
        self.0.sessions.for_each(|identity, slot| {
            if let Some((token, entry, lead)) = slot.begin_renewal(now, self.0.config.serving.margin) {
                let lifetime = entry.lifetime();
                let lead = Lead::new(self.0.clone(), lead, token, Some(identity.clone()), generation);
                due.push((entry.expiry().left(now), Due { identity: identity.clone(), lifetime, lead }));
            }
        });
        due.sort_by_key(|(left, _)| *left);
        due.into_iter().map(|(_, due)| due).collect()
    }

    /// Drops the credentials of an identity. The next request is an upstream call. A flight that is under way serves
    /// its waiters, and its credentials are not kept.
    pub fn forget(&self, identity: &K) {
        self.0.sessions.forget(identity);
    }

    /// Forgets all known tokens, because the keys have changed. Credentials stay. The next request with a token
    /// verifies it again.
    pub fn forget_tokens(&self) {
        self.0.tokens.forget();
    }

    /// Drops expired tokens, refusals and credentials.
    pub fn sweep(&self, now: Now) {
        self.0.sessions.sweep(now);
        self.0.tokens.sweep(now);
    }

    /// Drops the credentials of each identity for which `keep` returns false, as [`forget`](Self::forget) does.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.0.sessions.retain(keep);
    }

    /// Returns every cached identity.
    pub fn identities(&self) -> Vec<K> {
        let mut identities = Vec::new();
        self.0.sessions.for_each(|identity, _| identities.push(identity.clone()));
        identities
    }

    #[cfg(test)]
    pub(super) fn tokens(&self) -> &super::tokens::Tokens<K, V, E> {
        &self.0.tokens
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> &super::map::SharedMap<K, Slot<V, E>> {
        self.0.sessions.slots()
    }

    /// Returns the number of identities.
    pub fn len(&self) -> usize {
        self.0.sessions.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V, E> std::fmt::Debug for CredentialCache<K, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialCache").field("config", &self.0.config).finish_non_exhaustive()
    }
}

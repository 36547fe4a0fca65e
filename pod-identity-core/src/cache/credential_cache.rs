//! The credential cache: credentials by identity, and the known tokens of each identity.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::state::State;
use super::tokens::KnownToken;
use super::{CacheConfig, Entry, Leader, Serving, Slot, SlotBegin, Waiter};
use crate::error::UpstreamError;
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Credentials by identity, with the known tokens of each identity.
///
/// Clones share the data.
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
    /// Serve these credentials. They are stale, because a recent call to the upstream failed.
    Stale(Arc<Entry<V>>),
    /// Serve this recent error of the upstream.
    Refused(Arc<E>),
    /// Wait for the flight of another request.
    Wait(Waiter<V, E>),
    /// Call the upstream, complete the flight, and wait like the others.
    Lead(Leader<K, V, E>, Waiter<V, E>),
}

/// Credentials that are due for renewal.
#[derive(Debug)]
pub struct Due<K: Hash + Eq + Clone, V, E> {
    /// The identity.
    pub identity: K,
    /// Lifetime of the credentials when they were fetched. Renewals must keep up with it.
    pub lifetime: Duration,
    /// The leader of the renewal.
    pub leader: Leader<K, V, E>,
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

    /// Returns the credentials of a known token, by its digest. Most requests end here. It takes no lock and copies
    /// nothing. `None` only means that there is no hit: the token may still be valid.
    pub fn hit(&self, token: &TokenDigest, now: Now) -> Option<Arc<Entry<V>>> {
        self.0.tokens.hit(token, now, self.serving())
    }

    /// Returns the recent error of a refused token.
    pub fn refusal(&self, token: &TokenDigest, now: Now) -> Option<Arc<E>> {
        self.0.tokens.refusal(token, now)
    }

    /// Returns the identity and the expiry of a known token.
    pub fn known(&self, token: &TokenDigest, now: Now) -> Option<(K, SystemTime)> {
        self.0.tokens.known(token, now).map(|known| (known.identity.clone(), known.expiry.wall()))
    }

    /// Returns the number of calls of [`forget_tokens`](Self::forget_tokens). Read it before a token is verified and
    /// pass it to [`begin`](Self::begin). A token that was verified with old keys is then not remembered.
    pub fn generation(&self) -> u64 {
        self.0.tokens.generation()
    }

    /// Begins a request. `verified` is the identity and the expiry of a token that was verified with keys. `None`
    /// means that the upstream verifies the token.
    pub fn begin(
        &self,
        token: &PodToken,
        verified: Option<(K, SystemTime)>,
        generation: u64,
        now: Now,
    ) -> Begin<K, V, E> {
        let (tokens, digest) = (&self.0.tokens, token.digest());
        let Some((identity, expires_at)) = verified else {
            // One lookup, under the lock. With two lookups, the upstream could accept the token between them, and this
            // request would become a second leader.
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

    /// Returns the credentials of an identity, fresh or stale, unless they expire within the margin. It is for a
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
            self.0.tokens.update_slot(digest, known, slot);
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
            SlotBegin::Lead(leader, waiter) => {
                let leader =
                    Leader::new(self.0.clone(), leader, token.clone(), identity.cloned(), generation);
                Begin::Lead(leader, waiter)
            }
        }
    }

    fn serving(&self) -> Serving {
        self.0.config.serving
    }

    /// Returns the credentials that are due for renewal, the earliest expiry first.
    ///
    /// Credentials are due after about half of their lifetime, under three conditions: they were requested within
    /// their lifetime and 15 minutes more (an SDK fetches again shortly before the expiry), their newest token is
    /// valid, and there is no flight. The caller completes each [`Due`] at its own rate. A dropped one is due again.
    pub fn due(&self, now: Now) -> Vec<Due<K, V, E>> {
        let mut due = Vec::new();
        let generation = self.0.tokens.generation();
        self.0.sessions.for_each(|identity, slot| {
            if let Some((token, entry, leader)) = slot.begin_renewal(now, self.0.config.serving.margin) {
                let lifetime = entry.lifetime();
                let leader = Leader::new(self.0.clone(), leader, token, Some(identity.clone()), generation);
                due.push((entry.expiry().left(now), Due { identity: identity.clone(), lifetime, leader }));
            }
        });
        due.sort_by_key(|(left, _)| *left);
        due.into_iter().map(|(_, due)| due).collect()
    }

    /// Drops the credentials of an identity. The next request is an upstream call. A flight in progress serves its
    /// waiters, and its credentials are not cached.
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

    /// Returns whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V, E> std::fmt::Debug for CredentialCache<K, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialCache").field("config", &self.0.config).finish_non_exhaustive()
    }
}

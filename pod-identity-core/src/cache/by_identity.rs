//! Identities with their credentials, and the tokens that lead to them.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tokens::{KnownToken, Tokens};
use super::{
    Denied, Entry, Expires, Lead, Refusal, Serving, SessionCache, SessionCacheConfig, Slot, SlotBegin,
    Waited, Waiter,
};
use crate::now::{Expiry, Now};
use crate::token::{BearerToken, TokenDigest};

/// How often a request begins. Each beginning that fails takes one bad token of the identity out of the
/// way for a moment, so there may be as many as a pod has stale tokens around a rotation of keys.
const ATTEMPTS: usize = 8;

/// The bounds of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Maximum number of cached identities. Beyond it, each new identity evicts another one, as in a
    /// [`SessionCacheConfig`].
    pub capacity: usize,
    /// How long before their end credentials are no longer served: an agent's 15 s leave the pod time
    /// for a request.
    pub margin: Duration,
}

impl Default for CacheConfig {
    /// 2,000 identities, as AWS's agent; 15 s.
    fn default() -> Self {
        Self { capacity: 2000, margin: Duration::from_secs(15) }
    }
}

/// Credentials by identity, and the tokens that lead to them.
///
/// A clone is the same cache.
pub struct CredentialCache<K, V, E>(Arc<Inner<K, V, E>>);

impl<K, V, E> Clone for CredentialCache<K, V, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What a request is to do.
#[derive(Debug)]
pub enum Begin<K: Hash + Eq + Clone, V, E> {
    /// Serve these.
    Hit(Arc<Entry<V>>),
    /// Serve this: it was said a moment ago.
    Refused(Arc<E>),
    /// Wait with whoever is fetching.
    Wait(Waiter<V, E>),
    /// Fetch, and complete; the waiter is for this request itself.
    Lead(Lead<K, V, E>, Waiter<V, E>),
}

/// An identity's credentials that should be renewed now.
#[derive(Debug)]
pub struct Due<K: Hash + Eq + Clone, V, E> {
    /// Whose they are.
    pub identity: K,
    /// How long they lasted when they were fetched: renewals must keep up with it.
    pub lifetime: Duration,
    /// The right to renew them.
    pub lead: Lead<K, V, E>,
}

struct Inner<K, V, E> {
    config: CacheConfig,
    tokens: Tokens<K, V, E>,
    sessions: SessionCache<K, V, E>,
}

impl<K, V, E> CredentialCache<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: Refusal,
{
    /// An empty cache.
    pub fn new(config: CacheConfig) -> Self {
        let serving = Serving::until_end(config.margin);
        let sessions = SessionCache::new(SessionCacheConfig { capacity: config.capacity, serving });
        Self(Arc::new(Inner { config, tokens: Tokens::for_about(config.capacity), sessions }))
    }

    /// The credentials that a known token leads to, by its digest: all that most requests need. No lock is
    /// taken, and nothing is copied. `None` says nothing about the token: [`begin`](Self::begin) does.
    pub fn hit(&self, token: &TokenDigest, now: Now) -> Option<Arc<Entry<V>>> {
        self.0.tokens.hit(token, now, self.serving())
    }

    /// What a request with that token is to do.
    ///
    /// `verify` is asked only about a token that is not known: `Ok(Some(..))` gives its identity and
    /// its end, verified by keys; `Ok(None)` says that there are no keys, and the upstream will judge.
    ///
    /// # Errors
    /// What `verify` refuses the token with.
    pub fn begin<R>(
        &self,
        token: &BearerToken,
        now: Now,
        verify: impl FnOnce() -> Result<Option<(K, SystemTime)>, R>,
    ) -> Result<Begin<K, V, E>, R> {
        let (tokens, digest) = (&self.0.tokens, TokenDigest::of(token));
        if let Some(entry) = self.hit(&digest, now) {
            return Ok(Begin::Hit(entry));
        }
        // Before it is known: a refused token is known no longer.
        if let Some(refusal) = tokens.refusal(&digest, now) {
            return Ok(Begin::Refused(refusal));
        }
        // Before the token is looked up or verified: what comes of it holds for the keys of this moment.
        let generation = tokens.generation();
        if let Some(known) = tokens.known(&digest, now) {
            return Ok(self.begin_known(token, digest, &known, generation, now));
        }
        if let Some((identity, expires_at)) = verify()? {
            let slot = self.slot(&identity, now);
            let known = KnownToken { identity, expiry: Expiry::at(expires_at, now), slot };
            let known = tokens.remember(digest, known, generation);
            return Ok(self.begin_known(token, digest, &known, generation, now));
        }
        // Looked up again under the lock, and once: with two look-ups, an acceptance between them made
        // a second leader.
        let mut unverified = tokens.unverified();
        if let Some(known) = tokens.known(&digest, now) {
            drop(unverified);
            return Ok(self.begin_known(token, digest, &known, generation, now));
        }
        let begun = unverified.slot(digest).begin(Some(digest), now, self.serving());
        drop(unverified);
        Ok(self.begun(begun, token, digest, None, generation))
    }

    /// What [`begin`](Self::begin) says, carried out: waits where others fetch, hands a lead to `fetch`,
    /// and begins again where a leader was dropped or failed by its own token, at most seven times.
    ///
    /// `fetch` must not block: it starts a task that fetches with a deadline and completes the lead, so
    /// that a request which is dropped cancels nothing.
    ///
    /// # Errors
    /// [`Denied`] says who refused.
    pub async fn get<R>(
        &self,
        token: &BearerToken,
        now: impl Fn() -> Now,
        verify: impl Fn() -> Result<Option<(K, SystemTime)>, R>,
        fetch: impl Fn(Lead<K, V, E>),
    ) -> Result<Arc<Entry<V>>, Denied<E, R>> {
        for _ in 0..ATTEMPTS {
            let waiter = match self.begin(token, now(), &verify).map_err(Denied::Token)? {
                Begin::Hit(entry) => return Ok(entry),
                Begin::Refused(error) => return Err(Denied::Upstream(error)),
                Begin::Wait(waiter) => waiter,
                Begin::Lead(lead, waiter) => {
                    fetch(lead);
                    waiter
                }
            };
            match waiter.wait().await {
                Waited::Value(entry) | Waited::Stale(entry) => return Ok(entry),
                Waited::Refused(error) => return Err(Denied::Upstream(error)),
                Waited::Again => {}
            }
        }
        Err(Denied::GivenUp)
    }

    fn begin_known(
        &self,
        token: &BearerToken,
        digest: TokenDigest,
        known: &Arc<KnownToken<K, V, E>>,
        generation: u64,
        now: Now,
    ) -> Begin<K, V, E> {
        let keep = |slot: &Slot<V, E>| slot.keep_newest(token, digest, known.expiry);
        let (begun, slot) = self.0.sessions.begin_in_slot(&known.identity, Some(digest), now, keep);
        if !Arc::ptr_eq(&slot, &known.slot) {
            self.0.tokens.lead_to(digest, known, slot);
        }
        self.begun(begun, token, digest, Some(&known.identity), generation)
    }

    fn begun(
        &self,
        begun: SlotBegin<V, E>,
        token: &BearerToken,
        digest: TokenDigest,
        identity: Option<&K>,
        generation: u64,
    ) -> Begin<K, V, E> {
        match begun {
            SlotBegin::Hit(entry) | SlotBegin::Stale(entry) => Begin::Hit(entry),
            SlotBegin::Refused(error) => Begin::Refused(error),
            SlotBegin::Wait(waiter) => Begin::Wait(waiter),
            SlotBegin::Lead(lead, waiter) => {
                let lead =
                    Lead::new(self.clone(), lead, token.clone(), digest, identity.cloned(), generation);
                Begin::Lead(lead, waiter)
            }
        }
    }

    fn serving(&self) -> Serving {
        self.0.sessions.config().serving
    }

    pub(super) fn tokens(&self) -> &Tokens<K, V, E> {
        &self.0.tokens
    }

    pub(super) fn slot(&self, identity: &K, now: Now) -> Arc<Slot<V, E>> {
        self.0.sessions.slot(identity, now)
    }

    /// The identities whose credentials should be renewed now, the earliest expiry first.
    ///
    /// They are past about half of their life and were requested within that life and 15 minutes (an
    /// SDK returns shortly before the end). Their newest token is valid, and they are not being
    /// fetched. The caller fetches and completes each [`Due`] at a pace of its own, or drops it: then
    /// it is due again.
    pub fn due(&self, now: Now) -> Vec<Due<K, V, E>> {
        let mut due = Vec::new();
        let generation = self.0.tokens.generation();
        self.0.sessions.for_each(|identity, slot| {
            if let Some((token, entry, lead)) = slot.begin_renewal(now, self.0.config.margin) {
                let (digest, lifetime) = (TokenDigest::of(&token), entry.lifetime());
                let lead = Lead::new(self.clone(), lead, token, digest, Some(identity.clone()), generation);
                due.push((entry.expiry().left(now), Due { identity: identity.clone(), lifetime, lead }));
            }
        });
        due.sort_by_key(|(left, _)| *left);
        due.into_iter().map(|(_, due)| due).collect()
    }

    /// Drops an identity's credentials: whoever asks next fetches. What is being fetched with a known token
    /// goes to those who wait for it and is not kept.
    pub fn forget(&self, identity: &K) {
        self.0.sessions.forget(identity);
    }

    /// Forgets every token that was verified: the keys have changed. Credentials stay, and each token
    /// is verified again when it comes next.
    pub fn forget_tokens(&self) {
        self.0.tokens.forget();
    }

    /// Drops what has ended: tokens, refusals, and credentials that nobody fetches anew.
    pub fn sweep(&self, now: Now) {
        self.0.sessions.sweep(now);
        self.0.tokens.sweep(now);
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> &super::map::ShardedMap<K, Slot<V, E>> {
        self.0.sessions.slots()
    }

    /// How many identities there are.
    pub fn len(&self) -> usize {
        self.0.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V, E> std::fmt::Debug for CredentialCache<K, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialCache").field("config", &self.0.config).finish_non_exhaustive()
    }
}

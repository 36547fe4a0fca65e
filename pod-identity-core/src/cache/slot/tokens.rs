//! The tokens of an identity: the one to renew with, and how many are known.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Entry, Expires, Refusal};
use super::{NewestToken, Slot, SlotLead};
use crate::now::{Expiry, Now};
use crate::token::{BearerToken, TokenDigest};

/// How long after an entry's life an identity that nobody asked for is still renewed: an SDK that
/// holds credentials of six hours comes back after five and three quarters.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// The most known tokens of one identity, those that hold longest. kubelet makes one at a time for each
/// volume; whoever makes them by the thousand must not cost memory.
const MOST_TOKENS: usize = 8;

impl<V: Expires, E: Refusal> Slot<V, E> {
    /// Whether there is a token to renew with.
    pub(in crate::cache) fn keeps_token(&self) -> bool {
        self.newest.load().is_some()
    }

    /// The right to renew the entry ahead of its end, where that is due, with the token to do it with and
    /// the entry itself.
    #[allow(clippy::type_complexity)] // three things for the one caller
    pub(in crate::cache) fn begin_renewal(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
    ) -> Option<(BearerToken, Arc<Entry<V>>, SlotLead<V, E>)> {
        let entry = self.read(now, margin).filter(|entry| entry.is_due(now))?;
        let idle = now.monotonic.saturating_sub(self.last_asked());
        let wanted = idle <= entry.lifetime().saturating_add(GRACE);
        let newest = self.newest.load_full()?;
        if !wanted || newest.expiry.is_over(now, Duration::ZERO) {
            return None;
        }
        let lead = self.begin_ahead_with(Some(newest.digest), now, margin)?;
        Some((newest.token.clone(), entry, lead))
    }

    /// Keeps a token for renewals, if it holds longer than the one that is kept.
    pub(in crate::cache) fn keep_newest(&self, token: &BearerToken, digest: TokenDigest, expiry: Expiry) {
        let newer = |kept: &Option<Arc<NewestToken>>| {
            kept.as_ref().is_none_or(|kept| kept.expiry.wall() < expiry.wall())
        };
        if newer(&self.newest.load()) {
            let state = self.lock();
            if !state.retired && newer(&self.newest.load()) {
                self.newest.store(Some(Arc::new(NewestToken { token: token.clone(), digest, expiry })));
            }
        }
    }

    /// Takes note of a token that is known to lead here. There is room for a few: gives the one that is to be
    /// forgotten, which may be this one.
    pub(in crate::cache) fn admit(&self, token: TokenDigest, expiry: Expiry) -> Option<TokenDigest> {
        let tokens = &mut self.lock().tokens;
        if tokens.iter().any(|(known, _)| *known == token) {
            return None;
        }
        tokens.push((token, expiry));
        let ends_first = (0..tokens.len()).min_by_key(|index| tokens[*index].1.wall())?;
        (tokens.len() > MOST_TOKENS).then(|| tokens.swap_remove(ends_first).0)
    }
}

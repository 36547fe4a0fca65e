//! The known tokens of an identity, and its token for renewals.

use std::sync::Arc;
use std::time::Duration;

use super::super::Entry;
use super::{NewestToken, Slot, SlotLeader};
use crate::error::UpstreamError;
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Time after the lifetime of an entry for which it is renewed without a request. An SDK with credentials of six hours
/// fetches again after 5 h 45 min.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Maximum number of known tokens of one identity. The tokens with the latest expiry stay. kubelet makes one token at
/// a time for each volume. The limit bounds the memory if a user makes thousands.
const MAX_TOKENS: usize = 8;

impl<V: Expires, E: UpstreamError> Slot<V, E> {
    /// Returns whether the slot has a token for renewals.
    pub(in crate::cache) fn keeps_token(&self) -> bool {
        self.newest.load().is_some()
    }

    /// Begins a renewal if the entry is due. Also returns the token for the renewal and the entry.
    #[allow(clippy::type_complexity)] // there is one caller
    pub(in crate::cache) fn begin_renewal(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
    ) -> Option<(PodToken, Arc<Entry<V>>, SlotLeader<V, E>)> {
        let entry = self.read(now, margin).filter(|entry| entry.is_due(now))?;
        let idle = now.monotonic.saturating_sub(self.last_requested());
        let wanted = idle <= entry.lifetime().saturating_add(GRACE);
        let newest = self.newest.load_full()?;
        if !wanted || newest.expiry.is_over(now, Duration::ZERO) {
            return None;
        }
        let leader = self.begin_ahead_with(Some(newest.token.digest()), now, margin)?;
        Some((newest.token.clone(), entry, leader))
    }

    /// Stores a token for renewals if it expires later than the stored one.
    pub(in crate::cache) fn keep_newest(&self, token: &PodToken, expiry: Expiry) {
        let newer = |kept: &Option<Arc<NewestToken>>| {
            kept.as_ref().is_none_or(|kept| kept.expiry.wall() < expiry.wall())
        };
        if newer(&self.newest.load()) {
            let state = self.lock();
            if !state.retired && newer(&self.newest.load()) {
                self.newest.store(Some(Arc::new(NewestToken { token: token.clone(), expiry })));
            }
        }
    }

    /// Records a known token of this slot. If there are too many, returns the token to forget, which may be the new
    /// one.
    pub(in crate::cache) fn admit(&self, token: TokenDigest, expiry: Expiry) -> Option<TokenDigest> {
        let tokens = &mut self.lock().tokens;
        if tokens.iter().any(|(known, _)| *known == token) {
            return None;
        }
        tokens.push((token, expiry));
        let ends_first = (0..tokens.len()).min_by_key(|index| tokens[*index].1.wall())?;
        (tokens.len() > MAX_TOKENS).then(|| tokens.swap_remove(ends_first).0)
    }
}

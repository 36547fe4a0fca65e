//! The tokens of an identity: the token for renewals, and the number of known tokens.

use std::sync::Arc;
use std::time::Duration;

use super::super::Entry;
use super::{NewestToken, Slot, SlotLead};
use crate::error::UpstreamError;
use crate::time::{Expires, Expiry, Now};
use crate::token::{PodToken, TokenDigest};

/// Time after the life of an entry for which it is renewed without a request. An SDK with credentials of six hours
/// fetches again after five and three quarters.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Maximum number of known tokens of one identity. Those with the latest expiry stay. kubelet makes one at a time for
/// each volume. A user who makes thousands must not cost memory.
const MOST_TOKENS: usize = 8;

impl<V: Expires, E: UpstreamError> Slot<V, E> {
    /// Whether the slot keeps a token for renewals.
    pub(in crate::cache) fn keeps_token(&self) -> bool {
        self.newest.load().is_some()
    }

    /// Begins a renewal if the entry is due. Returns the token for it and the entry, too.
    #[allow(clippy::type_complexity)] // three things for the one caller
    pub(in crate::cache) fn begin_renewal(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
    ) -> Option<(PodToken, Arc<Entry<V>>, SlotLead<V, E>)> {
        let entry = self.read(now, margin).filter(|entry| entry.is_due(now))?;
        let idle = now.monotonic.saturating_sub(self.last_asked());
        let wanted = idle <= entry.lifetime().saturating_add(GRACE);
        let newest = self.newest.load_full()?;
        if !wanted || newest.expiry.is_over(now, Duration::ZERO) {
            return None;
        }
        let lead = self.begin_ahead_with(Some(newest.token.digest()), now, margin)?;
        Some((newest.token.clone(), entry, lead))
    }

    /// Keeps a token for renewals if it expires later than the kept one.
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

    /// Records a known token that leads here. Returns the token that is to be forgotten if there are too many, which
    /// may be this one.
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

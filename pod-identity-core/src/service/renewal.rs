//! The background task of a service: renewals and sweeps.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::limit::Renewal;
use super::serve::ServiceLeader;
use super::{Clock, Handle, Inner};
use crate::token::POD_IDENTITY_AUDIENCE;

/// Time between two checks for due renewals.
const TICK: Duration = Duration::from_secs(1);
/// Number of ticks between two sweeps.
const SWEEP_TICKS: u32 = 60;

/// Renews and sweeps until the service is dropped. `_alive` is dropped when the task ends.
pub(super) async fn follow(service: Weak<Handle>, clock: Clock, _alive: watch::Sender<()>) {
    for tick in 1_u32.. {
        clock.sleep(TICK).await;
        let Some(handle) = service.upgrade() else { return };
        handle.reap();
        if handle.inner.config.renew {
            handle.renew_due();
        }
        if tick % SWEEP_TICKS == 0 {
            handle.inner.sweep().await;
        }
    }
}

impl Handle {
    /// Begins as many renewals as there are permits. The others are due again in a second.
    fn renew_due(&self) {
        let inner = &self.inner;
        let due = inner.cache.due(inner.clock.now());
        // Only due entries count. Otherwise one short session would set the rate of all others permanently.
        let Some(lifetime) = due.iter().map(|due| due.lifetime).min() else { return };
        for due in due {
            let Some(renewal) = inner.upstream.renewal(inner.cache.len(), lifetime) else { return };
            let inner = inner.clone();
            self.spawn(async move { inner.renew(due.leader, renewal).await });
        }
    }
}

impl Inner {
    async fn renew(self: Arc<Self>, leader: ServiceLeader, renewal: Renewal) {
        let Some(key) = leader.identity().cloned() else { return };
        if let Err(error) = self.in_time(self.check_pod(&key, None)).await {
            return drop(leader.complete(self.clock.now(), Err(error)));
        }
        // The association may have changed since the last request. Then the key changes, too, and no request can get
        // these credentials. The lookup has a deadline, because a renewal holds one of few permits.
        match self.in_time(self.with_association(&key)).await {
            Ok(current) if current == key => {}
            Ok(_) => return self.cache.forget(&key),
            Err(error) => return self.report(&key, leader.complete(self.clock.now(), Err(error)).as_deref()),
        }
        // The cluster may also have been removed or changed.
        let clusters = self.clusters.load_full();
        let Some(cluster) = clusters.find(key.cluster()) else { return self.cache.forget(&key) };
        // The key of the token may have been withdrawn. Then the token is not sent to the upstream.
        let (now, token) = (self.clock.now(), leader.token().clone());
        if let Err(error) = cluster.verify_now(&token, POD_IDENTITY_AUDIENCE, now.wall) {
            return drop(leader.complete(now, Err(error.into())));
        }
        let request = match self.request(&leader) {
            Ok(request) => request,
            Err(error) => return drop(leader.complete(now, Err(error))),
        };
        let begun = self.invalidations();
        let issued = self.upstream.renew(renewal, self.issue(&request)).await;
        self.report(&key, self.complete(leader, &request, begun, issued).as_deref());
    }

    fn report(&self, key: &super::SessionKey, error: Option<&super::CredentialError>) {
        if let Some(error) = error {
            tracing::warn!(pod = %key.identity().pod.name, %error, "renewal failed");
        }
    }

    /// Drops expired entries. A large cache is swept on a thread for blocking work.
    async fn sweep(self: &Arc<Self>) {
        let inner = self.clone();
        let swept = tokio::task::spawn_blocking(move || {
            inner.cache.sweep(inner.clock.now());
            inner.upstream.sweep();
        });
        if let Err(error) = swept.await {
            tracing::error!(%error, "expired credentials were not dropped");
        }
    }
}

//! Who the service is to AWS: asked once at the start, because the answer limits what it can do.

use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::association::Association;
use pod_identity_core::backoff::{Backoff, random_fraction};
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::shutdown::Shutdown;

use super::Sts;
use crate::store::Snapshot;

/// The readiness condition that STS has answered.
pub(crate) const STS_CONDITION: &str = "sts";

/// The pauses between attempts to learn who the service is.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));

/// What STS says of the service's own credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The principal's ARN.
    pub arn: String,
}

impl CallerIdentity {
    /// Whether the principal is itself a role session: then each session it makes is chained, and
    /// lasts an hour at most.
    pub fn is_role_session(&self) -> bool {
        self.arn.contains(":assumed-role/")
    }
}

impl Sts {
    /// Asks STS who the service is until it answers, and warns of what that rules out.
    pub async fn identify(&self, snapshot: Arc<Snapshot>, mut shutdown: Shutdown) {
        for failures in 1.. {
            match self.client.get_caller_identity().send().await {
                Ok(answer) => {
                    let arn = answer.arn.unwrap_or_default();
                    let caller = CallerIdentity { arn };
                    let role_session = caller.is_role_session();
                    tracing::info!(arn = caller.arn, role_session, "the principal that assumes the roles");
                    self.caller.store(Some(Arc::new(caller)));
                    self.warn_of_long_sessions(&snapshot);
                    return self.readiness.met(STS_CONDITION);
                }
                Err(error) => self.readiness.unmet(STS_CONDITION, chain(&error)),
            }
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(PAUSES.around(failures, random_fraction())) => {}
            }
        }
    }

    /// Warns of each association whose sessions will be shorter than it asks for.
    pub fn warn_of_long_sessions(&self, snapshot: &Snapshot) {
        if !self.caller().is_some_and(|caller| caller.is_role_session()) {
            return;
        }
        for (cluster, association) in snapshot.associations.iter() {
            if association.duration.is_some_and(|duration| duration > Association::DEFAULT_DURATION) {
                tracing::warn!(
                    cluster = %cluster.name,
                    association = %association.id,
                    "durationSeconds is cut to 3600: this service's principal is itself a role session, and \
                     chained sessions last an hour at most"
                );
            }
        }
    }
}

//! Sessions of pods: the credential source over STS, metrics, and warnings about large sessions.

mod metrics;
mod size;

use std::sync::Arc;

use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::{CredentialError, CredentialRequest, CredentialSource, IssueFuture};
use pod_identity_core::session::{SessionName, SessionPlan};
use pod_identity_runtime::admin::Readiness;

pub use self::metrics::SessionMetrics;
pub(crate) use self::size::warn_of_large_sessions;
use crate::config::SessionNaming;
use crate::sts::StsClient;

/// The readiness condition that the service's own role session allows session tags.
const CALLER_TAGS_CONDITION: &str = "caller_session";

/// Issues the sessions of pods by calls to STS.
#[derive(Debug)]
pub(crate) struct StsSource {
    pub(crate) sts: Arc<StsClient>,
    pub(crate) naming: SessionNaming,
    pub(crate) readiness: Readiness,
}

impl CredentialSource for StsSource {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        Box::pin(self.assume(request))
    }
}

impl StsSource {
    async fn assume(&self, request: &CredentialRequest) -> Result<SessionCredentials, CredentialError> {
        let (cluster, identity) = (request.cluster(), request.identity());
        let Some(association) = request.association() else {
            return Err(CredentialError::new(ErrorCode::Internal, "the request has no association"));
        };
        let unique = match self.naming {
            SessionNaming::Random => uuid::Uuid::new_v4().to_string(),
            SessionNaming::Stable => identity.pod.uid.to_string(),
        };
        let name = SessionName::for_pod(&cluster.name, &identity.pod, &unique);
        let plan = SessionPlan::new(cluster, association, identity, name);
        let issued = self.sts.assume(&plan).await;
        match &issued {
            // With transitive tags on the service's own session, STS issues no session with tags.
            Err(error) if error.code() == ErrorCode::CallerSessionHasTags => {
                self.readiness.unmet(CALLER_TAGS_CONDITION, ErrorCode::CallerSessionHasTags.cause());
            }
            Ok(_) if !plan.role.tags.is_empty() => self.readiness.met(CALLER_TAGS_CONDITION),
            _ => {}
        }
        issued
    }
}

//! The audit log: one line for each issuance and each refusal. It is always written and has no secret.
//!
//! A line has the names of a pod only after the pod's token was verified. It has nothing from an unverified token.

use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::service::Credentials;
use pod_identity_core::token::VerifiedToken;

use crate::caller::AuthenticatedCaller;

/// The target of audit lines in the log.
pub const TARGET: &str = "pod_identity_auth::audit";

/// The verified facts of a request.
#[derive(Debug, Clone, Default)]
pub struct AuditRecord {
    /// The request's id.
    pub request_id: String,
    /// The cluster in the path.
    pub cluster: Option<ClusterName>,
    /// The caller, once it is authenticated.
    pub caller: Option<AuthenticatedCaller>,
    /// The pod's token, once it is verified.
    pub token: Option<VerifiedToken>,
    /// The association's id, once it is found.
    pub association: Option<String>,
    /// The role that the pod gets.
    pub role: Option<String>,
}

impl AuditRecord {
    /// Writes the line of an issuance.
    pub fn issued(&self, credentials: &Credentials) {
        self.write(None, Some(credentials), "issued");
    }

    /// Writes the line of a refusal.
    pub fn refused(&self, code: ErrorCode, message: &str) {
        self.write(Some(code), None, message);
    }

    fn write(&self, code: Option<ErrorCode>, credentials: Option<&Credentials>, message: &str) {
        let identity = self.token.as_ref().map(|token| &token.identity);
        let session = credentials.map(Credentials::session);
        let assumed_role = session.and_then(|session| session.assumed_role());
        let node = self.token.as_ref().and_then(|token| token.node.as_ref());
        tracing::info!(
            target: TARGET,
            decision = if code.is_none() { "issued" } else { "refused" },
            code = code.map_or("ok", ErrorCode::as_str),
            request_id = self.request_id,
            cluster = self.cluster.as_ref().map(ClusterName::as_str),
            namespace = identity.map(|id| id.namespace.as_str()),
            service_account = identity.map(|id| id.service_account.as_str()),
            pod = identity.map(|id| id.pod.name.as_str()),
            pod_uid = identity.map(|id| id.pod.uid.as_str()),
            node = node.map(|node| node.name.as_str()),
            node_proven = self.caller.as_ref().is_some_and(AuthenticatedCaller::proves_node),
            token_id = self.token.as_ref().and_then(|token| token.token_id.as_deref()),
            caller = self.caller.as_ref().map(tracing::field::display),
            association = self.association.as_deref(),
            role = self.role.as_deref(),
            session = assumed_role.map(|role| role.arn.as_str()),
            session_source = credentials.map(|credentials| credentials.origin().as_str()),
            access_key_id = session.map(SessionCredentials::access_key_id),
            "{message}"
        );
    }
}

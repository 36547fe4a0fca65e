//! The audit log: one line for each issuance and each refusal, always written, never a secret in it.
//!
//! Names of a pod stand in it only after its token was verified; of an unverified token nothing does.

use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::token::VerifiedToken;

use crate::server::Caller;
use crate::sessions::Given;

/// The target of audit lines, by which logs can be told apart.
pub const TARGET: &str = "pod_identity_auth::audit";

/// What is known of a request when its line is written.
#[derive(Debug, Default)]
pub struct AuditRecord {
    /// The request's id.
    pub request_id: String,
    /// The cluster in the path.
    pub cluster: Option<ClusterName>,
    /// Who called, once that is proven.
    pub caller: Option<Caller>,
    /// The pod, once its token is verified.
    pub token: Option<VerifiedToken>,
    /// The association's id, once found.
    pub association: Option<String>,
    /// The role that the pod gets.
    pub role: Option<String>,
}

impl AuditRecord {
    /// Writes the line of an issuance.
    pub fn issued(&self, given: &Given) {
        self.write(None, Some(given), "issued");
    }

    /// Writes the line of a refusal.
    pub fn refused(&self, code: ErrorCode, message: &str) {
        self.write(Some(code), None, message);
    }

    fn write(&self, code: Option<ErrorCode>, given: Option<&Given>, message: &str) {
        let identity = self.token.as_ref().map(|token| &token.identity);
        let session = given.map(|given| &given.session);
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
            node_proven = self.caller.as_ref().is_some_and(Caller::proves_node),
            token_id = self.token.as_ref().and_then(|token| token.token_id.as_deref()),
            caller = self.caller.as_ref().map(tracing::field::display),
            association = self.association.as_deref(),
            role = self.role.as_deref(),
            session = session.map(|session| session.assumed_role_arn.as_str()),
            session_source = given.map(|given| given.origin.as_str()),
            access_key_id = session.map(|session| session.credentials.access_key_id.as_str()),
            "{message}"
        );
    }
}

//! `AssumeRoleForPodIdentity`: who may have which session.

use std::time::SystemTime;

use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, VerifiedToken};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Server;
use super::respond::Refusal;
use crate::audit::AuditRecord;
use crate::sessions::SessionKey;
use crate::store::Snapshot;

/// The body. EKS Auth's other members (`eksNodeName`, `instanceId`, `zone`) say where the agent
/// believes to be; nothing may hang on what is not proven, so they are not read.
#[derive(Deserialize)]
struct AssumeRoleForPodIdentity {
    token: Zeroizing<String>,
}

impl Server {
    /// Judges a request by this snapshot: the token first, then the agent's right to it, then the
    /// association. What comes out of it may be asked of STS, or of what STS gave before.
    pub(super) async fn judge(
        &self,
        snapshot: &Snapshot,
        cluster: &ClusterName,
        body: &[u8],
        now: SystemTime,
        record: &mut AuditRecord,
    ) -> Result<SessionKey, Refusal> {
        let token = self.verified_token(snapshot, cluster, body, now).await?;
        let record_token = record.token.insert(token);
        if let Some(caller) = &record.caller {
            caller.check_node(record_token)?;
        }
        let identity = &record_token.identity;

        let (cluster, association) =
            snapshot.associations.lookup(cluster, &identity.namespace, &identity.service_account)?;
        record.association = Some(association.id.to_string());
        record.role = Some(association.target_role.as_ref().unwrap_or(&association.role).to_string());
        Ok(SessionKey {
            identity: identity.clone(),
            cluster: cluster.clone(),
            association: association.clone(),
        })
    }

    async fn verified_token(
        &self,
        snapshot: &Snapshot,
        cluster: &ClusterName,
        body: &[u8],
        now: SystemTime,
    ) -> Result<VerifiedToken, Refusal> {
        let request: AssumeRoleForPodIdentity =
            pod_identity_core::json::from_slice(body).map_err(|error| {
                Refusal::new(
                    ErrorCode::RequestMalformed,
                    format!("the request's body is no object with a token: {error}"),
                )
            })?;
        let token = BearerToken::parse(&request.token)?;
        let keys = snapshot.issuers_of(cluster).ok_or_else(|| {
            Refusal::new(ErrorCode::ClusterUnknown, format!("no cluster named {cluster} is configured"))
        })?;
        Ok(keys.verify(&token, POD_IDENTITY_AUDIENCE, now).await?)
    }
}

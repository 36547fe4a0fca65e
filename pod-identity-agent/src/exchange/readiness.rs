//! The agent's start-up conditions and faults.
//!
//! A node without pods is ready: nothing has to be exchanged first, or a rollout would wait for pods that wait for the
//! agent. A new agent that EKS Auth refuses is not ready, so that the rollout stops at its node. Once EKS Auth has
//! accepted the agent, later refusals are a fault: the agent serves what it has cached.

use pod_identity_core::error::ErrorCode;
use pod_identity_runtime::admin::Readiness;

use super::error::ExchangeError;

/// The configured issuer's keys were fetched once. Old keys stay in use.
pub(crate) const KEYS_CONDITION: &str = "keys";
/// EKS Auth accepted the agent itself at its last answer. Keys expire, and token files can disappear.
pub(crate) const OWN_CREDENTIALS_CONDITION: &str = "own_credentials";

/// Updates readiness from an EKS Auth response.
pub(crate) fn update(readiness: &Readiness, error: Option<&ExchangeError>) {
    match error {
        None => readiness.met(OWN_CREDENTIALS_CONDITION),
        Some(error @ ExchangeError::NoCredentials(_)) => {
            readiness.unmet(OWN_CREDENTIALS_CONDITION, error.to_string());
        }
        Some(error @ ExchangeError::Refused { code, by_own_service, .. }) => match code {
            ErrorCode::CallerRefused => readiness.unmet(OWN_CREDENTIALS_CONDITION, error.to_string()),
            // EKS Auth says these about a pod after it has accepted the agent.
            ErrorCode::AssociationNotFound | ErrorCode::TokenExpired | ErrorCode::TokenRefused => {
                readiness.met(OWN_CREDENTIALS_CONDITION);
            }
            // Our own service also says these before it has accepted the agent, or about the agent's own token.
            ErrorCode::NotFound
            | ErrorCode::RequestMalformed
            | ErrorCode::RequestTooLarge
            | ErrorCode::TokenKeyUnknown
            | ErrorCode::NodeMismatch
            | ErrorCode::Internal => {}
            // Every other error is about a pod, a role or STS, and comes after it has accepted the agent.
            _ if *by_own_service => readiness.met(OWN_CREDENTIALS_CONDITION),
            _ => {}
        },
        Some(_) => {}
    }
}

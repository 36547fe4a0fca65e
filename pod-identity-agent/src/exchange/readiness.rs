//! The readiness conditions of the agent.
//!
//! An agent is ready before its first exchange. Otherwise a rollout would wait for pods that wait for the agent. A new
//! agent that EKS Auth refuses is not ready, so that the rollout stops at its node. After EKS Auth has accepted the
//! agent once, it stays ready: a later refusal is reported as a fault, and the agent serves cached credentials.

use pod_identity_core::error::ErrorCode;
use pod_identity_runtime::admin::Readiness;

use super::error::ExchangeError;

/// The condition that the configured issuer's keys were fetched once. Old keys stay in use.
pub(crate) const KEYS_CONDITION: &str = "keys";
/// The condition that EKS Auth accepted the agent at its last response.
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
            // These errors concern a pod. They come after EKS Auth has accepted the agent.
            ErrorCode::AssociationNotFound | ErrorCode::TokenExpired | ErrorCode::TokenRefused => {
                readiness.met(OWN_CREDENTIALS_CONDITION);
            }
            // `pod-identity-auth` also sends these before it accepts the agent, or about the agent's own token.
            ErrorCode::NotFound
            | ErrorCode::RequestMalformed
            | ErrorCode::RequestTooLarge
            | ErrorCode::TokenKeyUnknown
            | ErrorCode::NodeMismatch
            | ErrorCode::Internal => {}
            // Every other error concerns a pod, a role or STS. It comes after `pod-identity-auth` has accepted the
            // agent.
            _ if *by_own_service => readiness.met(OWN_CREDENTIALS_CONDITION),
            _ => {}
        },
        Some(_) => {}
    }
}

//! Errors of EKS Auth calls.

use std::time::Duration;

use super::bearer::AgentTokenError;
use aws_sdk_eksauth::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityError;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::service::CredentialError;
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::outbound::missing_credentials;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// EKS Auth refused the exchange.
    #[error("{message}")]
    Refused {
        /// This project's code of the error.
        code: ErrorCode,
        /// The message with fix and code.
        message: String,
        /// Whether `pod-identity-auth` responded.
        by_own_service: bool,
        /// The HTTP status.
        status: u16,
        /// The pause of `Retry-After`, 30 s at most.
        retry_after: Option<Duration>,
    },
    /// EKS Auth sent no usable response.
    #[error("the call to EKS Auth failed: {0}")]
    Unavailable(String),
    /// The agent has no credentials of its own.
    #[error("the agent has no credentials for EKS Auth: {0}")]
    NoCredentials(String),
    /// The response lacks a field that EKS Auth always sends.
    #[error("the response of EKS Auth has no {0}")]
    Incomplete(&'static str),
    /// The response is for another service account.
    #[error("EKS Auth issued credentials for service account {issued}, want credentials for {wanted}")]
    OtherSubject {
        /// The token's pod.
        wanted: String,
        /// The response's service account.
        issued: String,
    },
}

impl ExchangeError {
    /// Whether EKS Auth requests fewer calls from this node.
    ///
    /// AWS requests it by a status, by an exception or by `Retry-After`. `pod-identity-auth` has a code for it. Its
    /// other errors concern one token, one role or STS, and an error of one pod must not slow down other pods.
    fn slows_down(&self) -> bool {
        match self {
            Self::Refused { code: ErrorCode::Throttled, .. } => true,
            Self::Refused { by_own_service: false, status, retry_after, .. } => {
                matches!(status, 429 | 503) || retry_after.is_some()
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed soon. Calls to `pod-identity-auth` are not repeated, because it repeats its
    /// own calls: three attempts at both would be nine calls for one request.
    fn is_attempted_again(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused { by_own_service: false, status, .. } => {
                self.slows_down() || matches!(status, 500 | 502 | 504)
            }
            _ => false,
        }
    }
}

impl From<ExchangeError> for CredentialError {
    fn from(error: ExchangeError) -> Self {
        let (slow_down, attempt_again) = (error.slows_down(), error.is_attempted_again());
        let converted = match error {
            ExchangeError::Refused { code, message, by_own_service, retry_after, .. } => {
                let error = Self::new(code, message).with_complete_message().with_retry_after(retry_after);
                match code {
                    // `pod-identity-auth` looks up the association for each request. A response of EKS may be outdated.
                    ErrorCode::AssociationNotFound if !by_own_service => error.eventually_consistent(),
                    // Cached credentials stay in use, because AWS leaves them valid.
                    ErrorCode::RoleTrustRefused | ErrorCode::SessionRefused => error.keeps_credentials(),
                    _ => error,
                }
            }
            ExchangeError::Unavailable(_) => Self::unavailable(error.to_string()),
            ExchangeError::NoCredentials(_) => Self::new(ErrorCode::OwnCredentials, error.to_string()),
            ExchangeError::Incomplete(_) => Self::new(ErrorCode::Internal, error.to_string()),
            ExchangeError::OtherSubject { .. } => Self::new(ErrorCode::SubjectMismatch, error.to_string()),
        };
        converted.slow_down(slow_down).attempt_again(attempt_again)
    }
}

impl From<AgentTokenError> for ExchangeError {
    fn from(error: AgentTokenError) -> Self {
        Self::NoCredentials(error.to_string())
    }
}

impl From<SdkError<AssumeRoleForPodIdentityError>> for ExchangeError {
    fn from(error: SdkError<AssumeRoleForPodIdentityError>) -> Self {
        let Some(refusal) = error.as_service_error() else {
            return missing_credentials(&error)
                .map_or_else(|| Self::Unavailable(chain(&error)), Self::NoCredentials);
        };
        let exception = refusal.code().unwrap_or("an unnamed error");
        let message = refusal.message().unwrap_or("(no message)");
        let response = error.raw_response();
        let header = |name| response.and_then(|response| response.headers().get(name));
        let status = response.map_or(0, |response| response.status().as_u16());
        let retry_after = header("retry-after").and_then(retry_after);
        let own: Option<ErrorCode> = header(CODE_HEADER).and_then(|code| code.parse().ok());
        let (code, message) = match own {
            // The message of `pod-identity-auth` already has cause, fix and code.
            Some(code) => (code, message.to_owned()),
            None => {
                // A response of a proxy may have another exception or none.
                let code = if status == 429 { ErrorCode::Throttled } else { code(exception) };
                (code, format!("EKS Auth: {exception}: {message}. {} [{code}]", code.fix()))
            }
        };
        Self::Refused { code, message, by_own_service: own.is_some(), status, retry_after }
    }
}

/// Returns this project's code of an exception. An unknown exception is retryable.
fn code(exception: &str) -> ErrorCode {
    ErrorCode::of_eks_auth(exception).unwrap_or(ErrorCode::UpstreamUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_exception_is_retryable() {
        assert_eq!(code("AccessDeniedException"), ErrorCode::AccessDenied);
        assert!(code("SomethingNew").is_retryable());
    }
}

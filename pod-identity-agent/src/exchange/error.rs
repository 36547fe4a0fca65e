//! Errors of EKS Auth calls.

use std::time::Duration;

use super::bearer::NoAgentToken;
use aws_sdk_eksauth::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityError;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::service::CredentialError;
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::outbound::missing_credentials;

/// Why EKS Auth issued no credentials.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// EKS Auth refused.
    #[error("{message}")]
    Refused {
        /// Our code for it.
        code: ErrorCode,
        /// Message with fix and code.
        message: String,
        /// Whether `pod-identity-auth` answered.
        by_own_service: bool,
        /// HTTP status.
        status: u16,
        /// `Retry-After`, 30 s at most.
        retry_after: Option<Duration>,
    },
    /// EKS Auth did not respond.
    #[error("EKS Auth could not be asked: {0}")]
    Unavailable(String),
    /// The agent has no credentials of its own.
    #[error("the agent cannot prove itself to EKS Auth: {0}")]
    NoCredentials(String),
    /// The response lacks a field that EKS Auth always sends.
    #[error("the answer of EKS Auth lacks {0}")]
    Incomplete(&'static str),
    /// The response is for another service account.
    #[error("the token is that of {wanted}, and EKS Auth issued credentials for service account {issued}")]
    OtherSubject {
        /// Pod of the token.
        wanted: String,
        /// Service account of the response.
        issued: String,
    },
}

impl ExchangeError {
    /// Whether EKS Auth wants fewer calls from this node.
    ///
    /// AWS says so by a status, by a name or by `Retry-After`. Our own service has a code for it. Its other
    /// refusals are about one token, one role or STS, and one pod's error must not slow other pods down.
    fn slows_down(&self) -> bool {
        match self {
            Self::Refused { code: ErrorCode::Throttled, .. } => true,
            Self::Refused { by_own_service: false, status, retry_after, .. } => {
                matches!(status, 429 | 503) || retry_after.is_some()
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed in a moment. `pod-identity-auth` has repeated its own calls already:
    /// three attempts here and three there would be nine calls for one request.
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
                    // Our own service reads its associations at each request; EKS's answer may be an old one.
                    ErrorCode::AssociationNotFound if !by_own_service => error.eventually_consistent(),
                    // Valid credentials stay in use, as AWS leaves them valid.
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

impl From<NoAgentToken> for ExchangeError {
    fn from(error: NoAgentToken) -> Self {
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
            // The message of our own service has cause, fix and code already.
            Some(code) => (code, message.to_owned()),
            None => {
                // A proxy on the way may use another name, or none.
                let code = if status == 429 { ErrorCode::Throttled } else { code(exception) };
                (code, format!("EKS Auth: {exception}: {message}. {} [{code}]", code.fix()))
            }
        };
        Self::Refused { code, message, by_own_service: own.is_some(), status, retry_after }
    }
}

/// Returns our code for an exception. An unknown exception may pass by itself.
fn code(exception: &str) -> ErrorCode {
    ErrorCode::of_eks_auth(exception).unwrap_or(ErrorCode::UpstreamUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_exception_may_pass() {
        assert_eq!(code("AccessDeniedException"), ErrorCode::AccessDenied);
        assert!(code("SomethingNew").is_retryable());
    }
}

//! What a refusal by EKS Auth means.

use std::time::Duration;

use super::bearer::NoAgentToken;
use aws_sdk_eksauth::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityError;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::cache::{Effect, Refusal, UnusableAnswer};
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::token::TokenError;
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::outbound::missing_credentials;

/// Why a token was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// EKS Auth refused.
    #[error("{message}")]
    Refused {
        /// What that means here.
        code: ErrorCode,
        /// Its name for it.
        exception: String,
        /// Its message.
        message: String,
        /// Whether it is pod-identity-auth that says so.
        by_own_service: bool,
        /// The status of its answer.
        status: u16,
        /// Its `Retry-After`, bounded.
        retry_after: Option<Duration>,
    },
    /// EKS Auth does not have the key yet of a token that was judged good before.
    #[error("{message}")]
    KeyNotThereYet {
        /// Its message.
        message: String,
    },
    /// EKS Auth could not be asked, or did not answer.
    #[error("EKS Auth could not be asked: {0}")]
    Unavailable(String),
    /// The agent has nothing to prove itself with.
    #[error("the agent cannot prove itself to EKS Auth: {0}")]
    NoCredentials(String),
    /// Too many tokens of this peer wait to be judged.
    #[error("too many tokens of this address wait for EKS Auth's judgement")]
    Crowded,
    /// EKS Auth has asked for fewer calls, and this one would come too late.
    #[error("EKS Auth asks for fewer calls than this node makes")]
    Throttled {
        /// How long it is until there may be a turn.
        retry_after: Duration,
    },
    /// EKS Auth's answer lacks a member that it always has.
    #[error("the answer of EKS Auth lacks {0}")]
    Incomplete(&'static str),
    /// The token cannot be one that EKS Auth accepts.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// EKS Auth's answer cannot be used: it is for another identity, or its credentials have already expired.
    #[error(transparent)]
    Unusable(#[from] UnusableAnswer),
}

impl ExchangeError {
    /// The stable code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::KeyNotThereYet { .. } => ErrorCode::TokenKeyUnknown,
            Self::Unavailable(_) => ErrorCode::UpstreamUnavailable,
            Self::NoCredentials(_) => ErrorCode::OwnCredentials,
            Self::Crowded | Self::Throttled { .. } => ErrorCode::Throttled,
            Self::Incomplete(_) => ErrorCode::Internal,
            Self::Token(error) => error.code(),
            Self::Unusable(UnusableAnswer::OtherIdentity { .. }) => ErrorCode::SubjectMismatch,
            Self::Unusable(UnusableAnswer::Expired { .. }) => ErrorCode::ClockAhead,
        }
    }

    /// When to ask again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Throttled { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether EKS Auth wants fewer calls from this node.
    ///
    /// AWS says so by a status, by a name or by `Retry-After`. Our own service has a code for it: its
    /// other refusals are about one token or one role, or say that STS is away, and one pod's must not
    /// slow the others down.
    pub(crate) fn asks_for_fewer_calls(&self) -> bool {
        match self {
            Self::Refused { code: ErrorCode::Throttled, .. } => true,
            Self::Refused { by_own_service: false, status, retry_after, .. } => {
                matches!(status, 429 | 503) || retry_after.is_some()
            }
            _ => false,
        }
    }

    /// Whether the same call may succeed in a moment, and nobody behind EKS Auth has tried that already.
    pub(crate) fn is_worth_another_attempt(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused { by_own_service: false, status, .. } => {
                self.asks_for_fewer_calls() || matches!(status, 500 | 502 | 504)
            }
            _ => false,
        }
    }
}

impl Refusal for ExchangeError {
    fn effect(&self) -> Effect {
        if let Self::KeyNotThereYet { .. } = self {
            return Effect::CannotAsk; // it says nothing against the token
        }
        match self.code() {
            // Our own service reads its associations at each request; EKS's answer may be an old one.
            ErrorCode::AssociationNotFound => match self {
                Self::Refused { by_own_service: true, .. } => Effect::RefusesIdentity,
                _ => Effect::DoubtsIdentity,
            },
            ErrorCode::TokenMalformed
            | ErrorCode::TokenAlgorithmRefused
            | ErrorCode::TokenSignatureInvalid
            | ErrorCode::TokenIssuerWrong
            | ErrorCode::TokenAudienceWrong
            | ErrorCode::TokenExpired
            | ErrorCode::TokenNotYetValid
            | ErrorCode::TokenNotPodBound
            // Worth a retry, but not at once, and not at others' cost.
            | ErrorCode::TokenKeyUnknown
            | ErrorCode::TokenRefused => Effect::RefusesToken,
            ErrorCode::ClockAhead => Effect::CannotUse,
            // Everything else says something of us, or of the way: what is valid is served on.
            _ => Effect::CannotAsk,
        }
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
        let exception = refusal.code().unwrap_or("an unnamed error").to_owned();
        let message = refusal.message().unwrap_or("(no message)");
        let response = error.raw_response();
        let header = |name| response.and_then(|response| response.headers().get(name));
        let status = response.map_or(0, |response| response.status().as_u16());
        let retry_after = header("retry-after").and_then(retry_after);
        let own: Option<ErrorCode> = header(CODE_HEADER).and_then(|code| code.parse().ok());
        let (code, message) = match own {
            // Our own service: its message has cause, fix and code already.
            Some(code) => (code, message.to_owned()),
            None => {
                // A proxy on the way may have another name for it, or none.
                let code = if status == 429 { ErrorCode::Throttled } else { code(&exception) };
                (code, format!("EKS Auth: {exception}: {message}. {} [{code}]", code.fix()))
            }
        };
        Self::Refused { code, exception, message, by_own_service: own.is_some(), status, retry_after }
    }
}

/// What EKS Auth's exception means: of one that nobody knows, that EKS Auth is to be asked again.
fn code(exception: &str) -> ErrorCode {
    ErrorCode::of_eks_auth(exception).unwrap_or(ErrorCode::UpstreamUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_that_nobody_knows_may_pass_by_itself() {
        assert_eq!(code("AccessDeniedException"), ErrorCode::AccessDenied);
        assert!(code("SomethingNew").is_retryable());
    }
}

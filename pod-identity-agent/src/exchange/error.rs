//! What a refusal by EKS Auth means.

use super::bearer;
use aws_sdk_eksauth::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityError;
use pod_identity_core::cache::{Effect, Refusal};
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::token::TokenError;
use pod_identity_runtime::outbound::{chain, missing_credentials};

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
    /// EKS Auth's answer lacks a member that it always has.
    #[error("the answer of EKS Auth lacks {0}")]
    Incomplete(&'static str),
    /// The token cannot be one that EKS Auth accepts.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The answer is for somebody else.
    #[error("the token is {claimed}'s, the answer {issued}'s")]
    SubjectMismatch {
        /// Whose the token says it is.
        claimed: String,
        /// Whose the credentials are.
        issued: String,
    },
}

impl ExchangeError {
    /// The stable code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unavailable(_) => ErrorCode::UpstreamUnavailable,
            Self::NoCredentials(_) => ErrorCode::OwnCredentials,
            Self::Crowded => ErrorCode::Throttled,
            Self::Incomplete(_) => ErrorCode::Internal,
            Self::Token(error) => error.code(),
            Self::SubjectMismatch { .. } => ErrorCode::SubjectMismatch,
        }
    }
}

impl Refusal for ExchangeError {
    fn effect(&self) -> Effect {
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
            // Everything else says something of us, or of the way: what is valid is served on.
            _ => Effect::CannotAsk,
        }
    }
}

impl From<SdkError<AssumeRoleForPodIdentityError>> for ExchangeError {
    fn from(error: SdkError<AssumeRoleForPodIdentityError>) -> Self {
        let Some(refusal) = error.as_service_error() else {
            let missing = missing_credentials(&error).or_else(|| bearer::missing_token(&error));
            return missing.map_or_else(|| Self::Unavailable(chain(&error)), Self::NoCredentials);
        };
        let exception = refusal.code().unwrap_or("an unnamed error").to_owned();
        let message = refusal.message().unwrap_or("(no message)");
        let own = error.raw_response().and_then(|response| response.headers().get(CODE_HEADER));
        match own.and_then(|code| code.parse().ok()) {
            // Our own service: its message has cause, fix and code already.
            Some(code) => {
                Self::Refused { code, exception, message: message.to_owned(), by_own_service: true }
            }
            None => {
                let code = code(&exception);
                let message = format!("EKS Auth: {exception}: {message}. {} [{code}]", code.fix());
                Self::Refused { code, exception, message, by_own_service: false }
            }
        }
    }
}

/// The meaning of AWS's exceptions (EKS Auth's API model).
fn code(exception: &str) -> ErrorCode {
    match exception {
        "ResourceNotFoundException" => ErrorCode::AssociationNotFound,
        "ExpiredTokenException" => ErrorCode::TokenExpired,
        "InvalidTokenException" => ErrorCode::TokenRefused,
        "AccessDeniedException" => ErrorCode::AccessDenied,
        "InvalidParameterException" | "InvalidRequestException" => ErrorCode::RequestMalformed,
        "ThrottlingException" => ErrorCode::Throttled,
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId" => ErrorCode::CallerRefused,
        _ => ErrorCode::UpstreamUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_of_the_model_has_a_meaning() {
        for (exception, meaning) in [
            ("ResourceNotFoundException", ErrorCode::AssociationNotFound),
            ("AccessDeniedException", ErrorCode::AccessDenied),
            ("ThrottlingException", ErrorCode::Throttled),
            ("InternalServerException", ErrorCode::UpstreamUnavailable),
            ("ServiceUnavailableException", ErrorCode::UpstreamUnavailable),
            ("SomethingNew", ErrorCode::UpstreamUnavailable),
        ] {
            assert_eq!(code(exception), meaning, "{exception}");
        }
    }
}

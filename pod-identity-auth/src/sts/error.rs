//! What a refusal by STS means.

use std::time::Duration;

use aws_sdk_sts::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use pod_identity_core::arn::RoleArn;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::cache::{Effect, Refusal, UnusableAnswer};
use pod_identity_core::error::ErrorCode;
use pod_identity_core::session::PackedSize;
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::outbound::missing_credentials;

/// Why STS gave no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// STS refused, in its own words.
    #[error("STS refuses a session of {role}: {sts_code}: {message}")]
    Refused {
        /// The role of the call.
        role: RoleArn,
        /// What that means here.
        code: ErrorCode,
        /// STS's error code.
        sts_code: Box<str>,
        /// STS's message.
        message: Box<str>,
        /// When STS wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// STS could not be asked, or did not answer.
    #[error("STS could not be asked for a session of {role}: {reason}")]
    Unavailable {
        /// The role of the call.
        role: RoleArn,
        /// Why.
        reason: String,
        /// When STS wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// There are no credentials to ask STS with.
    #[error("the auth service has no AWS credentials: {0}")]
    NoCredentials(String),
    /// STS's answer lacks a member that it always has.
    #[error("the answer of STS lacks {0}")]
    Incomplete(&'static str),
    /// STS's credentials cannot be used: they have expired by this host's clock.
    #[error("STS's session of {role} cannot be used: {reason}")]
    Unusable {
        /// The role of the call.
        role: RoleArn,
        /// Why.
        reason: UnusableAnswer,
    },
    /// The call could not be made.
    #[error("the call to STS could not be made: {0}")]
    Unbuildable(String),
}

impl StsError {
    /// The stable code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unavailable { .. } => ErrorCode::UpstreamUnavailable,
            Self::NoCredentials(_) => ErrorCode::OwnCredentials,
            Self::Unusable { .. } => ErrorCode::ClockAhead,
            Self::Incomplete(_) | Self::Unbuildable(_) => ErrorCode::Internal,
        }
    }

    /// When to ask again, where STS says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Where STS finds a session too large it says by how much and not what of it; this adds that.
    pub(super) fn with_size(mut self, size: PackedSize) -> Self {
        if let Self::Refused { sts_code, message, .. } = &mut self
            && sts_code.starts_with("PackedPolicyTooLarge")
        {
            *message = format!("{} ({size})", message.trim_end_matches('.')).into();
        }
        self
    }

    /// The same where the caller was the first role's session. STS throttles by the caller's account, and
    /// that one's may be a tenant's: it says nothing of the quota that all pods share, and
    /// [`Throttled`](ErrorCode::Throttled) would slow the agent's whole node down.
    pub(super) fn of_target_call(self) -> Self {
        match self {
            Self::Refused { role, code: ErrorCode::Throttled, sts_code, message, retry_after } => {
                Self::Unavailable { role, reason: format!("{sts_code}: {message}"), retry_after }
            }
            error => error,
        }
    }

    pub(super) fn unbuildable(error: BuildError) -> Self {
        Self::Unbuildable(error.to_string())
    }

    pub(super) fn assume_role(role: &RoleArn, error: &SdkError<AssumeRoleError>) -> Self {
        let role = role.clone();
        let header = error.raw_response().and_then(|response| response.headers().get("retry-after"));
        let retry_after = header.and_then(retry_after);
        let Some(refusal) = error.as_service_error() else {
            return match missing_credentials(error) {
                Some(reason) => Self::NoCredentials(reason),
                None => Self::Unavailable { role, reason: chain(error), retry_after },
            };
        };
        let sts_code = refusal.code().unwrap_or("unknown");
        let message = refusal.message().unwrap_or("(no message)");
        match code(sts_code, message) {
            Some(code) => {
                Self::Refused { role, code, sts_code: sts_code.into(), message: message.into(), retry_after }
            }
            None => Self::Unavailable { role, reason: format!("{sts_code}: {message}"), retry_after },
        }
    }
}

impl Refusal for StsError {
    /// An answer about this session is one: the role does not want this pod now, or not so, and what was
    /// issued before is not given out again. Everything else says something of STS, of the way there, or
    /// of us; then what is there is served on. Our own session's tags are of us, too.
    fn effect(&self) -> Effect {
        match self.code() {
            ErrorCode::RoleTrustRefused | ErrorCode::SessionRefused => Effect::RefusesIdentity,
            ErrorCode::ClockAhead => Effect::CannotUse,
            _ => Effect::CannotAsk,
        }
    }
}

/// The meaning of STS's error codes (STS API reference, *AssumeRole* and *Common Errors*). `None`:
/// nothing is wrong with the session; STS, or our credentials for it, do not work now.
fn code(sts_code: &str, message: &str) -> Option<ErrorCode> {
    match sts_code {
        "AccessDenied" | "AccessDeniedException" => Some(ErrorCode::RoleTrustRefused),
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" => {
            Some(ErrorCode::Throttled)
        }
        // STS has no code of its own for this; the words are those of its message.
        "InvalidParameterValue" if message.contains("transitive tag") => {
            Some(ErrorCode::CallerSessionHasTags)
        }
        "ValidationError"
        | "InvalidParameterValue"
        | "InvalidParameterCombination"
        | "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException"
        | "PackedPolicyTooLarge"
        | "PackedPolicyTooLargeException" => Some(ErrorCode::SessionRefused),
        // Our own credentials are not what STS takes for good.
        "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken" => Some(ErrorCode::OwnCredentials),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_sts_get_their_meaning() {
        for (sts_code, message, meaning) in [
            ("AccessDenied", "", Some(ErrorCode::RoleTrustRefused)),
            ("ValidationError", "", Some(ErrorCode::SessionRefused)),
            (
                "InvalidParameterValue",
                "One of the specified transitive tag keys can't be set",
                Some(ErrorCode::CallerSessionHasTags),
            ),
            ("InvalidParameterValue", "Duplicate tag keys", Some(ErrorCode::SessionRefused)),
            ("Throttling", "", Some(ErrorCode::Throttled)),
            ("ExpiredToken", "", Some(ErrorCode::OwnCredentials)),
            ("InvalidClientTokenId", "", Some(ErrorCode::OwnCredentials)),
            ("InternalFailure", "", None),
        ] {
            assert_eq!(code(sts_code, message), meaning, "{sts_code} {message}");
        }
    }
}

//! Conversion of STS errors to errors of the credential service.

use std::fmt::Display;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::CredentialError;
use pod_identity_core::session::{RoleSession, SessionPlan};
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::outbound::missing_credentials;

/// Makes the error for a response without a field that STS always sends.
pub(super) fn incomplete(field: &str) -> CredentialError {
    CredentialError::new(ErrorCode::Internal, format!("the response of STS has no {field}"))
}

/// Makes the error for a request that the SDK cannot build.
pub(super) fn unbuildable(error: impl Display) -> CredentialError {
    CredentialError::new(ErrorCode::Internal, format!("the request to STS cannot be built: {error}"))
}

/// Makes the error of a failed call. The service does not repeat it, because the SDK already has.
pub(super) fn of_call(
    plan: &SessionPlan,
    session: &RoleSession,
    error: &SdkError<AssumeRoleError>,
) -> CredentialError {
    let role = &session.role;
    let header = error.raw_response().and_then(|response| response.headers().get("retry-after"));
    let unavailable = |reason: String| {
        let message = format!("the call to STS for a session of {role} failed: {reason}");
        CredentialError::new(ErrorCode::UpstreamUnavailable, message)
    };
    let made = match error.as_service_error() {
        None => match missing_credentials(error) {
            Some(reason) => {
                let message = format!("the auth service has no AWS credentials: {reason}");
                CredentialError::new(ErrorCode::OwnCredentials, message)
            }
            None => unavailable(chain(error)),
        },
        Some(refusal) => {
            let sts_code = refusal.code().unwrap_or("unknown");
            let mut message = refusal.message().unwrap_or("(no message)").to_owned();
            // STS's message has the percentage, but not the sizes.
            if sts_code.starts_with("PackedPolicyTooLarge") {
                message = format!("{} ({})", message.trim_end_matches('.'), plan.packed_size());
            }
            match code(sts_code, &message) {
                Some(code) => {
                    let message = format!("STS refuses a session of {role}: {sts_code}: {message}");
                    CredentialError::new(code, message)
                }
                None => unavailable(format!("{sts_code}: {message}")),
            }
        }
    };
    made.with_retry_after(header.and_then(retry_after))
}

/// Makes the error of the second call, which uses the credentials of the first role. STS throttles by the caller's AWS
/// account, and this one may belong to a tenant. Pods do not share its quota, so agents need not slow down.
pub(super) fn of_target(error: CredentialError) -> CredentialError {
    match error.code() {
        ErrorCode::Throttled => CredentialError::new(ErrorCode::UpstreamUnavailable, error.message())
            .with_retry_after(error.retry_after()),
        _ => error,
    }
}

/// Returns the meaning of an error code of STS (STS API reference, *AssumeRole* and *Common Errors*). `None` means
/// that STS cannot serve the call now.
fn code(sts_code: &str, message: &str) -> Option<ErrorCode> {
    match sts_code {
        "AccessDenied" | "AccessDeniedException" => Some(ErrorCode::RoleTrustRefused),
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" => {
            Some(ErrorCode::Throttled)
        }
        // STS has no code for this error, only this message.
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
        // STS does not accept the service's own credentials.
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
    use pod_identity_core::error::{CacheEffect, UpstreamError as _};

    use super::*;

    #[test]
    fn maps_the_error_codes_of_sts() {
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

    #[test]
    fn only_errors_about_the_session_drop_cached_credentials() {
        for sts_code in ["AccessDenied", "ValidationError", "PackedPolicyTooLarge"] {
            let error = CredentialError::new(code(sts_code, "").unwrap(), "");
            assert_eq!(error.effect(), CacheEffect::RefusesIdentity, "{sts_code}");
        }
        let own = "One of the specified transitive tag keys can't be set";
        for (sts_code, message) in [("Throttling", ""), ("ExpiredToken", ""), ("InvalidParameterValue", own)]
        {
            let error = CredentialError::new(code(sts_code, message).unwrap(), "");
            assert_eq!(error.effect(), CacheEffect::CallFailed, "{sts_code}");
        }
        assert_eq!(incomplete("Credentials").effect(), CacheEffect::CallFailed);
    }
}

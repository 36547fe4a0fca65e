//! Errors with the codes, statuses and messages of STS.
//!
//! Codes and statuses are those of the service model and of the *Common errors* of the STS API reference. The messages
//! come from AWS's documents, or from quotations by users of AWS. The others are this program's own.

use std::fmt::Display;
use std::time::SystemTime;

use http::StatusCode;
use pod_identity_auth::sigv4::SigV4Error;
use pod_identity_core::arn::RoleArn;
use pod_identity_core::trust::Action;

/// An error response of STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StsError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

fn sts_error(status: StatusCode, code: &'static str, message: impl Into<String>) -> StsError {
    StsError { status, code, message: message.into() }
}

impl StsError {
    pub(super) fn too_large() -> Self {
        sts_error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "Request body is too large")
    }

    pub(super) fn not_found() -> Self {
        sts_error(StatusCode::NOT_FOUND, "InvalidAction", "Only GET / and POST / are served")
    }

    pub(super) fn malformed_query(message: impl Into<String>) -> Self {
        sts_error(StatusCode::BAD_REQUEST, "MalformedQueryString", message)
    }

    pub(super) fn missing_action() -> Self {
        sts_error(StatusCode::BAD_REQUEST, "MissingAction", "The request must contain the parameter Action")
    }

    pub(super) fn unknown_action(action: &str, version: Option<&str>) -> Self {
        let version = version.unwrap_or("NO_VERSION_SPECIFIED");
        let message = format!("Could not find operation {action} for version {version}");
        sts_error(StatusCode::BAD_REQUEST, "InvalidAction", message)
    }

    pub(super) fn invalid_client_token() -> Self {
        sts_error(
            StatusCode::FORBIDDEN,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        )
    }

    pub(super) fn expired_credentials() -> Self {
        sts_error(
            StatusCode::FORBIDDEN,
            "ExpiredToken",
            "The security token included in the request is expired",
        )
    }

    pub(super) fn signature(error: &SigV4Error) -> Self {
        let mismatch = |message: String| sts_error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message);
        match error {
            SigV4Error::Missing => sts_error(
                StatusCode::FORBIDDEN,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            ),
            SigV4Error::UnknownAccessKey => Self::invalid_client_token(),
            SigV4Error::SignatureMismatch | SigV4Error::PayloadMismatch => mismatch(
                "The request signature we calculated does not match the signature you provided. Check your \
                 AWS Secret Access Key and signing method. Consult the service documentation for details."
                    .to_owned(),
            ),
            SigV4Error::WrongScope { part: "service", .. } => {
                mismatch("Credential should be scoped to correct service: 'sts'. ".to_owned())
            }
            SigV4Error::Skewed { ahead: true, .. } => mismatch(format!("Signature not yet current: {error}")),
            SigV4Error::Skewed { .. } => mismatch(format!("Signature expired: {error}")),
            SigV4Error::WrongScope { .. } => mismatch(error.to_string()),
            other => sts_error(StatusCode::BAD_REQUEST, "IncompleteSignature", other.to_string()),
        }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        sts_error(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        sts_error(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
    }

    pub(super) fn denied(caller: impl Display, action: Action, role: &RoleArn) -> Self {
        let message = format!("User: {caller} is not authorized to perform: {action} on resource: {role}");
        sts_error(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(super) fn root_caller() -> Self {
        sts_error(StatusCode::FORBIDDEN, "AccessDenied", "Roles may not be assumed by root accounts.")
    }

    /// AWS states no reason to unauthenticated callers.
    pub(super) fn web_identity_denied() -> Self {
        let action = Action::AssumeRoleWithWebIdentity;
        let message = format!("Not authorized to perform {action}");
        sts_error(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(super) fn exceeds_role_maximum() -> Self {
        Self::validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    }

    pub(super) fn exceeds_chaining() -> Self {
        Self::validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    }

    pub(super) fn malformed_policy(message: impl Into<String>) -> Self {
        sts_error(StatusCode::BAD_REQUEST, "MalformedPolicyDocument", message)
    }

    pub(super) fn packed_policy(percent: usize) -> Self {
        let message =
            format!("Packed policy consumes {percent}% of allotted space, please use smaller policy.");
        sts_error(StatusCode::BAD_REQUEST, "PackedPolicyTooLarge", message)
    }

    pub(super) fn packed_tags(percent: usize) -> Self {
        let message = format!("Packed size of session tags consumes {percent}% of allotted space.");
        sts_error(StatusCode::BAD_REQUEST, "PackedPolicyTooLarge", message)
    }

    pub(super) fn identity_token(message: impl Into<String>) -> Self {
        sts_error(StatusCode::BAD_REQUEST, "InvalidIdentityToken", message)
    }

    pub(super) fn expired_identity_token(now: SystemTime, exp: u64) -> Self {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let message =
            format!("Token expired: current date/time {now} must be before the expiration date/time {exp}");
        sts_error(StatusCode::BAD_REQUEST, "ExpiredTokenException", message)
    }

    /// A limit of this program; AWS has none.
    pub(super) fn too_many_sessions() -> Self {
        sts_error(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "The local STS has reached its maximum number of unexpired sessions",
        )
    }
}

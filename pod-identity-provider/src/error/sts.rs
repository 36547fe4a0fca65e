//! The error of STS.

use std::error::Error as StdError;
use std::fmt;

/// STS could not be called, or refused the pod's token. Only with the feature `irsa`.
#[derive(Debug, Clone)]
pub struct StsError {
    pub(crate) role: String,
    pub(crate) failure: StsFailure,
}

/// The cause of a failed call. The texts contain no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StsFailure {
    /// STS refused.
    Refused { code: String, message: String },
    /// The SDK built no request, because the environment variables contradict each other.
    NotSent { reason: String },
    /// There was no response, or a response of another server.
    NoResponse { reason: String },
    /// The response is successful but has no valid credentials.
    Malformed { reason: String },
}

impl StsError {
    /// Returns the ARN of the requested role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Returns the message of STS, if STS refused.
    pub fn message(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Returns whether the environment variables caused the error.
    pub(super) fn is_configuration_error(&self) -> bool {
        matches!(self.failure, StsFailure::NotSent { .. })
    }

    pub(super) fn code(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Returns whether a later call may succeed. The codes are those that the SDK retries (aws-runtime,
    /// `AwsErrorCodeClassifier`; `IDPCommunicationError` in the service model).
    pub(super) fn is_retryable(&self) -> bool {
        match &self.failure {
            StsFailure::Refused { code, .. } => matches!(
                code.as_str(),
                "IDPCommunicationError"
                    | "InternalFailure"
                    | "RequestLimitExceeded"
                    | "ServiceUnavailable"
                    | "Throttling"
                    | "ThrottlingException"
            ),
            StsFailure::NoResponse { .. } => true,
            StsFailure::NotSent { .. } | StsFailure::Malformed { .. } => false,
        }
    }

    pub(super) fn cause(&self) -> String {
        let Self { role, failure } = self;
        match failure {
            StsFailure::Refused { code, message } => {
                format!("STS refused a session of {role}: {code}: {message}")
            }
            StsFailure::NotSent { reason } => {
                format!("STS cannot be called for a session of {role}: {reason}")
            }
            StsFailure::NoResponse { reason } => {
                format!("STS did not answer a request for a session of {role}: {reason}")
            }
            StsFailure::Malformed { reason } => {
                format!("STS's response holds no session of {role}: {reason}")
            }
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => hint_for_code(code),
            StsFailure::NotSent { .. } => Some(
                "Check AWS_REGION, AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL: a custom URL excludes AWS_USE_FIPS_ENDPOINT and \
                 AWS_USE_DUALSTACK_ENDPOINT",
            ),
            StsFailure::NoResponse { .. } => Some(
                "Check that the pod can reach STS in this region, and set HTTPS_PROXY if there is a proxy. A VPC without \
                 internet access needs an endpoint for STS",
            ),
            StsFailure::Malformed { .. } => {
                Some("Check the endpoint URL and the proxy: the server that answers is not STS")
            }
        }
    }
}

/// Prints the cause. [`Error::hint`](crate::Error::hint) returns the fix.
impl fmt::Display for StsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for StsError {}

/// Returns the fix for an error code (STS API reference, *AssumeRoleWithWebIdentity*, Errors, and *Common errors*).
fn hint_for_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDenied" => {
            "Check that the role exists. Its trust policy must allow sts:AssumeRoleWithWebIdentity for the cluster's OIDC \
             provider (Principal: Federated). Its conditions on sub and aud must match this service account's token"
        }
        "InvalidIdentityToken" => {
            "Create an OIDC provider for the cluster's issuer in the role's AWS account, with the token's audience \
             (sts.amazonaws.com) in its client ids. AWS must be able to fetch the issuer's keys"
        }
        "ExpiredTokenException" => {
            "Check that AWS_WEB_IDENTITY_TOKEN_FILE names the file that kubelet writes, and that this node's clock is right. \
             Kubelet replaces the token before it expires"
        }
        "IDPRejectedClaim" => "Create the pod again: the issuer rejects this token",
        "IDPCommunicationError" => {
            "Make the discovery document and the keys of the cluster's issuer public: AWS could not fetch them"
        }
        "RegionDisabledException" => {
            "Activate STS in this region (IAM console, Account settings), or set AWS_REGION to a region where it is active"
        }
        "PackedPolicyTooLarge" => "Configure the issuer to put fewer or shorter session tags into the token",
        "ValidationError" => "Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME",
        _ => return None,
    })
}

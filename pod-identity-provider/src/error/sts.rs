//! The error of STS.

use std::error::Error as StdError;
use std::fmt;

/// STS returned no session for the pod's token: its refusal, or the reason why it did not answer. Only with the feature
/// `irsa`.
#[derive(Debug, Clone)]
pub struct StsError {
    pub(crate) role: String,
    pub(crate) failure: StsFailure,
}

/// The reason why a fetch brought no session. Its texts hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StsFailure {
    /// STS refused.
    Refused { code: String, message: String },
    /// There was no request to send: the variables contradict each other.
    NotAsked { reason: String },
    /// There was no response, or none of STS.
    Unanswered { reason: String },
    /// A successful response without credentials.
    Malformed { reason: String },
}

impl StsError {
    /// Returns the ARN of the requested role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Returns STS's own message, if STS refused.
    pub fn message(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether the pod's variables allow no request.
    pub(super) fn is_of_configuration(&self) -> bool {
        matches!(self.failure, StsFailure::NotAsked { .. })
    }

    pub(super) fn code(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether a later call may succeed. The SDK has retried these codes already (aws-runtime, `AwsErrorCodeClassifier`;
    /// `IDPCommunicationError` by the service model).
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
            StsFailure::Unanswered { .. } => true,
            StsFailure::NotAsked { .. } | StsFailure::Malformed { .. } => false,
        }
    }

    pub(super) fn cause(&self) -> String {
        let Self { role, failure } = self;
        match failure {
            StsFailure::Refused { code, message } => {
                format!("STS refused a session of {role}: {code}: {message}")
            }
            StsFailure::NotAsked { reason } => {
                format!("STS cannot be called for a session of {role}: {reason}")
            }
            StsFailure::Unanswered { reason } => {
                format!("STS did not answer about a session of {role}: {reason}")
            }
            StsFailure::Malformed { reason } => {
                format!("STS's response holds no session of {role}: {reason}")
            }
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => of_code(code),
            StsFailure::NotAsked { .. } => Some(
                "Check AWS_REGION, AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL: a custom URL excludes AWS_USE_FIPS_ENDPOINT and \
                 AWS_USE_DUALSTACK_ENDPOINT",
            ),
            StsFailure::Unanswered { .. } => Some(
                "Let the pod reach STS in this region, through HTTPS_PROXY where there is a proxy. A VPC without internet \
                 access needs an endpoint for STS",
            ),
            StsFailure::Malformed { .. } => {
                Some("Check the endpoint URL and the proxy: another server than STS answers")
            }
        }
    }
}

/// The cause without the hint, which [`Error::hint`](crate::Error::hint) returns.
impl fmt::Display for StsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for StsError {}

/// Returns what to do (STS API reference, *AssumeRoleWithWebIdentity*, Errors, and *Common errors*).
fn of_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDenied" => {
            "Let the role's trust policy allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider (Principal: \
             Federated), with conditions on sub and aud that this service account's token meets. STS refuses a missing \
             role with the same code"
        }
        "InvalidIdentityToken" => {
            "Create an OIDC provider for the cluster's issuer in the role's AWS account, with the token's audience \
             (sts.amazonaws.com) among its client ids, and let AWS reach the issuer's keys"
        }
        "ExpiredTokenException" => {
            "Check that AWS_WEB_IDENTITY_TOKEN_FILE names the file that kubelet writes, and that this node's clock is right. \
             Kubelet replaces the token before it expires"
        }
        "IDPRejectedClaim" => "Create the pod again: the issuer rejects this token",
        "IDPCommunicationError" => {
            "Make the discovery document and the keys of the cluster's issuer public: AWS could not read them"
        }
        "RegionDisabledException" => {
            "Activate STS in this region (IAM console, Account settings), or set AWS_REGION to one where it is"
        }
        "PackedPolicyTooLarge" => "Let the issuer put fewer or shorter session tags into the token",
        "ValidationError" => "Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME",
        _ => return None,
    })
}

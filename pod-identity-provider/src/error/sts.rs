//! Why STS gave no session.

use std::error::Error as StdError;
use std::fmt;

/// Why STS gave no session for the pod's token: its answer, or why there was none. Of the feature `irsa`.
#[derive(Debug, Clone)]
pub struct StsError {
    pub(crate) role: String,
    pub(crate) failure: StsFailure,
}

/// What a fetch came to. Its texts are fit to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StsFailure {
    /// STS answered, and gave no session.
    Refused { code: String, message: String },
    /// There was no request to send: what it would be made of does not go together.
    NotAsked { reason: String },
    /// Nobody answered, or not as STS does.
    Unanswered { reason: String },
    /// An answer that should have been credentials.
    Malformed { reason: String },
}

impl StsError {
    /// The ARN of the role that was asked for.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// STS's own words, where it answered.
    pub fn message(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether the pod's variables made no request.
    pub(super) fn is_of_configuration(&self) -> bool {
        matches!(self.failure, StsFailure::NotAsked { .. })
    }

    pub(super) fn code(&self) -> Option<&str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What may pass by itself. The SDK has asked again already (aws-runtime, `AwsErrorCodeClassifier`; and
    /// `IDPCommunicationError`, by the service model).
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
                format!("STS gives no session of {role}: {code}: {message}")
            }
            StsFailure::NotAsked { reason } => {
                format!("STS cannot be asked for a session of {role}: {reason}")
            }
            StsFailure::Unanswered { reason } => {
                format!("STS gave no answer about a session of {role}: {reason}")
            }
            StsFailure::Malformed { reason } => format!("STS's answer holds no session of {role}: {reason}"),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.failure {
            StsFailure::Refused { code, .. } => of_code(code),
            StsFailure::NotAsked { .. } => Some(
                "Check AWS_REGION, AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL: a URL of one's own goes with neither \
                 AWS_USE_FIPS_ENDPOINT nor AWS_USE_DUALSTACK_ENDPOINT",
            ),
            StsFailure::Unanswered { .. } => Some(
                "Can the pod reach STS in this region, by HTTPS_PROXY where there is a proxy? A VPC without internet needs \
                 an endpoint for STS",
            ),
            StsFailure::Malformed { .. } => {
                Some("Does another server than STS answer, or a proxy on the way?")
            }
        }
    }
}

/// What happened, without what to do about it: that is [`Error::hint`](crate::Error::hint).
impl fmt::Display for StsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for StsError {}

/// What to do (STS API reference, *AssumeRoleWithWebIdentity*, Errors, and *Common errors*).
fn of_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDenied" => {
            "The role's trust policy has to allow sts:AssumeRoleWithWebIdentity to the cluster's OIDC provider \
             (Principal: Federated), with conditions on sub and aud that this service account's token meets. STS says \
             the same where there is no such role"
        }
        "InvalidIdentityToken" => {
            "The role's account needs an OIDC provider for the cluster's issuer, with the token's audience \
             (sts.amazonaws.com) among its client ids, and AWS has to reach the issuer's keys"
        }
        "ExpiredTokenException" => {
            "Kubelet replaces the token before it ends: is the file the one that kubelet writes, and this node's clock \
             right?"
        }
        "IDPRejectedClaim" => "The issuer does not stand by this token: create the pod anew",
        "IDPCommunicationError" => {
            "AWS could not ask the cluster's issuer: its discovery document and keys have to be public"
        }
        "RegionDisabledException" => {
            "Activate STS in this region (IAM console, Account settings), or set AWS_REGION to one where it is"
        }
        "PackedPolicyTooLarge" => {
            "The session tags that the issuer puts into the token are too many or too long"
        }
        "ValidationError" => "Check AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME",
        _ => return None,
    })
}

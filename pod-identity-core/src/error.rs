//! Every error code of the project, declared once.
//!
//! A code is stable. It is in the response body that a pod's SDK prints, in a metric label, and a heading of
//! `docs/reference/errors.md`. Each code names the party that must act, whether a retry can help, and the fix.
//!
//! ```
//! use pod_identity_core::error::{Blame, ErrorCode};
//!
//! let code: ErrorCode = "association_not_found".parse()?;
//! assert_eq!((code.blame(), code.is_retryable()), (Blame::Operator, false));
//! println!("{} {}", code.cause(), code.fix());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

/// The header with which the auth service sends its code to our agent. AWS's agent ignores it.
#[doc(hidden)]
pub const CODE_HEADER: &str = "x-pod-identity-error";

/// The party that must act to fix an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blame {
    /// The pod, its spec or its client.
    Pod,
    /// The operator of the cluster's pod-identity services, or of the roles and associations.
    Operator,
    /// The agent or the auth service itself.
    Service,
    /// AWS, or the network path to it.
    Aws,
}

/// The effect of an upstream error on the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum CacheEffect {
    /// The upstream refuses the token. It may accept other tokens of the identity, so the credentials stay.
    RefusesToken,
    /// The identity has no role. Its credentials are dropped.
    RefusesIdentity,
    /// The identity has no role, according to a response that may be outdated, because EKS is eventually consistent.
    /// The credentials are dropped when the refusal is repeated for 30 s.
    UnconfirmedRefusal,
    /// The call failed: the upstream is down, throttles, or does not accept the caller. Credentials stay, and the next
    /// call is allowed after at most a second.
    CallFailed,
    /// The upstream issued unusable credentials, and the next call will return the same ones. Credentials stay, and
    /// the pauses between calls grow to 30 s.
    UnusableCredentials,
}

impl CacheEffect {
    /// Returns whether cached credentials stay in use.
    pub(crate) fn keeps_credentials(self) -> bool {
        matches!(self, Self::CallFailed | Self::UnusableCredentials)
    }
}

/// An upstream error for the cache.
#[doc(hidden)]
pub trait UpstreamError: Send + Sync + 'static {
    /// Returns the effect on the cache.
    fn effect(&self) -> CacheEffect;
}

macro_rules! error_codes {
    ($($variant:ident $text:literal $blame:ident $retryable:literal $cause:literal $fix:literal)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $cause] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of `docs/reference/errors.md`.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant),*];

            /// Returns the code as text, for response bodies, metric labels and headings.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Returns the party that must act.
            pub fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame),* }
            }

            /// Returns whether the same request may succeed later without any action.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable),* }
            }

            /// Returns the cause.
            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause),* }
            }

            /// Returns the fix.
            pub fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix),* }
            }
        }

        impl FromStr for ErrorCode {
            type Err = UnknownErrorCode;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownErrorCode) }
            }
        }
    };
}

error_codes! {
    AuthorizationMissing "authorization_missing" Pod false
        "The request has no Authorization header, or more than one."
        "Use an AWS SDK, which sends the token of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE."
    HostRefused "host_refused" Pod false
        "The Host header is not one of the agent's own addresses."
        "Use the address in AWS_CONTAINER_CREDENTIALS_FULL_URI, not a host name that resolves to it."
    NotFound "not_found" Pod false
        "The path does not exist, or does not support the method."
        "Request the credentials with GET /v1/credentials."
    RequestMalformed "request_malformed" Pod false
        "The service cannot parse the request."
        "Compare the request with the API model. The message names the invalid field."
    RequestTooLarge "request_too_large" Pod false
        "The request is larger than the service accepts."
        "Send a service account token of at most 12 KiB, and a request body of at most 32 KiB."
    TokenMalformed "token_malformed" Pod false
        "The token is not a JSON Web Token of a Kubernetes service account."
        "Project a service account token into the pod, as the webhook does. Send it unchanged, without a line feed."
    TokenAlgorithmRefused "token_algorithm_refused" Pod false
        "The token's signature algorithm is not supported, or is not the algorithm of its key."
        "Sign service account tokens with RS256, ES256 or ES384."
    TokenKeyUnknown "token_key_unknown" Operator true
        "The key that signed the token is not in the issuer's key set, or not yet."
        "After a key rotation, wait 30 s for the next fetch of the key set. Otherwise check that the JWKS URL belongs to the cluster."
    TokenSignatureInvalid "token_signature_invalid" Pod false
        "The token's signature does not verify with the key of its key id."
        "Check the cluster's JWKS URL, because another cluster's key may have the same id. If the URL is correct, the token was changed."
    TokenIssuerWrong "token_issuer_wrong" Operator false
        "The token's issuer is not an issuer of the cluster."
        "Set the cluster's issuer to the exact value of the API server's --service-account-issuer."
    TokenAudienceWrong "token_audience_wrong" Pod false
        "The token's audience is not the accepted one."
        "Project the token with audience pods.eks.amazonaws.com and no other."
    TokenExpired "token_expired" Pod false
        "The token has expired."
        "Read the token file again before each request, as AWS SDKs do. If the file is new, check the clocks."
    TokenNotYetValid "token_not_yet_valid" Operator false
        "The token was issued in the future."
        "Check the clocks of the API server and of this host: they differ by more than a minute."
    TokenNotPodBound "token_not_pod_bound" Pod false
        "The token is not bound to a pod."
        "Use a token that is projected into a pod. With `kubectl create token`, set --bound-object-kind Pod."
    TokenRefused "token_refused" Pod false
        "EKS Auth refuses the token without a reason."
        "Check that the token's audience is pods.eks.amazonaws.com, that it comes from this cluster, and that its pod and service account still exist."
    ClusterUnknown "cluster_unknown" Operator false
        "No cluster of this name is configured."
        "Set the agent's cluster name to one that is configured at the auth service, or add the cluster there."
    AssociationNotFound "association_not_found" Operator false
        "The service account has no association with a role."
        "Create an association for this cluster, namespace and service account."
    RoleTrustRefused "role_trust_refused" Operator false
        "STS does not allow the caller to assume the role for this pod."
        "Allow sts:AssumeRole and sts:TagSession in the role's trust policy for the caller in the message, with conditions that this pod meets. If the policy names an AWS account, or the caller is in another AWS account, the caller also needs an identity policy."
    SessionRefused "session_refused" Operator false
        "STS refuses the session of the association."
        "Correct the association's duration or policy. The message says which of them is invalid."
    CallerSessionHasTags "caller_session_has_tags" Operator false
        "The auth service's own role session has the same tags as transitive tags, so STS does not allow it to set them."
        "Run the auth service with a role session without transitive tags, not with one from Pod Identity. Or disable session tags on the association."
    CallerRefused "caller_refused" Operator false
        "The service does not accept the agent's signature, key or token."
        "Set the same --agent-auth for the agent and the auth service, with matching keys or an allowed service account."
    OwnCredentials "own_credentials" Operator true
        "The service has no own credentials, or they are not accepted."
        "Give the agent a token (--agent-token-file) or AWS credentials, and the auth service AWS credentials that STS accepts. The message says which are missing."
    NodeMismatch "node_mismatch" Operator false
        "The node in the pod's token is not the node of the agent, or one of them has no node."
        "Send requests only for pods of the agent's own node. Node claims need an API server of Kubernetes 1.30 or newer."
    PodDeleted "pod_deleted" Pod false
        "The token's pod no longer exists."
        "Use the token of a running pod. A pod that is created again under the same name has another token."
    PodAddressMismatch "pod_address_mismatch" Operator false
        "The request comes from another address than those of the token's pod."
        "Send the token only from its own pod. If a proxy or the node's network changes the source address, run the agent without --bind-pod-ip."
    OffNodePeer "off_node_peer" Operator false
        "The request comes from outside the agent's node."
        "Request credentials from a pod of this node. If the pod is on this node, its replies leave by a device with a default route, so run the agent with --off-node=warn."
    AccessDenied "access_denied" Operator false
        "EKS Auth denies access."
        "Allow eks-auth:AssumeRoleForPodIdentity for the node's role, and allow pods.eks.amazonaws.com in the trust policy of the associated role."
    SubjectMismatch "subject_mismatch" Service false
        "The upstream returned credentials for another service account or role than requested."
        "Report this bug. The credentials were discarded."
    ClockAhead "clock_ahead" Operator true
        "The credentials had already expired when they arrived, by the clock of the receiving host."
        "Correct the host's clock, for example with chrony. The message has its time and the expiry of the credentials."
    Throttled "throttled" Aws true
        "AWS or the auth service requests fewer calls."
        "Wait for the time in the response's Retry-After header."
    UpstreamUnavailable "upstream_unavailable" Aws true
        "The upstream did not respond, or responded that it is unavailable."
        "Check the endpoint, DNS, proxy and firewall between this service and the upstream."
    AuditUnwritten "audit_unwritten" Operator true
        "The auth service could not write the audit line of the exchange, and is configured to refuse it."
        "Free disk space, or restore the reader of the auth service's standard error. Or run the service with --audit-failure=drop."
    Internal "internal" Service true
        "An unexpected error occurred in the service."
        "Find the error in the service's log, and report it."
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error of parsing an [`ErrorCode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an error code of pod-identity")]
pub struct UnknownErrorCode;

/// Displays text from outside for messages: quoted, escaped, at most 80 characters.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(80) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
        }
    }
}

impl ErrorCode {
    /// Returns the code of an exception of EKS Auth (EKS Auth API reference, *AssumeRoleForPodIdentity*, Errors; AWS's
    /// *Common Errors*), or `None` for an unknown exception.
    #[doc(hidden)]
    pub fn of_eks_auth(exception: &str) -> Option<Self> {
        Some(match exception {
            "ResourceNotFoundException" => Self::AssociationNotFound,
            "ExpiredTokenException" => Self::TokenExpired,
            "InvalidTokenException" => Self::TokenRefused,
            "AccessDeniedException" => Self::AccessDenied,
            "InvalidParameterException" | "InvalidRequestException" => Self::RequestMalformed,
            "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded" => Self::Throttled,
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException"
            | "InvalidClientTokenId" => Self::CallerRefused,
            "InternalServerException" | "ServiceUnavailableException" => Self::UpstreamUnavailable,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_code_from_its_text() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("".parse::<ErrorCode>(), Err(UnknownErrorCode));
    }

    #[test]
    fn quoted_text_is_cut_and_escaped() {
        assert_eq!(Quoted("a\nb").to_string(), r#""a\nb""#);
        assert!(Quoted(&"é".repeat(500)).to_string().len() < 200);
    }

    #[test]
    fn every_exception_of_eks_auth_has_a_code() {
        for (exception, meaning) in [
            ("ResourceNotFoundException", ErrorCode::AssociationNotFound),
            ("ExpiredTokenException", ErrorCode::TokenExpired),
            ("InvalidTokenException", ErrorCode::TokenRefused),
            ("AccessDeniedException", ErrorCode::AccessDenied),
            ("InvalidParameterException", ErrorCode::RequestMalformed),
            ("InvalidRequestException", ErrorCode::RequestMalformed),
            ("ThrottlingException", ErrorCode::Throttled),
            ("InternalServerException", ErrorCode::UpstreamUnavailable),
            ("ServiceUnavailableException", ErrorCode::UpstreamUnavailable),
        ] {
            assert_eq!(ErrorCode::of_eks_auth(exception), Some(meaning), "{exception}");
        }
        assert_eq!(ErrorCode::of_eks_auth("SomethingNew"), None);
    }
}

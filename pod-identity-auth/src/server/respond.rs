//! The wire format of EKS Auth's answers (its API model, rest-json).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use pod_identity_core::association::{Association, LookupError};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::token::{InvalidBearerToken, POD_IDENTITY_AUDIENCE, TokenError};
use pod_identity_runtime::http::{BodyError, json, json_bytes, retry_after};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::sigv4::SigV4Error;
use crate::sts::{RoleSessionCredentials, StsError};

/// Why a request gets no credentials.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    exception: Exception,
    /// When STS wants to be asked again, if it says so.
    retry_after: Option<Duration>,
}

/// An error of the API model (or of AWS's common errors), with its HTTP status.
type Exception = (&'static str, StatusCode);

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exception: exception(code), retry_after: None }
    }
}

/// Statuses are those of the model: `AccessDeniedException` is 400 there, not 403.
fn exception(code: ErrorCode) -> Exception {
    match code {
        ErrorCode::AssociationNotFound | ErrorCode::ClusterUnknown => {
            ("ResourceNotFoundException", StatusCode::NOT_FOUND)
        }
        ErrorCode::NotFound => ("UnknownOperationException", StatusCode::NOT_FOUND),
        ErrorCode::RequestMalformed | ErrorCode::RequestTooLarge => {
            ("InvalidParameterException", StatusCode::BAD_REQUEST)
        }
        ErrorCode::TokenExpired => ("ExpiredTokenException", StatusCode::BAD_REQUEST),
        ErrorCode::TokenMalformed
        | ErrorCode::TokenAlgorithmRefused
        | ErrorCode::TokenSignatureInvalid
        | ErrorCode::TokenIssuerWrong
        | ErrorCode::TokenAudienceWrong
        | ErrorCode::TokenNotYetValid
        | ErrorCode::TokenNotPodBound
        | ErrorCode::TokenRefused => ("InvalidTokenException", StatusCode::BAD_REQUEST),
        ErrorCode::RoleTrustRefused | ErrorCode::NodeMismatch | ErrorCode::AccessDenied => {
            ("AccessDeniedException", StatusCode::BAD_REQUEST)
        }
        ErrorCode::SessionRefused | ErrorCode::CallerSessionHasTags => {
            ("InvalidRequestException", StatusCode::BAD_REQUEST)
        }
        ErrorCode::CallerRefused => ("UnrecognizedClientException", StatusCode::FORBIDDEN),
        ErrorCode::Throttled => ("ThrottlingException", StatusCode::TOO_MANY_REQUESTS),
        ErrorCode::TokenKeyUnknown
        | ErrorCode::UpstreamUnavailable
        | ErrorCode::OwnCredentials
        | ErrorCode::AuditUnwritten
        | ErrorCode::ClockAhead => ("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
        ErrorCode::AuthorizationMissing
        | ErrorCode::HostRefused
        | ErrorCode::SubjectMismatch
        | ErrorCode::Internal => ("InternalServerException", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

macro_rules! refusals {
    ($($error:ty),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error.to_string())
            }
        }
    )*};
}

refusals!(TokenError, InvalidBearerToken, LookupError);

impl From<&StsError> for Refusal {
    fn from(error: &StsError) -> Self {
        Self { retry_after: error.retry_after(), ..Self::new(error.code(), error.to_string()) }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => ErrorCode::RequestTooLarge,
            BodyError::TooSlow { .. } | BodyError::Broken(_) => ErrorCode::RequestMalformed,
        };
        Self::new(code, error.to_string())
    }
}

/// AWS names the ways in which a signature fails (EKS API reference, *Common Errors*).
impl From<SigV4Error> for Refusal {
    fn from(error: SigV4Error) -> Self {
        let name = match error {
            SigV4Error::Missing | SigV4Error::Presigned => "MissingAuthenticationTokenException",
            SigV4Error::UnknownAccessKey => "UnrecognizedClientException",
            SigV4Error::Malformed(_) | SigV4Error::UnsignedHeader(_) => "IncompleteSignatureException",
            _ => "InvalidSignatureException",
        };
        Self {
            code: ErrorCode::CallerRefused,
            message: error.to_string(),
            exception: (name, StatusCode::FORBIDDEN),
            retry_after: None,
        }
    }
}

/// A successful answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    subject: Subject,
    audience: &'static str,
    pod_identity_association: PodIdentityAssociation,
    assumed_role_user: AssumedRoleUser,
    credentials: Credentials,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    namespace: String,
    service_account: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodIdentityAssociation {
    association_arn: String,
    association_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssumedRoleUser {
    arn: String,
    assume_role_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    session_token: Zeroizing<String>,
    secret_access_key: Zeroizing<String>,
    access_key_id: String,
    /// Seconds since 1970, as a number: Rust's SDK reads nothing else.
    expiration: u64,
}

impl Answer {
    pub(super) fn new(
        cluster: &Cluster,
        association: &Association,
        session: &RoleSessionCredentials,
    ) -> Result<Self, Refusal> {
        let credentials = &session.credentials;
        let expiration = credentials
            .expires_at
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|_| Refusal::new(ErrorCode::Internal, "STS gave an expiration before 1970"))?;
        Ok(Self {
            subject: Subject {
                namespace: association.namespace.to_string(),
                service_account: association.service_account.to_string(),
            },
            audience: POD_IDENTITY_AUDIENCE,
            pod_identity_association: PodIdentityAssociation {
                association_arn: cluster.association_arn(association.id.as_str()),
                association_id: association.id.to_string(),
            },
            assumed_role_user: AssumedRoleUser {
                arn: session.assumed_role_arn.to_string(),
                assume_role_id: session.assumed_role_id.clone(),
            },
            credentials: Credentials {
                session_token: credentials.session_token.clone(),
                secret_access_key: credentials.secret_access_key.clone(),
                access_key_id: credentials.access_key_id.clone(),
                expiration: expiration.as_secs(),
            },
        })
    }
}

/// The answer, in a buffer that is overwritten once it has been sent.
pub(super) fn success(answer: &Answer, request_id: &str) -> Response<Full<Bytes>> {
    let credentials = &answer.credentials;
    // Room for all of it: a buffer that grows leaves copies of the secrets behind.
    let room = 2048 + credentials.session_token.len() + credentials.secret_access_key.len();
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    match serde_json::to_writer(&mut *body, answer) {
        Ok(()) => with_request_id(json_bytes(StatusCode::OK, Bytes::from_owner(body)), request_id),
        Err(error) => {
            let reason = format!("the answer cannot be written as JSON: {error}");
            refusal(&Refusal::new(ErrorCode::Internal, reason), request_id)
        }
    }
}

/// An error as botocore and the other SDKs read it: by header or by `__type`. Cause, fix and code
/// all stand in the message, because that is what AWS's agent hands on to the pod.
pub(super) fn refusal(refusal: &Refusal, request_id: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        kind: &'a str,
        message: String,
    }
    let (kind, status) = refusal.exception;
    let message =
        format!("{}. {} [{}]", refusal.message.trim_end_matches('.'), refusal.code.fix(), refusal.code);
    let mut response = with_request_id(json(status, &Body { kind, message }), request_id);
    let headers = response.headers_mut();
    headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
    headers.insert(CODE_HEADER, HeaderValue::from_static(refusal.code.as_str()));
    if refusal.code.is_retryable() {
        headers.insert(http::header::RETRY_AFTER, retry_after(refusal.retry_after));
    }
    response
}

fn with_request_id(mut response: Response<Full<Bytes>>, request_id: &str) -> Response<Full<Bytes>> {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_error_codes_has_these_exceptions() {
        let page = include_str!("../../../docs/errors.md");
        for code in ErrorCode::ALL {
            let heading = format!("\n## {code}\n");
            let section =
                page.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
            let (name, status) = exception(*code);
            let line = format!("\n- Auth service: `{name}`, HTTP {}\n", status.as_u16());
            let said = |section: &str| {
                section.contains(&line) || section.contains("\n- Auth service: does not occur\n")
            };
            assert!(section.is_some_and(said), "docs/errors.md, {code}: {line}");
        }
    }
}

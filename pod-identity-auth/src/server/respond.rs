//! The wire format of EKS Auth's responses (its API model, rest-json).

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use pod_identity_core::error::{CODE_HEADER, ErrorCode};
use pod_identity_core::service::{AuthorizedPod, CredentialError, Credentials};
use pod_identity_core::token::POD_IDENTITY_AUDIENCE;
use pod_identity_runtime::http::{BodyError, json, json_bytes, retry_after};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::sigv4::SigV4Error;

/// An error response.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    exception: Exception,
    /// The pause that STS requested.
    retry_after: Option<Duration>,
}

/// An error of the API model (or of AWS's common errors), with its HTTP status.
type Exception = (&'static str, StatusCode);

impl ErrorResponse {
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
        // Internal errors of the service, and codes that only the agent uses.
        _ => ("InternalServerException", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl From<CredentialError> for ErrorResponse {
    fn from(error: CredentialError) -> Self {
        Self { retry_after: error.retry_after(), ..Self::new(error.code(), error.message()) }
    }
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } => ErrorCode::RequestTooLarge,
            BodyError::TooSlow { .. } | BodyError::Broken(_) => ErrorCode::RequestMalformed,
        };
        Self::new(code, error.to_string())
    }
}

/// AWS has a name for each kind of signature error (EKS API reference, *Common Errors*).
impl From<SigV4Error> for ErrorResponse {
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

/// The body of a successful response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssumeRoleResponse<'a> {
    subject: ResponseSubject<'a>,
    audience: &'static str,
    pod_identity_association: AssociationReference<'a>,
    assumed_role_user: AssumedRoleUser<'a>,
    credentials: ResponseCredentials<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseSubject<'a> {
    namespace: &'a str,
    service_account: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssociationReference<'a> {
    association_arn: String,
    association_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AssumedRoleUser<'a> {
    arn: &'a str,
    assume_role_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseCredentials<'a> {
    session_token: &'a str,
    secret_access_key: &'a str,
    access_key_id: &'a str,
    /// Seconds since 1970 as a number, because the SDK for Rust reads no other form.
    expiration: u64,
}

/// Makes the response with a pod's credentials. Its buffer is zeroed after it is sent.
pub(super) fn success(
    pod: &AuthorizedPod,
    credentials: &Credentials,
    request_id: &str,
) -> Result<Response<Full<Bytes>>, ErrorResponse> {
    let (association, session) = (pod.association(), credentials.session());
    let internal = |reason: String| ErrorResponse::new(ErrorCode::Internal, reason);
    let expires_at = session.expires_at().duration_since(UNIX_EPOCH);
    let expires_at = expires_at.map_err(|_| internal("STS gave an expiration before 1970".to_owned()))?;
    let role =
        session.assumed_role().ok_or_else(|| internal("the session has no assumed role".to_owned()))?;
    let body = AssumeRoleResponse {
        subject: ResponseSubject {
            namespace: association.namespace.as_str(),
            service_account: association.service_account.as_str(),
        },
        audience: POD_IDENTITY_AUDIENCE,
        pod_identity_association: AssociationReference {
            association_arn: pod.cluster().association_arn(association.id.as_str()),
            association_id: association.id.as_str(),
        },
        assumed_role_user: AssumedRoleUser { arn: role.arn.as_str(), assume_role_id: &role.id },
        credentials: ResponseCredentials {
            session_token: session.session_token(),
            secret_access_key: session.secret_access_key(),
            access_key_id: session.access_key_id(),
            expiration: expires_at.as_secs(),
        },
    };
    // The capacity fits the whole response: a growing buffer would leave copies of the secrets in memory.
    let capacity = 2048 + session.session_token().len() + session.secret_access_key().len();
    let mut json = Zeroizing::new(Vec::with_capacity(capacity));
    serde_json::to_writer(&mut *json, &body)
        .map_err(|error| internal(format!("the response cannot be written as JSON: {error}")))?;
    Ok(with_request_id(json_bytes(StatusCode::OK, Bytes::from_owner(json)), request_id))
}

/// Makes an error response. SDKs read the exception from the header or from `__type`. The message has cause, fix and
/// code, because AWS's agent passes only the message to the pod.
pub(super) fn error(error: &ErrorResponse, request_id: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        kind: &'a str,
        message: String,
    }
    let ErrorResponse { code, message, exception: (kind, status), .. } = error;
    let message = format!("{}. {} [{code}]", message.trim_end_matches('.'), code.fix());
    let mut response = with_request_id(json(*status, &Body { kind, message }), request_id);
    let headers = response.headers_mut();
    headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
    headers.insert(CODE_HEADER, HeaderValue::from_static(code.as_str()));
    if code.is_retryable() {
        headers.insert(http::header::RETRY_AFTER, retry_after(error.retry_after));
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
    fn docs_list_the_exception_of_every_error_code() {
        let page = include_str!("../../../docs/reference/errors.md");
        for code in ErrorCode::ALL {
            let heading = format!("\n## {code}\n");
            let section =
                page.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
            let (name, status) = exception(*code);
            let line = format!("\n- Auth service: `{name}`, HTTP {}\n", status.as_u16());
            let documented = |section: &str| {
                section.contains(&line) || section.contains("\n- Auth service: does not occur\n")
            };
            assert!(section.is_some_and(documented), "docs/reference/errors.md, {code}: {line}");
        }
    }
}

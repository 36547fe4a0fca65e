//! Errors of requests that are not reviews. An API server could not match a response to such a request, so they get an HTTP
//! error, and the webhook's `failurePolicy` decides about the pod.

use bytes::Bytes;
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use pod_identity_runtime::http::{BodyError, plain, retry_after};

use pod_identity_core::inject::{InvalidReview, MAX_REVIEW_BYTES};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(
        "the path does not exist: use POST /mutate, /mutate/inject, /mutate/require or /mutate/inject/require, or \
         GET /healthz"
    )]
    NotFound,
    #[error("the method is not allowed: use {allowed}")]
    Method { allowed: &'static str },
    #[error("the Content-Type is not application/json: set it")]
    MediaType,
    #[error(
        "the connection has no client certificate of a CA in --client-ca-file: configure the API server's --admission-control-config-file with a kubeConfigFile for this webhook"
    )]
    NoClientCertificate,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the memory for large reviews is in use: retry")]
    Busy,
    #[error(transparent)]
    Review(#[from] InvalidReview),
}

impl RequestError {
    pub(super) fn too_large() -> Self {
        Self::Body(BodyError::TooLarge { limit: MAX_REVIEW_BYTES })
    }

    /// Returns the error as a metric's label.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Method { .. } => "method",
            Self::MediaType => "media_type",
            Self::NoClientCertificate => "no_client_certificate",
            Self::Body(BodyError::TooLarge { .. }) | Self::Review(InvalidReview::TooLarge) => "too_large",
            Self::Body(BodyError::TooSlow { .. }) => "too_slow",
            Self::Body(BodyError::Broken(_)) => "broken_off",
            Self::Busy => "busy",
            Self::Review(_) => "no_review",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyError::TooLarge { .. }) | Self::Review(InvalidReview::TooLarge) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Body(BodyError::TooSlow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::NoClientCertificate => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(BodyError::Broken(_)) | Self::Review(_) => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = plain(self.status(), format!("{self}\n"));
        match self {
            Self::Method { allowed } => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Busy => {
                response.headers_mut().insert(RETRY_AFTER, retry_after(None));
            }
            _ => {}
        }
        response
    }
}

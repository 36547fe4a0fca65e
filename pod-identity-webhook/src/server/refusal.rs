//! Requests that are no reviews. There is no answer that an API server could match to a question, so they get an
//! error of HTTP; the webhook's `failurePolicy` decides about the pod.

use bytes::Bytes;
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use pod_identity_runtime::http::{BodyError, plain, retry_after};

use pod_identity_core::inject::{InvalidReview, MAX_REVIEW_BYTES};

/// Why a request has no other answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "here are POST /mutate, /mutate/inject, /mutate/require and /mutate/inject/require, and GET /healthz"
    )]
    NotFound,
    #[error("only {allowed} here")]
    Method { allowed: &'static str },
    #[error("the Content-Type has to be application/json")]
    MediaType,
    #[error(
        "a review needs a client certificate that a CA in --client-ca-file signed, and this connection has none: \
         configure the API server's --admission-control-config-file with a kubeConfigFile for this webhook"
    )]
    NoClientCertificate,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("too many large reviews are being read")]
    Busy,
    #[error(transparent)]
    Review(#[from] InvalidReview),
}

impl Refusal {
    pub(super) fn too_large() -> Self {
        Self::Body(BodyError::TooLarge { limit: MAX_REVIEW_BYTES })
    }

    /// The refusal as a metric's label.
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

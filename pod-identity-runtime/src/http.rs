//! Request bodies within limits, and responses.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;

/// Maximum time for a client to send a request body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of reading a request body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than the limit.
    #[error("the request body is too large, want at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the request body did not arrive within {} s", .patience.as_secs())]
    TooSlow {
        /// The maximum time.
        patience: Duration,
    },
    /// The connection failed.
    #[error("the request body could not be read: {0}")]
    Broken(String),
}

/// Reads a whole body of at most `limit` bytes, within [`BODY_TIMEOUT`].
///
/// # Errors
/// [`BodyError`] if the body is too large, too slow or incomplete.
pub async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    read_body_within(body, limit, BODY_TIMEOUT).await
}

/// Reads a whole body of at most `limit` bytes, within `patience`.
///
/// # Errors
/// [`BodyError`] if the body is too large, too slow or incomplete.
pub async fn read_body_within(body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, BodyError> {
    // A declared length is checked before the body arrives.
    if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let read = tokio::time::timeout(patience, Limited::new(body, limit).collect()).await;
    match read.map_err(|_| BodyError::TooSlow { patience })? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit }),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

/// Default `Retry-After` in seconds, about as long as SDKs wait.
const RETRY_AFTER_SECONDS: u64 = 2;

/// Returns the header `Retry-After` of a retryable response (RFC 9110, section 10.2.3): whole seconds, rounded up,
/// because an earlier retry fails again.
pub fn retry_after(pause: Option<Duration>) -> HeaderValue {
    let whole = |pause: Duration| pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0));
    HeaderValue::from(pause.map_or(RETRY_AFTER_SECONDS, |pause| whole(pause).max(1)))
}

/// Returns a response with a JSON body. The content type is exactly `application/json`, because the SDK for Go reads
/// error bodies only with it. The response must not be cached.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(status, body.into()),
        Err(error) => {
            tracing::error!(%error, "response not written as JSON");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        }
    }
}

/// Returns a response with a body that is already JSON.
pub fn json_bytes(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    answer(status, "application/json", body)
}

/// Returns a response of plain text.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// Returns a response of any content type.
pub fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_never_shorter_than_the_pause() {
        let seconds = |pause: Option<f64>| {
            let header = retry_after(pause.map(Duration::from_secs_f64));
            header.to_str().unwrap().parse::<u64>().unwrap()
        };
        let told = [None, Some(0.0), Some(0.2), Some(3.0), Some(3.2)].map(seconds);
        assert_eq!(told, [RETRY_AFTER_SECONDS, 1, 1, 3, 4]);
        assert!(!retry_after(Some(Duration::MAX)).is_empty());
    }
}

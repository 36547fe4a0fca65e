//! Reading bodies within limits, and writing answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;

/// How long a client may take to send a request's body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than are read.
    #[error("the request's body has more than {limit} bytes")]
    TooLarge {
        /// How many would have been read.
        limit: usize,
    },
    /// It took longer than it may.
    #[error("the request's body did not arrive within {} s", .patience.as_secs())]
    TooSlow {
        /// How long it may take.
        patience: Duration,
    },
    /// The connection failed.
    #[error("the request's body could not be read: {0}")]
    Broken(String),
}

/// Reads a whole body of at most `limit` bytes, within [`BODY_TIMEOUT`].
///
/// # Errors
/// [`BodyError`] where it is too large, too slow or broken off.
pub async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    read_body_within(body, limit, BODY_TIMEOUT).await
}

/// The same, for clients that may take another time.
///
/// # Errors
/// [`BodyError`] where it is too large, too slow or broken off.
pub async fn read_body_within(body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, BodyError> {
    // An announced length is refused at once, not when so much has arrived.
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

/// When to ask again, in seconds, where nobody says: what SDKs wait, about.
const RETRY_AFTER_SECONDS: u64 = 2;

/// The header `Retry-After` of what may be asked again (RFC 9110, section 10.2.3): whole seconds, so a
/// pause that was asked for is rounded up. Who comes back early is refused once more.
pub fn retry_after(pause: Option<Duration>) -> HeaderValue {
    let whole = |pause: Duration| pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0));
    HeaderValue::from(pause.map_or(RETRY_AFTER_SECONDS, |pause| whole(pause).max(1)))
}

/// An answer with a JSON body. The content type is exactly `application/json`: Go's SDK reads
/// error bodies under no other. Nothing on the way may keep it.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(status, body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        }
    }
}

/// An answer with a body that is JSON already.
pub fn json_bytes(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    answer(status, "application/json", body)
}

/// An answer of plain text.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// An answer of any type.
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
    fn nobody_is_told_to_ask_before_the_pause_is_over() {
        let seconds = |pause: Option<f64>| {
            let header = retry_after(pause.map(Duration::from_secs_f64));
            header.to_str().unwrap().parse::<u64>().unwrap()
        };
        let told = [None, Some(0.0), Some(0.2), Some(3.0), Some(3.2)].map(seconds);
        assert_eq!(told, [RETRY_AFTER_SECONDS, 1, 1, 3, 4]);
        assert!(!retry_after(Some(Duration::MAX)).is_empty());
    }
}

//! Errors of the service, and their HTTP responses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cache::UnusableResponse;
use crate::error::{Blame, CacheEffect, ErrorCode, UpstreamError};
use crate::token::TokenError;

/// Default `Retry-After` of a retryable error.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The error of a request for credentials.
///
/// A [`CredentialSource`](super::CredentialSource) or the service makes it. The embedder's HTTP server sends
/// [`status`](Self::status), [`headers`](Self::headers) and [`body`](Self::body), the same response as our agent's.
/// The [`ErrorCode`] determines the effect on the cache: an error about the service account drops its credentials, an
/// error about the upstream keeps them in use. Clones share the data.
///
/// | code | cached credentials |
/// |---|---|
/// | `AssociationNotFound`, `RoleTrustRefused`, `SessionRefused` | dropped |
/// | `TokenExpired`, `TokenRefused` and other errors about the token | stay; the token is refused for 1 to 2 s |
/// | every other code, for example `UpstreamUnavailable`, `Throttled`, `Internal` | stay |
///
/// ```
/// use std::time::Duration;
///
/// use pod_identity_core::error::ErrorCode;
/// use pod_identity_core::service::CredentialError;
///
/// let error = CredentialError::unavailable("the vault is sealed");
/// assert_eq!((error.status(), error.retry_after()), (503, Some(Duration::from_secs(2))));
///
/// let error = CredentialError::new(ErrorCode::AssociationNotFound, "the vault knows no role for shop/cart");
/// assert_eq!((error.status(), error.retry_after()), (404, None));
/// assert!(error.to_string().ends_with("[association_not_found]"));
/// ```
#[derive(Debug, Clone)]
pub struct CredentialError(Arc<Data>);

#[derive(Debug, Clone)]
struct Data {
    code: ErrorCode,
    message: String,
    /// Whether the message already contains the fix and the code.
    complete: bool,
    effect: CacheEffect,
    retry_after: Option<Duration>,
    attempt_again: bool,
    slow_down: bool,
}

impl CredentialError {
    /// Makes an error. The service adds the [fix](ErrorCode::fix) of the code to the message. The fixes are for our
    /// agent. For another backend, write the fix into the message and call
    /// [`with_complete_message`](Self::with_complete_message).
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Arc::new(Data {
            code,
            message: message.into(),
            complete: false,
            effect: effect(code),
            retry_after: None,
            attempt_again: false,
            slow_down: false,
        }))
    }

    /// Makes an error for an upstream that sent no response. The service repeats the call within its deadline. Cached
    /// credentials stay in use.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::UpstreamUnavailable, message).attempt_again(true)
    }

    /// Makes an error for an upstream that requests fewer calls. The service halves the rate of its calls, waits for
    /// `retry_after` (at most 30 s), and repeats the call within its deadline.
    pub fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self::new(ErrorCode::Throttled, message)
            .with_retry_after(retry_after)
            .slow_down(true)
            .attempt_again(true)
    }

    fn with(mut self, change: impl FnOnce(&mut Data)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets the time after which the same request may succeed.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        self.with(|data| data.retry_after = retry_after)
    }

    /// Sets whether the service repeats the call within its deadline.
    #[must_use]
    pub fn attempt_again(self, attempt_again: bool) -> Self {
        self.with(|data| data.attempt_again = attempt_again)
    }

    /// Sets whether the service makes fewer calls for a while.
    #[must_use]
    pub fn slow_down(self, slow_down: bool) -> Self {
        self.with(|data| data.slow_down = slow_down)
    }

    /// Marks the message as complete: it already contains the fix and the code of the upstream.
    #[must_use]
    pub fn with_complete_message(self) -> Self {
        self.with(|data| data.complete = true)
    }

    /// Marks an error about the service account as possibly outdated, for an upstream that is eventually consistent.
    /// Credentials are dropped when the error is repeated for 30 s.
    #[must_use]
    pub fn eventually_consistent(self) -> Self {
        self.with(|data| {
            if data.effect == CacheEffect::RefusesIdentity {
                data.effect = CacheEffect::UnconfirmedRefusal;
            }
        })
    }

    /// Marks an error that leaves cached credentials in use, regardless of its code.
    #[must_use]
    pub fn keeps_credentials(self) -> Self {
        self.with(|data| data.effect = CacheEffect::CallFailed)
    }

    /// Returns the stable code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Returns the message without fix and code.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn is_attempted_again(&self) -> bool {
        self.0.attempt_again
    }

    pub(super) fn slows_down(&self) -> bool {
        self.0.slow_down
    }

    /// Returns the pause that the upstream requested.
    pub(super) fn requested_pause(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the HTTP status.
    ///
    /// A retryable error is a 503, throttling too, because the SDKs for Rust and Java do not retry a 429. Every other
    /// error is a 4xx, or a 500 for a fault of the service.
    pub fn status(&self) -> u16 {
        status(self.code())
    }

    /// Returns the value of the `Retry-After` header in whole seconds, for retryable errors. It is rounded up, because
    /// an earlier retry fails again.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = self.0.retry_after.unwrap_or(DEFAULT_RETRY_AFTER);
        let whole = asked.as_secs().saturating_add(u64::from(asked.subsec_nanos() > 0));
        self.code().is_retryable().then(|| Duration::from_secs(whole.max(1)))
    }

    /// Returns the HTTP headers: the content type, and `Retry-After` for retryable errors. The SDK for Go reads the
    /// body only with this content type.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(self.retry_after().map(|pause| ("retry-after", pause.as_secs().to_string())));
        headers
    }

    /// Returns the JSON body. The SDK for Rust reads `Code` and `Message`. The SDKs for Go, Java and JavaScript read
    /// `code` and `message`. The SDK for Python prints the whole body.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(rename = "Code")]
            code_again: &'a str,
            #[serde(rename = "Message")]
            message_again: &'a str,
        }
        let (code, message) = (self.code().as_str(), self.to_string());
        let body = Body { code, message: &message, code_again: code, message_again: &message };
        // Serializing strings does not fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Data { code, message, complete, .. } = &*self.0;
        if *complete {
            return f.write_str(message);
        }
        write!(f, "{}. {} [{code}]", message.trim_end_matches('.'), code.fix())
    }
}

impl std::error::Error for CredentialError {}

impl UpstreamError for CredentialError {
    fn effect(&self) -> CacheEffect {
        self.0.effect
    }
}

impl From<TokenError> for CredentialError {
    fn from(error: TokenError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<UnusableResponse> for CredentialError {
    fn from(response: UnusableResponse) -> Self {
        let code = match response {
            UnusableResponse::OtherIdentity { .. } => ErrorCode::SubjectMismatch,
            UnusableResponse::Expired { .. } => ErrorCode::ClockAhead,
        };
        Self::new(code, response.to_string())
    }
}

/// Returns the effect of a code on the cache.
fn effect(code: ErrorCode) -> CacheEffect {
    match code {
        ErrorCode::AssociationNotFound | ErrorCode::RoleTrustRefused | ErrorCode::SessionRefused => {
            CacheEffect::RefusesIdentity
        }
        ErrorCode::TokenMalformed
        | ErrorCode::TokenAlgorithmRefused
        | ErrorCode::TokenSignatureInvalid
        | ErrorCode::TokenIssuerWrong
        | ErrorCode::TokenAudienceWrong
        | ErrorCode::TokenExpired
        | ErrorCode::TokenNotYetValid
        | ErrorCode::TokenNotPodBound
        // A retry may help, but it must wait a moment and must not delay other pods.
        | ErrorCode::TokenKeyUnknown
        | ErrorCode::TokenRefused => CacheEffect::RefusesToken,
        ErrorCode::ClockAhead => CacheEffect::UnusableCredentials,
        // Every other error is about the upstream or the network path to it.
        _ => CacheEffect::CallFailed,
    }
}

fn status(code: ErrorCode) -> u16 {
    match (code, code.blame()) {
        (_, _) if code.is_retryable() && code != ErrorCode::Internal => 503,
        (ErrorCode::HostRefused | ErrorCode::PodDeleted, _) => 403,
        (ErrorCode::NotFound | ErrorCode::AssociationNotFound | ErrorCode::ClusterUnknown, _) => 404,
        (ErrorCode::CallerRefused, _) | (_, Blame::Service) => 500,
        (ErrorCode::RequestTooLarge, _) => 413,
        (_, Blame::Pod) => 400,
        (_, Blame::Operator | Blame::Aws) => 403,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_sdks_handle() {
        for code in ErrorCode::ALL {
            let status = status(*code);
            assert!((400..600).contains(&status) && status != 429, "{code}");
            if code.is_retryable() {
                assert!(status >= 500, "{code} is retryable, but SDKs do not retry {status}");
            }
        }
    }

    #[test]
    fn errors_page_has_the_status_of_each_code() {
        let page = include_str!("../../../docs/reference/errors.md");
        for code in ErrorCode::ALL {
            let heading = format!("\n## {code}\n");
            let section =
                page.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
            let line = format!("\n- Agent: HTTP {}\n", status(*code));
            assert!(
                section.is_some_and(|section| section.contains(&line)),
                "docs/reference/errors.md, {code}: {line}"
            );
        }
    }

    #[test]
    fn retry_after_is_never_shorter_than_the_pause() {
        let seconds = |pause: Option<f64>| {
            let error = CredentialError::throttled("", pause.map(Duration::from_secs_f64));
            error.retry_after().unwrap().as_secs()
        };
        assert_eq!([None, Some(0.0), Some(0.2), Some(3.0), Some(3.2)].map(seconds), [2, 1, 1, 3, 4]);
        assert_eq!(CredentialError::new(ErrorCode::TokenExpired, "").retry_after(), None);
    }
}

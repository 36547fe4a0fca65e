//! Error answers: every SDK shows its user what it can read of them.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use http_body_util::Full;
use pod_identity_core::error::{Blame, ErrorCode};
use pod_identity_runtime::http::{json, retry_after};
use pod_identity_runtime::listener::Peer;
use serde::Serialize;

use crate::exchange::ExchangeError;

/// Why a request gets no credentials.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// When to ask again, where that is known better than by habit.
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal of the agent's own: the fix is added to the message.
    pub(super) fn new(code: ErrorCode, message: impl AsRef<str>) -> Self {
        let message = format!("{}. {} [{code}]", message.as_ref().trim_end_matches('.'), code.fix());
        Self { code, message, retry_after: None }
    }

    /// Logs the refusal: an error if an upstream answered for another pod, a warning if an operator can act.
    pub(super) fn log(&self, peer: Peer, suppressed: u64) {
        let (peer, code, message) = (peer.address, self.code.as_str(), &self.message);
        match self.code.blame() {
            _ if self.code == ErrorCode::SubjectMismatch => {
                tracing::error!(%peer, code, message, suppressed, "request refused");
            }
            Blame::Pod => tracing::debug!(%peer, code, message, suppressed, "request refused"),
            _ => tracing::warn!(%peer, code, message, suppressed, "request refused"),
        }
    }

    /// The answer. `Code` and `Message` are what Rust's SDK reads, `code` and `message` what those
    /// of Go, Java and JavaScript do; Python shows the whole body.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(rename = "Code")]
            code_again: &'a str,
            #[serde(rename = "Message")]
            message_again: &'a str,
        }
        let code = self.code.as_str();
        let body = Body { code, message: &self.message, code_again: code, message_again: &self.message };
        let mut response = json(status(self.code), &body);
        if self.code.is_retryable() {
            response.headers_mut().insert(RETRY_AFTER, retry_after(self.retry_after));
        }
        response
    }
}

impl From<&ExchangeError> for Refusal {
    fn from(error: &ExchangeError) -> Self {
        let refusal = match error {
            ExchangeError::Refused { code, message, .. } => {
                Self { code: *code, message: message.clone(), retry_after: None }
            }
            ExchangeError::KeyNotThereYet { message } => {
                Self { code: error.code(), message: message.clone(), retry_after: None }
            }
            error => Self::new(error.code(), error.to_string()),
        };
        Self { retry_after: error.retry_after(), ..refusal }
    }
}

/// What may pass by itself is a 503, throttling too: the SDKs of Rust and Java give up on a 429.
/// What does not is a 4xx, which no SDK but JavaScript's and Python's asks again for.
fn status(code: ErrorCode) -> StatusCode {
    match (code, code.blame()) {
        (_, _) if code.is_retryable() && code != ErrorCode::Internal => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorCode::HostRefused, _) => StatusCode::FORBIDDEN,
        (ErrorCode::NotFound | ErrorCode::AssociationNotFound | ErrorCode::ClusterUnknown, _) => {
            StatusCode::NOT_FOUND
        }
        (ErrorCode::CallerRefused, _) | (_, Blame::Service) => StatusCode::INTERNAL_SERVER_ERROR,
        (ErrorCode::RequestTooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Blame::Pod) => StatusCode::BAD_REQUEST,
        (_, Blame::Operator | Blame::Aws) => StatusCode::FORBIDDEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_sdks_treat_rightly() {
        for code in ErrorCode::ALL {
            let status = status(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
            assert_ne!(status, StatusCode::TOO_MANY_REQUESTS, "{code}");
            if code.is_retryable() {
                assert!(status.is_server_error(), "{code} may be asked again, but SDKs give up on {status}");
            }
        }
    }

    #[test]
    fn the_page_of_error_codes_has_these_statuses() {
        let page = include_str!("../../../docs/errors.md");
        for code in ErrorCode::ALL {
            let heading = format!("\n## {code}\n");
            let section =
                page.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
            let line = format!("\n- Agent: HTTP {}\n", status(*code).as_u16());
            assert!(section.is_some_and(|section| section.contains(&line)), "docs/errors.md, {code}: {line}");
        }
    }
}

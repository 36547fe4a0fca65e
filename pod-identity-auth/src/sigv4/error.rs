//! Errors of signature verification.

use std::time::Duration;

/// Maximum difference between a request's date and this clock, as at AWS (IAM user guide, *Troubleshoot Signature
/// Version 4 requests*).
pub(super) const SKEW_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigV4Error {
    /// The request has no `Authorization` header.
    #[error("the request is not signed: sign it with AWS Signature Version 4, in the Authorization header")]
    Missing,
    /// The signature is in the query string.
    #[error(
        "the request is presigned (X-Amz-* in its query): send the signature in the Authorization header"
    )]
    Presigned,
    /// The form of the signature is invalid. The text names the fault.
    #[error("the request's signature cannot be read: {0}")]
    Malformed(String),
    /// A header is not signed that must be.
    #[error(
        "the header {0} is not among the signed headers: sign host, content-type and every x-amz-* header"
    )]
    UnsignedHeader(String),
    /// The signature does not cover the body.
    #[error("x-amz-content-sha256 is {0}, want a SHA-256: sign the payload")]
    UnsignedPayload(String),
    /// The body is not the signed one.
    #[error("the body's SHA-256 is not the one in x-amz-content-sha256: send the body that was signed")]
    PayloadMismatch,
    /// The scope of the signature is wrong.
    #[error("the request is signed for the {part} {found:?}, want {expected:?}: {}", scope_fix(part))]
    WrongScope {
        /// The part of the credential scope: `date`, `region` or `service`.
        part: &'static str,
        /// The wanted value.
        expected: String,
        /// The value of the request.
        found: String,
    },
    /// The request's date differs too much from this clock.
    #[error(
        "the request is signed {seconds} s {} this server's clock, at most {} s are allowed: \
         synchronise the clocks of both machines (NTP)",
        if *ahead { "ahead of" } else { "behind" },
        SKEW_LIMIT.as_secs()
    )]
    Skewed {
        /// Whether the caller's clock is ahead.
        ahead: bool,
        /// The difference.
        seconds: u64,
    },
    /// The access key id is unknown.
    #[error("the access key id is unknown: use a key that this server is configured with")]
    UnknownAccessKey,
    /// The signature does not match the key.
    #[error(
        "the signature does not match the access key: check the secret access key, and that no proxy \
         changes the host, path, query or signed headers"
    )]
    SignatureMismatch,
}

fn scope_fix(part: &str) -> &'static str {
    match part {
        "region" => "set the client's region (AWS_REGION)",
        "service" => "call this endpoint with a client of that service",
        _ => "the date of the credential scope must be that of x-amz-date",
    }
}

pub(super) fn malformed(cause: impl Into<String>) -> SigV4Error {
    SigV4Error::Malformed(cause.into())
}

//! Errors of signatures.

use std::time::Duration;

/// How far a request's date may lie from our clock: AWS allows five minutes either way (IAM user guide,
/// *Troubleshoot Signature Version 4 requests*).
pub(super) const SKEW_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Why a request's signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SigV4Error {
    /// No `Authorization` header.
    #[error("the request is not signed: sign it with AWS Signature Version 4, in the Authorization header")]
    Missing,
    /// A signature in the query string.
    #[error(
        "the request is presigned (X-Amz-* in its query): put the signature into the Authorization header"
    )]
    Presigned,
    /// Something about the signature's form is wrong; the text names it and says what is expected.
    #[error("the request's signature cannot be read: {0}")]
    Malformed(String),
    /// Headers that have to be signed are not.
    #[error(
        "the header {0} is not among the signed headers: sign host, content-type and every x-amz-* header"
    )]
    UnsignedHeader(String),
    /// The caller asked that its body be left out of the signature.
    #[error(
        "x-amz-content-sha256 does not hold a SHA-256 ({0}): sign the payload, unsigned ones are not taken"
    )]
    UnsignedPayload(String),
    /// The body is another one than was signed.
    #[error("the body's SHA-256 is not the one in x-amz-content-sha256: send the body that was signed")]
    PayloadMismatch,
    /// The signature was made for another place or day.
    #[error(
        "the request was signed for the {part} {found:?}, but {expected:?} is needed: {}",
        scope_fix(part)
    )]
    WrongScope {
        /// Which part of the credential scope: `date`, `region` or `service`.
        part: &'static str,
        /// What this server needs it to be.
        expected: String,
        /// What the request says.
        found: String,
    },
    /// The request's date is too far from our clock.
    #[error(
        "the request was signed {seconds} s {} this server's clock, and at most {} s are allowed: \
         synchronise the clocks of both machines (NTP)",
        if *ahead { "ahead of" } else { "behind" },
        SKEW_LIMIT.as_secs()
    )]
    Skewed {
        /// Whether the caller's clock is the later one.
        ahead: bool,
        /// How far apart they are.
        seconds: u64,
    },
    /// Nobody here has this access key id.
    #[error("no such access key id is known here: use the key that this server was configured with")]
    UnknownAccessKey,
    /// The key is known and the signature is not what it gives.
    #[error(
        "the signature is not what this access key gives: check the secret access key, and that no proxy \
         changes the host, path, query or signed headers"
    )]
    SignatureMismatch,
}

fn scope_fix(part: &str) -> &'static str {
    match part {
        "region" => "set the client's region (AWS_REGION) to it",
        "service" => "call this endpoint with the client of that service",
        _ => "the credential scope takes its day from x-amz-date",
    }
}

pub(super) fn malformed(what: impl Into<String>) -> SigV4Error {
    SigV4Error::Malformed(what.into())
}

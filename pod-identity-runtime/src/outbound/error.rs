//! Errors of outgoing calls.

use std::path::PathBuf;

/// Error of an outgoing call.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The CA file cannot be used.
    #[error("CA file {}: {reason}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An https server cannot be verified.
    #[error(
        "there are no CA certificates for https: {0}. Mount a bundle at /etc/ssl/certs/ca-certificates.crt, set \
         SSL_CERT_FILE to a bundle, or give a CA file (--ca-file, AWS_CA_BUNDLE)"
    )]
    NoCaCertificates(&'static str),
    /// The URL is not allowed.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// The server could not be reached, or the connection failed.
    #[error("{url}: {reason}")]
    Transport {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The response is not a 200.
    #[error("{url}: the server returned HTTP {status}, want 200")]
    Status {
        /// The URL.
        url: String,
        /// Status of the response.
        status: u16,
    },
}

//! Certificate files, and why they cannot be used.

use std::path::PathBuf;

/// A certificate chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Error of certificate files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Certificate and key do not match, or rustls does not accept them.
    #[error("{} with {}: {reason}", .files.certificate.display(), .files.key.display())]
    Pair {
        /// The files.
        files: CertificateFiles,
        /// The reason.
        reason: rustls::Error,
    },
    /// The certificates of a client CA cannot be used.
    #[error("client CA {}: {reason}", .path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

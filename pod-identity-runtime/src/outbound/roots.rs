//! The CA certificates of outgoing https.
//!
//! The SDK's client only logs a warning if the system has none, and each call then fails with `UnknownIssuer`.

use std::path::Path;
use std::sync::LazyLock;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::error::OutboundError;
use crate::files::{MAX_PEM, read_regular};

/// Why the system has no usable CA certificate. `None`: it has at least one. Read once, as the SDK's client does.
static MISSING: LazyLock<Option<String>> = LazyLock::new(|| {
    let loaded = rustls_native_certs::load_native_certs();
    let (usable, unusable) = RootCertStore::empty().add_parsable_certificates(loaded.certs);
    if usable > 0 {
        return None;
    }
    let place = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .find_map(|name| std::env::var_os(name).map(|value| format!("{name}={}", value.display())));
    let place = place.unwrap_or_else(|| "the system's store".to_owned());
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    let errors = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    Some(match unusable {
        0 => format!("{place} has no CA certificate{errors}"),
        _ => format!("{place} has {unusable} CA certificates, and none is valid{errors}"),
    })
});

/// Returns why the system has no usable CA certificate.
pub(super) fn missing() -> Option<&'static str> {
    MISSING.as_deref()
}

/// Reads the certificates of a CA file at the start, because the SDK's connector panics at its first use if one is
/// invalid.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<u8>, OutboundError> {
    let fail = |reason: String| OutboundError::CaFile { path: path.to_owned(), reason };
    let pem = read_regular(path, MAX_PEM).map_err(|error| fail(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(error.to_string()))?;
    if certificates.is_empty() {
        return Err(fail("the file has no certificate".to_owned()));
    }
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    Ok(pem.to_vec())
}

//! The validity of a certificate (RFC 5280, 4.1.2.5).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The time for which a certificate is valid, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: SystemTime,
    /// The last second.
    pub until: SystemTime,
}

impl Validity {
    /// Reads the validity of a certificate. Returns `None` if rustls does not accept the certificate's form.
    ///
    /// rustls provides the two times only in its errors, so the certificate is verified with a time long before and a
    /// time long after them. It checks the validity before the signature and the name.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned()).ok()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let refusal = |at: Duration| {
            let at = UnixTime::since_unix_epoch(at);
            match verifier.verify_server_cert(certificate, &[], &name, &[], at) {
                Err(rustls::Error::InvalidCertificate(reason)) => Some(reason),
                Ok(_) | Err(_) => None,
            }
        };
        let time = |time: UnixTime| UNIX_EPOCH + Duration::from_secs(time.as_secs());
        let Some(CertificateError::ExpiredContext { not_after, .. }) = refusal(Duration::MAX) else {
            return None;
        };
        let from = match refusal(Duration::ZERO) {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => time(not_before),
            _ => UNIX_EPOCH, // the certificate is already valid in 1970
        };
        Some(Self { from, until: time(not_after) })
    }

    /// Returns whether the certificate should have been replaced: five sixths of its lifetime have passed. Programs
    /// that renew certificates do so after two thirds.
    pub fn is_overdue(&self, now: SystemTime) -> bool {
        let lifetime = self.until.duration_since(self.from).unwrap_or_default();
        now >= self.until - lifetime / 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_overdue_after_five_sixths_of_its_lifetime() {
        let day = |day: u64| UNIX_EPOCH + Duration::from_secs(day * 24 * 60 * 60);
        let validity = Validity { from: day(100), until: day(160) };
        assert!(!validity.is_overdue(day(150) - Duration::from_secs(1)));
        assert!(validity.is_overdue(day(150)) && validity.is_overdue(day(161)));
    }
}

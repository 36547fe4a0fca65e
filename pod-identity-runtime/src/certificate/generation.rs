//! A generation: an authority, and the only certificate that it ever signs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroize;

use crate::clock::rfc3339;

/// Time by which a certificate's validity begins before it is made. A client's clock may be behind, by hours if it was set
/// to another zone's time.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority with the certificate that it has signed, in the form of the Secret. The authority's key is discarded after
/// signing: a reader of the Secret can sign nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generation {
    /// The authority's certificate (PEM).
    authority: String,
    /// The server's certificate (PEM).
    certificate: String,
    /// The server's key (PKCS #8, PEM).
    key: PrivateKey,
    /// Time at which it was made, in seconds since 1970.
    made: u64,
    /// Expiry of both certificates, in seconds since 1970.
    expires: u64,
    /// Whether clients have had the time to learn the authority.
    pub(super) settled: bool,
    /// Fields of newer versions of the format, kept when the Secret is written.
    #[serde(flatten)]
    unknown: Unknown,
}

/// Fields of newer formats. Their values are not printed, since they may be secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Unknown(serde_json::Map<String, serde_json::Value>);

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A private key in PEM. It is not printed, and its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct PrivateKey(String);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private key)")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The certificates and the key of a generation that can be served.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The reason for which a generation cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("not an authority that clients accept: {0}")]
    Authority(#[from] rustls::client::VerifierBuilderError),
    #[error("{0}")]
    Certificate(#[from] rustls::Error),
    #[error("the server's name is not a DNS name")]
    Name(#[from] rustls_pki_types::InvalidDnsNameError),
    #[error("expired at {}", rfc3339(*.0))]
    Expired(SystemTime),
}

impl Generation {
    /// Makes a generation for the server `name`. `common_name` is the program's name.
    ///
    /// There are no name constraints: they are for an authority that goes on signing. The serial numbers are rcgen's, the
    /// first 20 bytes of the public key's digest: random and unique.
    ///
    /// # Errors
    /// rcgen's, if the name is not a DNS name.
    pub(super) fn make(
        name: &str,
        common_name: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, rcgen::Error> {
        let made = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires = made.saturating_add(lifetime.as_secs());
        let at = |second: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second);
        let params = |alternatives: Vec<String>, common_name: String| {
            let mut params = CertificateParams::new(alternatives)?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common_name);
            params.not_before = at(made.saturating_sub(BACKDATED.as_secs()));
            params.not_after = at(expires);
            Ok::<_, rcgen::Error>(params)
        };
        // Clients find an authority in a bundle by its name, so each has another one.
        let mut authority = params(Vec::new(), format!("{common_name} {}", Uuid::new_v4()))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut leaf = params(vec![name.to_owned()], common_name.to_owned())?;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        // ECDSA with P-256 and SHA-256, rcgen's default: every API server accepts it, and signing is cheap.
        let (mut authority_key, mut key) = (KeyPair::generate()?, KeyPair::generate()?);
        let issuer = Issuer::from_params(&authority, &authority_key);
        let certificate = leaf.signed_by(&key, &issuer)?;
        let generation = Self {
            authority: authority.self_signed(&authority_key)?.pem(),
            certificate: certificate.pem(),
            key: PrivateKey(key.serialize_pem()),
            made,
            expires,
            settled: false,
            unknown: Unknown::default(),
        };
        authority_key.zeroize();
        key.zeroize();
        Ok(generation)
    }

    /// Returns the authority, if it can be read.
    pub(super) fn authority(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.authority.as_bytes()).ok()
    }

    /// Returns the expiry.
    pub(super) fn expires(&self) -> SystemTime {
        time(self.expires)
    }

    /// Returns whether the next generation is due: two thirds of the lifetime are over. The last third is for an API server
    /// that does not answer, and for clocks that are ahead.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let life = Duration::from_secs(self.expires.saturating_sub(self.made));
        now >= time(self.made) + life.min(LAST) * 2 / 3
    }

    /// Returns the time by which it should have been replaced: five sixths of the lifetime are over. That is halfway between
    /// the [due date](Self::is_due) and the expiry.
    pub(super) fn overdue(&self) -> SystemTime {
        let life = Duration::from_secs(self.expires.saturating_sub(self.made));
        time(self.made) + life.min(LAST) * 5 / 6
    }

    /// Reads the certificates and the key, and verifies them as a client of the server `name` does.
    ///
    /// # Errors
    /// [`Unusable`] if a client would refuse the certificate: it has another name, has expired, or was modified.
    pub(super) fn check(&self, name: &str, now: SystemTime) -> Result<Pair, Unusable> {
        let pair = Pair {
            authority: CertificateDer::from_pem_slice(self.authority.as_bytes())?,
            certificate: CertificateDer::from_pem_slice(self.certificate.as_bytes())?,
            key: PrivateKeyDer::from_pem_slice(self.key.0.as_bytes())?,
        };
        if now >= self.expires() {
            return Err(Unusable::Expired(self.expires()));
        }
        pair.verify(&[&pair.authority], name, now)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(pair.key.clone_key())?;
        rustls::sign::CertifiedKey::new(vec![pair.certificate.clone()], key).keys_match()?;
        Ok(pair)
    }
}

impl Pair {
    /// Verifies the certificate as a client of the server `name` does that trusts these authorities.
    ///
    /// # Errors
    /// [`Unusable`] if the client would refuse it.
    pub(super) fn verify(
        &self,
        authorities: &[&CertificateDer<'static>],
        name: &str,
        now: SystemTime,
    ) -> Result<(), Unusable> {
        let mut roots = rustls::RootCertStore::empty();
        for authority in authorities {
            roots.add((*authority).clone())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let name = ServerName::try_from(name.to_owned())?;
        verifier.verify_server_cert(&self.certificate, &[], &name, &[], now)?;
        Ok(())
    }
}

/// Reads the Secret's entry: generations, oldest first.
///
/// # Errors
/// The line and column of the fault.
pub(super) fn read(json: &[u8]) -> Result<Vec<Generation>, String> {
    let read: Result<Vec<Generation>, _> = serde_json::from_slice(json);
    // serde's message would quote a value of the wrong type, which may be a key.
    read.map_err(|error| format!("line {}, column {}", error.line(), error.column()))
}

/// Writes the Secret's entry.
pub(super) fn write(generations: &[Generation]) -> Vec<u8> {
    // Strings and numbers can always be written.
    serde_json::to_vec(generations).unwrap_or_default()
}

/// The last second of a certificate's validity that can be written (RFC 5280, 4.1.2.5), since 1970. A later time in the
/// Secret counts as this one.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds).min(LAST)
}

#[cfg(test)]
mod tests;

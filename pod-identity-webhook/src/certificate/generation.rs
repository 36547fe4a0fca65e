//! A generation: an authority, and the one certificate that it ever signs.

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

/// How long before it is made a certificate holds already: a day. An API server's clock may be behind, by hours
/// where it was set to another zone's time.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority with the certificate that it has signed, as they stand in the Secret. The authority's own key
/// is nowhere: nothing else can be signed by it, whoever reads the Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generation {
    /// The authority's certificate (PEM).
    authority: String,
    /// The webhook's (PEM).
    certificate: String,
    /// Its key (PKCS #8, PEM).
    key: PrivateKey,
    /// When it was made, in seconds since 1970.
    made: u64,
    /// Until when both certificates hold, in seconds since 1970.
    expires: u64,
    /// Whether API servers have had the time to learn the authority.
    pub(super) settled: bool,
    /// Fields of newer versions of the format, kept when the Secret is written.
    #[serde(flatten)]
    unknown: Unknown,
}

/// Fields that this version does not know. Their values are not printed, since they may be secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Unknown(serde_json::Map<String, serde_json::Value>);

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A key, which is neither printed nor left in memory.
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

/// What a generation holds, read: it can be served.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why a generation cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("an authority that no client takes: {0}")]
    Authority(#[from] rustls::client::VerifierBuilderError),
    #[error("{0}")]
    Certificate(#[from] rustls::Error),
    #[error("the Service's name is no DNS name")]
    Name(#[from] rustls_pki_types::InvalidDnsNameError),
    #[error("it expired at {0} s after 1970")]
    Expired(u64),
}

impl Generation {
    /// Makes one for a server of that name.
    ///
    /// No name constraints: they are for an authority that goes on signing. The serial numbers are rcgen's:
    /// the first 20 bytes of the public key's digest, so by chance and never the same.
    ///
    /// # Errors
    /// rcgen's, where the name is no DNS name.
    pub(super) fn make(name: &str, lifetime: Duration, now: SystemTime) -> Result<Self, rcgen::Error> {
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
        // A name of its own for each, by which clients find the right one in a bundle.
        let mut authority = params(Vec::new(), format!("pod-identity-webhook {}", Uuid::new_v4()))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut leaf = params(vec![name.to_owned()], "pod-identity-webhook".to_owned())?;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        // ECDSA with P-256 and SHA-256, rcgen's default: what every API server takes, and cheap to sign.
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

    /// The authority, where it can be read.
    pub(super) fn authority(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.authority.as_bytes()).ok()
    }

    /// Until when it holds.
    pub(super) fn expires(&self) -> SystemTime {
        time(self.expires)
    }

    /// Whether it is time for the next one: two thirds of its life are over. The last third is for an API
    /// server that is away, and for clocks that are ahead.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let life = Duration::from_secs(self.expires.saturating_sub(self.made));
        now >= time(self.made) + life.min(LAST) * 2 / 3
    }

    /// Returns the time by which it should have been replaced: five sixths of its life are over. That is halfway
    /// between the [due date](Self::is_due) and the expiry.
    pub(super) fn overdue(&self) -> SystemTime {
        let life = Duration::from_secs(self.expires.saturating_sub(self.made));
        time(self.made) + life.min(LAST) * 5 / 6
    }

    /// Reads it, and asks the verifier of rustls whether a client takes it for a server of that name.
    ///
    /// # Errors
    /// [`Unusable`] where it would not: it was made for another Service, is over, or somebody wrote into it.
    pub(super) fn check(&self, name: &str, now: SystemTime) -> Result<Pair, Unusable> {
        let pair = Pair {
            authority: CertificateDer::from_pem_slice(self.authority.as_bytes())?,
            certificate: CertificateDer::from_pem_slice(self.certificate.as_bytes())?,
            key: PrivateKeyDer::from_pem_slice(self.key.0.as_bytes())?,
        };
        if now >= self.expires() {
            return Err(Unusable::Expired(self.expires));
        }
        pair.verify(&[&pair.authority], name, now)?;
        // rustls compares key and certificate.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(pair.key.clone_key())?;
        rustls::sign::CertifiedKey::new(vec![pair.certificate.clone()], key).keys_match()?;
        Ok(pair)
    }
}

impl Pair {
    /// Whether a client that trusts these authorities takes the certificate for a server of that name.
    ///
    /// # Errors
    /// [`Unusable`] where it does not.
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

/// The generations of a Secret, oldest first, as its one entry holds them.
///
/// # Errors
/// serde's, where it is no such list. Its text names places and types, not values.
pub(super) fn read(json: &[u8]) -> Result<Vec<Generation>, String> {
    let read: Result<Vec<Generation>, _> = serde_json::from_slice(json);
    // serde's own message would quote a value of the wrong type: with keys about, the place is enough.
    read.map_err(|error| format!("line {}, column {}", error.line(), error.column()))
}

/// The entry of a Secret that holds these generations.
pub(super) fn write(generations: &[Generation]) -> Vec<u8> {
    // A list of texts and numbers can always be written.
    serde_json::to_vec(generations).unwrap_or_default()
}

/// The last second that a certificate can hold in (RFC 5280, 4.1.2.5), since 1970. Whoever wrote a later one into
/// the Secret means that.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds).min(LAST)
}

#[cfg(test)]
mod tests;

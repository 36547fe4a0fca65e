//! A private certificate authority, and the files that it makes.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority for servers on 127.0.0.1. Its files go with it.
pub struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Certificates for tests are made of what is always there.
const MADE: &str = "rcgen makes a certificate";

impl Authority {
    /// A new authority, with its own certificate in [`ca_file`](Self::ca_file).
    ///
    /// # Panics
    /// Where no file can be written.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect(MADE);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect(MADE);
        let issuer = CertifiedIssuer::self_signed(params, key).expect(MADE);
        let authority = Self { directory: tempfile::tempdir().expect("a directory"), issuer };
        std::fs::write(authority.ca_file(), authority.ca_pem()).expect("a file");
        authority
    }

    /// Where a test may put files of its own.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The authority's own certificate, as a file.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The authority's own certificate, in PEM.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's own certificate, in DER.
    pub fn ca_der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// The file of the server's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.directory.path().join("tls.crt")
    }

    /// The file of the server's key.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("tls.key")
    }

    /// A new pair for 127.0.0.1: certificate and key, in PEM.
    ///
    /// # Panics
    /// Where rcgen fails.
    pub fn pair(&self) -> (String, String) {
        self.pair_for(&["127.0.0.1"])
    }

    /// A new pair for servers with these names and addresses.
    ///
    /// # Panics
    /// Where rcgen fails.
    pub fn pair_for(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect(MADE);
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect(MADE);
        let certificate = params.signed_by(&key, &self.issuer).expect(MADE);
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a new pair into the files.
    ///
    /// # Panics
    /// Where they cannot be written.
    pub fn write_pair(&self) {
        let (certificate, key) = self.pair();
        std::fs::write(self.certificate_file(), certificate).expect("a file");
        std::fs::write(self.key_file(), key).expect("a file");
    }
}

//! A private certificate authority and its files.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

/// A certificate authority for servers on 127.0.0.1. Its files are removed when this is dropped.
pub struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

const RCGEN_WORKS: &str = "rcgen makes a certificate";

impl Authority {
    /// Creates an authority, and writes its certificate to [`ca_file`](Self::ca_file).
    ///
    /// # Panics
    /// If the file cannot be written.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect(RCGEN_WORKS);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect(RCGEN_WORKS);
        let issuer = CertifiedIssuer::self_signed(params, key).expect(RCGEN_WORKS);
        let authority = Self { directory: tempfile::tempdir().expect("a directory"), issuer };
        std::fs::write(authority.ca_file(), authority.ca_pem()).expect("a file");
        authority
    }

    /// Returns the directory of the files. A test may add files of its own.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Returns the path of the CA certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Returns the CA certificate in PEM.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the CA certificate in DER.
    pub fn ca_der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// Returns the path of the server's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.directory.path().join("tls.crt")
    }

    /// Returns the path of the server's key.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("tls.key")
    }

    /// Creates a certificate and key for 127.0.0.1, in PEM.
    ///
    /// # Panics
    /// If rcgen fails.
    pub fn pair(&self) -> (String, String) {
        self.pair_for(&["127.0.0.1"])
    }

    /// Creates a certificate and key for these names and addresses, in PEM.
    ///
    /// # Panics
    /// If rcgen fails.
    pub fn pair_for(&self, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(&CertificateParams::new(names).expect(RCGEN_WORKS))
    }

    /// Creates a certificate and key for a user of Kubernetes and one of its groups, in PEM.
    ///
    /// # Panics
    /// If rcgen fails.
    pub fn pair_of_user(&self, user: &str, group: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![]).expect(RCGEN_WORKS);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect(RCGEN_WORKS);
        let certificate = params.signed_by(&key, &self.issuer).expect(RCGEN_WORKS);
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a new certificate and key for 127.0.0.1 to the files.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn write_pair(&self) {
        let (certificate, key) = self.pair();
        std::fs::write(self.certificate_file(), certificate).expect("a file");
        std::fs::write(self.key_file(), key).expect("a file");
    }
}

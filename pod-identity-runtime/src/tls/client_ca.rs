//! Verification of client certificates with a CA file that may change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::error::TlsError;
use crate::files::{MAX_PEM, Watched, read_regular};
use crate::shutdown::Shutdown;

type Verifier = Arc<dyn ClientCertVerifier>;

/// A verifier of client certificates with the newest CA certificates of a file.
#[derive(Debug)]
pub(super) struct ClientCa {
    path: PathBuf,
    watched: Watched,
    verifier: ArcSwap<Verifier>,
}

impl ClientCa {
    pub(super) fn read(path: &Path) -> Result<Self, TlsError> {
        let watched = Watched::look(vec![path.to_owned()]);
        Ok(Self { path: path.to_owned(), watched, verifier: ArcSwap::from_pointee(verifier(path)?) })
    }

    pub(super) async fn follow(&self, shutdown: Shutdown) {
        let replace = || async {
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || verifier(&path)).await;
            match read.unwrap_or_else(|error| Err(fail(&self.path, error.to_string()))) {
                Ok(verifier) => {
                    self.verifier.store(Arc::new(verifier));
                    tracing::info!(client_ca = %self.path.display(), "client CA replaced");
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "client CA not replaced; the old one stays in use");
                    false
                }
            }
        };
        self.watched.clone().follow(shutdown, replace).await;
    }
}

fn fail(path: &Path, reason: String) -> TlsError {
    TlsError::ClientCa { path: path.to_owned(), reason }
}

fn verifier(path: &Path) -> Result<Verifier, TlsError> {
    let fail = |reason| fail(path, reason);
    let mut roots = RootCertStore::empty();
    let pem = read_regular(path, MAX_PEM).map_err(|error| fail(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(error.to_string()))?;
    for certificate in certificates {
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| fail(error.to_string()))
}

impl ClientCertVerifier for ClientCa {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Returns no hints, so that a client presents any certificate that it has (RFC 8446, section 4.2.4).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier.load().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.load().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.load().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.load().supported_verify_schemes()
    }
}

//! TLS for listeners, from certificate files that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files::Watched;
use crate::shutdown::Shutdown;

/// A certificate chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not go together, or rustls does not take them.
    #[error("{} with {}: {reason}", .files.certificate.display(), .files.key.display())]
    Pair {
        /// The files.
        files: CertificateFiles,
        /// Why.
        reason: rustls::Error,
    },
}

/// The server side of TLS, which always uses the newest certificate that could be read.
#[derive(Debug, Clone)]
pub struct ServerTls {
    files: CertificateFiles,
    watched: Watched,
    config: Arc<ArcSwap<ServerConfig>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] where they cannot be used.
    pub fn read(files: CertificateFiles) -> Result<Self, TlsError> {
        let watched = Watched::look(vec![files.certificate.clone(), files.key.clone()]);
        let config = Arc::new(ArcSwap::from_pointee(server_config(&files)?));
        Ok(Self { files, watched, config })
    }

    /// Reads the files again whenever they change, until the shutdown. Files that cannot be used,
    /// a half-written pair among them, leave the old certificate in place, are logged, and are tried again
    /// every half a minute.
    pub async fn follow(self, shutdown: Shutdown) {
        let (files, current) = (&self.files, &self.config);
        let replace = || async {
            match server_config(files) {
                Ok(config) => {
                    current.store(Arc::new(config));
                    tracing::info!(certificate = %files.certificate.display(), "new TLS certificate in use");
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "the TLS certificate was not replaced; the old one stays in use");
                    false
                }
            }
        };
        self.watched.follow(shutdown, replace).await;
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.load_full().into()
    }
}

fn server_config(files: &CertificateFiles) -> Result<ServerConfig, TlsError> {
    let unreadable = |path: &Path, error: rustls_pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&files.certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, error))?;
    // The provider is named: the process-wide default panics where a program has two of them.
    let pair = |reason| TlsError::Pair { files: files.clone(), reason };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! TLS for listeners. Certificates are replaced while they are served: from files that are read again when they
//! change, or from memory. Client certificates are verified if there is a client CA.

mod client_ca; // the CA certificates of clients
mod error; // why TLS cannot be set up
mod validity; // start and expiry of a certificate
mod expiry; // the metric and the warning of the expiry

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use self::client_ca::ClientCa;
pub use self::error::{CertificateFiles, TlsError};
pub use self::validity::Validity;
use crate::files::{FileMetrics, MAX_PEM, Watched, read_regular};
use crate::shutdown::Shutdown;

/// The minimum TLS version of a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// The server side of TLS, with the newest valid certificate. Clones share the certificate.
#[derive(Debug, Clone)]
pub struct ServerTls {
    oldest: TlsVersion,
    files: Option<(CertificateFiles, Watched)>,
    client_ca: Option<Arc<ClientCa>>,
    config: Arc<ArcSwapOption<ServerConfig>>,
    validity: Arc<ArcSwapOption<Validity>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be used.
    pub fn read(files: CertificateFiles, oldest: TlsVersion) -> Result<Self, TlsError> {
        let watched = Watched::look(vec![files.certificate.clone(), files.key.clone()]);
        let tls = Self::in_memory(oldest);
        tls.read_again(&files)?;
        Ok(Self { files: Some((files, watched)), ..tls })
    }

    /// Counts the reads of the files as `tls_certificate` in `pod_identity_file_reads_total`.
    #[must_use]
    pub fn counted(self, metrics: &FileMetrics) -> Self {
        let files = self.files.map(|(files, watched)| (files, watched.counted(metrics, "tls_certificate")));
        Self { files, ..self }
    }

    /// Makes TLS with certificates from [`replace`](Self::replace). Until the first one, connections are closed.
    pub fn in_memory(oldest: TlsVersion) -> Self {
        Self { oldest, files: None, client_ca: None, config: Arc::default(), validity: Arc::default() }
    }

    /// Verifies client certificates with the CA certificates of a PEM file, which [`follow`](Self::follow) reads again
    /// when it changes. A client without a certificate is still accepted, and [`Peer`](crate::listener::Peer) tells
    /// the handler. The handshake fails for a client with a certificate of another CA. Sessions are not resumed, so a
    /// removed CA takes effect at the next connection.
    ///
    /// Call it before a certificate is in use.
    ///
    /// # Errors
    /// [`TlsError::ClientCa`] if the file cannot be used.
    pub fn with_client_ca(self, path: &Path) -> Result<Self, TlsError> {
        let client_ca = Some(Arc::new(ClientCa::read(path)?));
        let tls = Self { client_ca, ..self };
        if let Some((files, _)) = &tls.files {
            tls.read_again(files)?;
        }
        Ok(tls)
    }

    /// Returns whether client certificates are verified.
    pub fn has_client_ca(&self) -> bool {
        self.client_ca.is_some()
    }

    /// Uses this chain, leaf first, from the next connection on.
    ///
    /// Open connections stay open. Sessions of the old certificate cannot be resumed, so clients make a full handshake
    /// and get the new certificate.
    ///
    /// # Errors
    /// If chain and key do not match. The old certificate stays in use.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        let validity = chain.first().and_then(Validity::of).map(Arc::new);
        let config = server_config(chain, key, self.oldest, self.client_ca.clone())?;
        self.config.store(Some(Arc::new(config)));
        self.validity.store(validity);
        Ok(())
    }

    /// Returns the validity of the certificate that is served.
    pub fn validity(&self) -> Option<Validity> {
        self.validity.load().as_deref().copied()
    }

    /// Reads the files again when they change, until the shutdown. Unusable files, for example a half-written pair,
    /// are logged, and read again every half a minute. The old certificate stays in use. Without files it returns at
    /// once.
    pub async fn follow(self, shutdown: Shutdown) {
        let certificate = async {
            let Some((files, watched)) = &self.files else { return };
            let replace = || async {
                let (tls, pair) = (self.clone(), files.clone());
                let read = tokio::task::spawn_blocking(move || tls.read_again(&pair)).await;
                match read.unwrap_or_else(|error| {
                    Err(TlsError::File { path: files.certificate.clone(), reason: error.to_string() })
                }) {
                    Ok(()) => {
                        tracing::info!(certificate = %files.certificate.display(), "TLS certificate replaced");
                        true
                    }
                    Err(error) => {
                        tracing::error!(%error, "TLS certificate not replaced; the old one stays in use");
                        false
                    }
                }
            };
            watched.clone().follow(shutdown.clone(), replace).await;
        };
        let client_ca = async {
            if let Some(client_ca) = &self.client_ca {
                client_ca.follow(shutdown.clone()).await;
            }
        };
        tokio::join!(certificate, client_ca);
    }

    fn read_again(&self, files: &CertificateFiles) -> Result<(), TlsError> {
        let unreadable = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
        let read = |path| read_regular(path, MAX_PEM).map_err(|error| unreadable(path, error.to_string()));
        let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(&files.certificate, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|error| unreadable(&files.key, error.to_string()))?;
        self.replace(chain, key).map_err(|reason| TlsError::Pair { files: files.clone(), reason })
    }

    /// Returns the acceptor of connections, or `None` without a certificate.
    pub(crate) fn acceptor(&self) -> Option<tokio_rustls::TlsAcceptor> {
        self.config.load_full().map(Into::into)
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    oldest: TlsVersion,
    client_ca: Option<Arc<ClientCa>>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match oldest {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    // The provider is explicit, because the process-wide default panics if a program has two providers.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let mut config = match client_ca {
        None => builder.with_no_client_auth().with_single_cert(chain, key)?,
        Some(client_ca) => {
            let mut config = builder.with_client_cert_verifier(client_ca).with_single_cert(chain, key)?;
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! Connectors that use a changed CA file without a restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use super::error::OutboundError;
use super::roots;
use crate::clock;
use crate::files::{Fingerprint, POLL_INTERVAL};

/// The certificates to trust, read again when the CA file changes. Calls check the file, at most once per second.
#[derive(Debug)]
pub(super) struct Trust {
    ca_file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    checked: Instant,
    seen: Option<Fingerprint>,
    /// Increases with each use of a changed file.
    generation: u64,
    tls: Result<TlsContext, Arc<OutboundError>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads the CA file. If `may_be_late`, a file that does not exist is no error: calls fail until it exists.
    ///
    /// # Errors
    /// If the CA file cannot be used.
    pub(super) fn read(ca_file: Option<PathBuf>, may_be_late: bool) -> Result<Arc<Self>, OutboundError> {
        let path = ca_file.as_deref();
        let seen = path.map(Fingerprint::of);
        let tls = match tls(path) {
            Err(error) if may_be_late && path.is_some_and(is_absent) => {
                tracing::warn!(%error, "CA file missing; calls fail until it exists");
                Err(Arc::new(error))
            }
            tls => Ok(tls?),
        };
        let state = State { checked: clock::monotonic(), seen, generation: 0, tls };
        Ok(Arc::new(Self { ca_file, state: Mutex::new(state) }))
    }

    /// Returns the certificates and their generation. It reads a changed file on a thread for blocking work.
    async fn current(self: &Arc<Self>) -> Result<(u64, TlsContext), Arc<OutboundError>> {
        if self.is_check_due() {
            let this = self.clone();
            drop(tokio::task::spawn_blocking(move || this.check()).await);
        }
        let state = self.state();
        state.tls.clone().map(|tls| (state.generation, tls))
    }

    fn is_check_due(&self) -> bool {
        let (mut state, now) = (self.state(), clock::monotonic());
        // A missing file is checked at each call: its calls fail without traffic.
        let due = state.seen.is_some()
            && (state.tls.is_err() || now.duration_since(state.checked) >= POLL_INTERVAL);
        if due {
            state.checked = now;
        }
        due
    }

    fn check(&self) {
        let Some(path) = &self.ca_file else { return };
        let seen = Some(Fingerprint::of(path));
        if self.state().seen == seen {
            return;
        }
        let read = tls(Some(path));
        let mut state = self.state();
        state.seen = seen;
        match read {
            Ok(tls) => {
                tracing::info!(file = %path.display(), "CA file replaced");
                state.generation += 1;
                state.tls = Ok(tls);
            }
            Err(error) => {
                tracing::error!(%error, "CA file not replaced; the earlier certificates stay in use");
                if state.tls.is_err() {
                    state.tls = Err(Arc::new(error));
                }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_absent(path: &Path) -> bool {
    matches!(std::fs::metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// A connector that is replaced when the CA file changes. Connections of the earlier one end with their last response.
#[derive(Debug, Clone)]
pub(super) struct ReloadingConnector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust: Arc<Trust>,
    /// Whether calls use the proxy of the environment.
    proxied: bool,
    settings: HttpConnectorSettings,
    current: Mutex<Option<(u64, SharedHttpConnector)>>,
}

impl ReloadingConnector {
    pub(super) fn new(trust: Arc<Trust>, proxied: bool, settings: HttpConnectorSettings) -> Self {
        Self(Arc::new(Inner { trust, proxied, settings, current: Mutex::default() }))
    }
}

impl Inner {
    async fn connector(&self) -> Result<SharedHttpConnector, Arc<OutboundError>> {
        let (generation, tls) = self.trust.current().await?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = current.as_ref().filter(|(known, _)| *known >= generation) {
            return Ok(connector.clone());
        }
        let proxy = if self.proxied { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
        let new = SharedHttpConnector::new(connector(tls, proxy, self.settings.clone()));
        *current = Some((generation, new.clone()));
        Ok(new)
    }
}

impl HttpConnector for ReloadingConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let inner = self.0.clone();
        HttpConnectorFuture::new(async move {
            match inner.connector().await {
                Ok(connector) => connector.call(request).await,
                Err(error) => Err(ConnectorError::io(error.into())),
            }
        })
    }
}

/// A client of the AWS SDK whose connectors use a changed CA file. It has one connector for each setting of timeouts.
#[derive(Debug)]
pub(super) struct ReloadingClient {
    trust: Arc<Trust>,
    proxied: bool,
    connectors: Mutex<Vec<ReloadingConnector>>,
}

impl ReloadingClient {
    pub(super) fn new(trust: Arc<Trust>, proxied: bool) -> Self {
        Self { trust, proxied, connectors: Mutex::default() }
    }
}

impl HttpClient for ReloadingClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        let timeouts =
            |settings: &HttpConnectorSettings| (settings.connect_timeout(), settings.read_timeout());
        let found = connectors.iter().find(|one| timeouts(&one.0.settings) == timeouts(settings));
        let connector = found.cloned().unwrap_or_else(|| {
            let new = ReloadingConnector::new(self.trust.clone(), self.proxied, settings.clone());
            connectors.push(new.clone());
            new
        });
        SharedHttpConnector::new(connector)
    }
}

/// Reads the CA file, if there is one.
fn tls(ca_file: Option<&Path>) -> Result<TlsContext, OutboundError> {
    // A debug build of the SDK panics if the system's store is enabled and empty.
    let mut store = if roots::missing().is_some() { TrustStore::empty() } else { TrustStore::default() };
    if let Some(path) = ca_file {
        store.add_pem_certificate(roots::read_certificates(path)?);
    }
    TlsContext::builder().with_trust_store(store).build().map_err(|error| OutboundError::CaFile {
        path: ca_file.unwrap_or(Path::new("")).to_owned(),
        reason: error.to_string(),
    })
}

fn connector(tls: TlsContext, proxy: ProxyConfig, settings: HttpConnectorSettings) -> Connector {
    Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .proxy_config(proxy)
        .connector_settings(settings)
        .sleep_impl(TokioSleep::new())
        .build()
}

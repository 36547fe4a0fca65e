//! Outgoing HTTP: one connector for the AWS SDK and for key sets.
//!
//! The SDK's default client supports neither a private CA nor a proxy, and reads answers of any size. This client
//! takes a CA file, a proxy, and a limit for each answer.

mod bounded;

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use self::bounded::BoundedClient;
use crate::cause::chain;
use crate::files::{MAX_PEM, read_regular};

/// Maximum time for the body of an answer to a GET request, counted from its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// How outgoing connections are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Certificates to trust beside the system's, in a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` count.
    pub proxy_from_environment: bool,
}

/// Why an outgoing call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The CA file is of no use.
    #[error("CA file {}: {reason}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The URL is not one that may be asked.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// The server was not reached, or broke off.
    #[error("{url}: {reason}")]
    Transport {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server answered, but not with 200.
    #[error("{url}: the server answered HTTP {status}")]
    Status {
        /// The URL.
        url: String,
        /// Its answer.
        status: u16,
    },
}

impl Outbound {
    /// A client for the AWS SDK. An answer of more than 256 KiB is an error: those of EKS Auth and STS have a few
    /// KiB. The SDK's own timeouts limit their time.
    ///
    /// # Errors
    /// Where the CA file cannot be read.
    pub fn sdk_client(&self) -> Result<SharedHttpClient, OutboundError> {
        let (tls, proxy) = (self.tls()?, self.proxy());
        let client = Builder::new().build_with_connector_fn(move |settings, _| {
            connector(tls.clone(), proxy.clone(), settings.cloned().unwrap_or_default())
        });
        Ok(BoundedClient::new(client).into_shared())
    }

    /// A client for plain GET requests.
    ///
    /// # Errors
    /// Where the CA file cannot be read.
    pub fn getter(&self) -> Result<Getter, OutboundError> {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(5))
            .build();
        let direct = connector(self.tls()?, ProxyConfig::disabled(), settings.clone());
        Ok(Getter { proxied: connector(self.tls()?, self.proxy(), settings), direct })
    }

    /// The same for calls to that URL: one of this machine is never asked through a proxy, which may
    /// be on another one.
    #[must_use]
    pub fn toward(&self, url: Option<&str>) -> Self {
        let local = url
            .and_then(|url| url.parse::<http::Uri>().ok())
            .is_some_and(|url| url.host().is_some_and(is_loopback));
        Self { proxy_from_environment: self.proxy_from_environment && !local, ..self.clone() }
    }

    fn tls(&self) -> Result<TlsContext, OutboundError> {
        let mut store = TrustStore::default();
        if let Some(path) = &self.ca_file {
            store.add_pem_certificate(read_certificates(path)?);
        }
        TlsContext::builder().with_trust_store(store).build().map_err(|error| OutboundError::CaFile {
            path: self.ca_file.clone().unwrap_or_default(),
            reason: error.to_string(),
        })
    }

    fn proxy(&self) -> ProxyConfig {
        if self.proxy_from_environment { ProxyConfig::from_env() } else { ProxyConfig::disabled() }
    }
}

/// The SDK's connector panics on a file that holds no certificate, at its first use; this says so
/// at the start.
fn read_certificates(path: &Path) -> Result<Vec<u8>, OutboundError> {
    use rustls_pki_types::pem::PemObject;
    let fail = |reason: String| OutboundError::CaFile { path: path.to_owned(), reason };
    let pem = read_regular(path, MAX_PEM).map_err(|error| fail(error.to_string()))?;
    let certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(error.to_string()))?;
    if certificates.is_empty() {
        return Err(fail("no certificate in it".to_owned()));
    }
    Ok(pem.to_vec())
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

/// Whether a URL may be asked for something that identity hangs on: https anywhere, http on this
/// machine only.
///
/// # Errors
/// [`OutboundError::Url`] with the rule that it breaks.
pub fn check_url(url: &str) -> Result<http::Uri, OutboundError> {
    let refuse = |reason| OutboundError::Url { url: url.to_owned(), reason };
    let uri: http::Uri = url.parse().map_err(|_| refuse("not a URL"))?;
    let host = uri.host().ok_or_else(|| refuse("it names no host"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        Some("http") => Err(refuse("http is for loopback addresses only; use https")),
        _ => Err(refuse("neither https nor http")),
    }
}

/// Whether a URL's host is this machine: a loopback address, or `localhost`.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client for plain GET requests.
#[derive(Debug)]
pub struct Getter {
    proxied: Connector,
    direct: Connector,
}

impl Getter {
    /// Asks for a document of at most `limit` bytes, with a bearer token where given.
    ///
    /// # Errors
    /// [`OutboundError`] where the answer is not a 200 with such a document.
    pub async fn get(&self, url: &str, bearer: Option<&str>, limit: usize) -> Result<Bytes, OutboundError> {
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        match self.ask(url, bearer.as_deref(), limit).await? {
            (200, body) => Ok(body),
            (status, _) => Err(OutboundError::Status { url: url.to_owned(), status }),
        }
    }

    /// Asks with an `Authorization` header as given, and takes any answer: its status and its body.
    /// Redirects are not followed: whoever could redirect could choose the keys.
    ///
    /// # Errors
    /// [`OutboundError`] where there is no answer, or one of more than `limit` bytes.
    pub async fn ask(
        &self,
        url: &str,
        authorization: Option<&str>,
        limit: usize,
    ) -> Result<(u16, Bytes), OutboundError> {
        let local = check_url(url)?.host().is_some_and(is_loopback);
        let connector = if local { &self.direct } else { &self.proxied };
        let failed = |reason: String| OutboundError::Transport { url: url.to_owned(), reason };
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|error| failed(error.to_string()))?;
        request.headers_mut().insert("accept", "application/json, application/jwk-set+json");
        if let Some(authorization) = authorization {
            let inserted = request.headers_mut().try_insert("authorization", authorization.to_owned());
            inserted.map_err(|_| failed("the token cannot stand in a header".to_owned()))?;
        }
        let response = connector.call(request).await.map_err(|error| failed(chain(&error)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), limit).collect();
        let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
            failed(format!("the answer did not arrive whole within {} s", BODY_TIMEOUT.as_secs()))
        })?;
        let body = body.map_err(|error| failed(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }
}

/// Whether a call of the SDK failed for want of credentials, and the last word on why.
pub fn missing_credentials(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            found = Some(chain(error));
        }
        cause = error.source();
    }
    found
}

//! Outgoing HTTP: one connector for the AWS SDK and for key sets.
//!
//! The SDK's default client supports neither a private CA nor a proxy, and reads responses of any size. This client
//! supports a CA file and a proxy, and limits each response.

mod bounded;
mod roots; // CA certificates

use std::path::PathBuf;
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

/// Maximum time for the body of the response to a GET request, counted from its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of outgoing connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the environment variables `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` apply.
    pub proxy_from_environment: bool,
}

/// Error of an outgoing call.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The CA file cannot be used.
    #[error("CA file {}: {reason}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An https server cannot be verified.
    #[error(
        "there are no CA certificates for https: {0}. Mount a bundle at /etc/ssl/certs/ca-certificates.crt, set \
         SSL_CERT_FILE to a bundle, or give a CA file (--ca-file, AWS_CA_BUNDLE)"
    )]
    NoCaCertificates(&'static str),
    /// The URL is not allowed.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// The server could not be reached, or the connection failed.
    #[error("{url}: {reason}")]
    Transport {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The response is not a 200.
    #[error("{url}: the server returned HTTP {status}, want 200")]
    Status {
        /// The URL.
        url: String,
        /// Status of the response.
        status: u16,
    },
}

impl Outbound {
    /// Returns a client for the AWS SDK, for calls to this URL. `None`: an endpoint of AWS. A response of more than
    /// 256 KiB is an error, because those of EKS Auth and STS have a few KiB. The SDK's own timeouts apply. A URL of
    /// this machine is never called through a proxy, which may be on another machine.
    ///
    /// # Errors
    /// If the CA file cannot be read, or if an https URL has no CA certificate to be verified with.
    pub fn sdk_client(&self, endpoint: Option<&str>) -> Result<SharedHttpClient, OutboundError> {
        self.check_ca_certificates(endpoint)?;
        let local = endpoint
            .and_then(|url| url.parse::<http::Uri>().ok())
            .is_some_and(|url| url.host().is_some_and(is_loopback));
        let proxy = if local { ProxyConfig::disabled() } else { self.proxy() };
        let tls = self.tls()?;
        let client = Builder::new().build_with_connector_fn(move |settings, _| {
            connector(tls.clone(), proxy.clone(), settings.cloned().unwrap_or_default())
        });
        Ok(BoundedClient::new(client).into_shared())
    }

    /// Returns a client for plain GET requests.
    ///
    /// # Errors
    /// If the CA file cannot be read.
    pub fn getter(&self) -> Result<Getter, OutboundError> {
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(5))
            .build();
        let direct = connector(self.tls()?, ProxyConfig::disabled(), settings.clone());
        let no_ca_certificates = self.no_ca_certificates();
        Ok(Getter { proxied: connector(self.tls()?, self.proxy(), settings), direct, no_ca_certificates })
    }

    /// Checks at the start of a program that an https server can be verified. `None`: a URL that is not known yet, with
    /// https. The SDK's client does not make this check.
    ///
    /// # Errors
    /// [`OutboundError::NoCaCertificates`], which names the fix.
    pub fn check_ca_certificates(&self, url: Option<&str>) -> Result<(), OutboundError> {
        let https = url.is_none_or(is_https);
        self.no_ca_certificates()
            .filter(|_| https)
            .map_or(Ok(()), |why| Err(OutboundError::NoCaCertificates(why)))
    }

    fn no_ca_certificates(&self) -> Option<&'static str> {
        roots::missing().filter(|_| self.ca_file.is_none())
    }

    fn tls(&self) -> Result<TlsContext, OutboundError> {
        // A debug build of the SDK panics if the system's store is enabled and empty.
        let mut store = if roots::missing().is_some() { TrustStore::empty() } else { TrustStore::default() };
        if let Some(path) = &self.ca_file {
            store.add_pem_certificate(roots::read_certificates(path)?);
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

fn connector(tls: TlsContext, proxy: ProxyConfig, settings: HttpConnectorSettings) -> Connector {
    Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .proxy_config(proxy)
        .connector_settings(settings)
        .sleep_impl(TokioSleep::new())
        .build()
}

/// Checks that a URL may be used for documents that identity depends on: https anywhere, http only on this machine.
///
/// # Errors
/// [`OutboundError::Url`] with the broken rule.
pub fn check_url(url: &str) -> Result<http::Uri, OutboundError> {
    let refuse = |reason| OutboundError::Url { url: url.to_owned(), reason };
    let uri: http::Uri = url.parse().map_err(|_| refuse("not a URL"))?;
    let host = uri.host().ok_or_else(|| refuse("it has no host"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        Some("http") => Err(refuse("http is allowed for loopback addresses only: use https")),
        _ => Err(refuse("want https or http")),
    }
}

fn is_https(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|url| url.scheme_str() == Some("https"))
}

/// Returns whether the host of a URL is this machine: a loopback address or `localhost`.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client for plain GET requests.
#[derive(Debug)]
pub struct Getter {
    proxied: Connector,
    direct: Connector,
    no_ca_certificates: Option<&'static str>,
}

impl Getter {
    /// Fetches a document of at most `limit` bytes, with a bearer token if there is one.
    ///
    /// # Errors
    /// [`OutboundError`] if the response is not a 200 with such a document.
    pub async fn get(&self, url: &str, bearer: Option<&str>, limit: usize) -> Result<Bytes, OutboundError> {
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        match self.send(url, bearer.as_deref(), limit).await? {
            (200, body) => Ok(body),
            (status, _) => Err(OutboundError::Status { url: url.to_owned(), status }),
        }
    }

    /// Sends a request with a given `Authorization` header, and returns any response with its status and body. It does
    /// not follow redirects, because a redirect could change the keys.
    ///
    /// # Errors
    /// [`OutboundError`] if there is no response, or it has more than `limit` bytes.
    pub async fn send(
        &self,
        url: &str,
        authorization: Option<&str>,
        limit: usize,
    ) -> Result<(u16, Bytes), OutboundError> {
        let local = check_url(url)?.host().is_some_and(is_loopback);
        if let Some(why) = self.no_ca_certificates.filter(|_| is_https(url)) {
            return Err(OutboundError::NoCaCertificates(why));
        }
        let connector = if local { &self.direct } else { &self.proxied };
        let failed = |reason: String| OutboundError::Transport { url: url.to_owned(), reason };
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|error| failed(error.to_string()))?;
        request.headers_mut().insert("accept", "application/json, application/jwk-set+json");
        if let Some(authorization) = authorization {
            let inserted = request.headers_mut().try_insert("authorization", authorization.to_owned());
            inserted.map_err(|_| {
                failed("the token has characters that are not allowed in a header".to_owned())
            })?;
        }
        let response = connector.call(request).await.map_err(|error| failed(chain(&error)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), limit).collect();
        let body = tokio::time::timeout(BODY_TIMEOUT, body)
            .await
            .map_err(|_| failed(format!("the response was incomplete after {} s", BODY_TIMEOUT.as_secs())))?;
        let body = body.map_err(|error| failed(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }
}

/// Returns the innermost cause if a call of the SDK failed because there are no credentials.
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

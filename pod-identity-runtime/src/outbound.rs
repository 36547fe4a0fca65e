//! Outgoing HTTP: one connector for the AWS SDK and for key sets.
//!
//! The SDK's default client supports neither a private CA nor a proxy, and reads responses of any size. This client
//! supports a CA file and a proxy, and limits each response. A changed CA file is used without a restart.

mod error;
mod bounded; // size of responses
mod roots; // CA certificates
mod reload; // changed CA files

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use self::bounded::BoundedClient;
pub use self::error::OutboundError;
use self::reload::{ReloadingClient, ReloadingConnector, Trust};
use crate::cause::chain;

/// Maximum time for the body of the response to a GET request, counted from its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of outgoing connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    /// PEM file with certificates to trust in addition to the system's. After a change it is read again, at the next
    /// call. While a changed file cannot be used, the earlier certificates stay in use.
    pub ca_file: Option<PathBuf>,
    /// Whether the environment variables `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` apply.
    pub proxy_from_environment: bool,
}

impl Outbound {
    /// Returns a client for the AWS SDK, for calls to this URL. `None`: an endpoint of AWS. A response of more than
    /// 256 KiB is an error, because those of EKS Auth and STS have a few KiB. The SDK's own timeouts apply. A URL of
    /// this machine is never called through a proxy, which may be on another machine.
    ///
    /// # Errors
    /// If the CA file cannot be read, or if an https URL has no CA certificate to be verified with.
    pub fn sdk_client(&self, endpoint: Option<&str>) -> Result<SharedHttpClient, OutboundError> {
        self.sdk_client_of(self.trust(false)?, endpoint)
    }

    /// Returns a client like [`sdk_client`](Self::sdk_client), whose CA file may not exist yet. Until it exists, calls
    /// fail with an error that names the file.
    ///
    /// # Errors
    /// If the CA file exists and cannot be used, or if an https URL has no CA certificate to be verified with.
    pub fn sdk_client_with_late_ca(&self, endpoint: Option<&str>) -> Result<SharedHttpClient, OutboundError> {
        self.sdk_client_of(self.trust(true)?, endpoint)
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
        let trust = self.trust(false)?;
        let direct = ReloadingConnector::new(trust.clone(), false, settings.clone());
        let proxied = ReloadingConnector::new(trust, self.proxy_from_environment, settings);
        Ok(Getter { proxied, direct, no_ca_certificates: self.no_ca_certificates() })
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

    fn trust(&self, may_be_late: bool) -> Result<Arc<Trust>, OutboundError> {
        Trust::read(self.ca_file.clone(), may_be_late)
    }

    fn sdk_client_of(
        &self,
        trust: Arc<Trust>,
        endpoint: Option<&str>,
    ) -> Result<SharedHttpClient, OutboundError> {
        self.check_ca_certificates(endpoint)?;
        let local = endpoint
            .and_then(|url| url.parse::<http::Uri>().ok())
            .is_some_and(|url| url.host().is_some_and(is_loopback));
        let client = ReloadingClient::new(trust, self.proxy_from_environment && !local);
        Ok(BoundedClient::new(client.into_shared()).into_shared())
    }
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
    proxied: ReloadingConnector,
    direct: ReloadingConnector,
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

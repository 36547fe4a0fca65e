//! The request and its HTTP client.

use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::dns::SharedDnsResolver;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{BuildError, RuntimeComponents};
use aws_smithy_types::body::SdkBody;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};

use super::attempt_error::AttemptError;
use super::authorization::Token;
use super::endpoint::{Endpoint, Target};
use crate::error::{Error, Failure};
use crate::timer::Timer;
use crate::transport::Transport;

/// The time limit of a connection. The agent is on this node, so a slower connection attempt was dropped by the network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

const USER_AGENT_NAME: &str = concat!("pod-identity-provider/", env!("CARGO_PKG_VERSION"));

/// Sends requests with the program's client, or with the SDK's default client. The latter uses no proxy, because the agent
/// is on this node.
#[derive(Debug)]
pub(super) struct Client {
    custom_client: Option<SharedHttpClient>,
    dns: SharedDnsResolver,
    timer: Timer,
    time: SharedTimeSource,
    connect_timeout: Duration,
    connector: OnceLock<SharedHttpConnector>,
}

impl Client {
    pub(super) fn new(transport: &Transport) -> Self {
        Self {
            custom_client: transport.http_client.clone(),
            dns: transport.dns.clone(),
            timer: transport.timer.clone(),
            time: SharedTimeSource::new(transport.clock.clone()),
            connect_timeout: CONNECT_TIMEOUT.min(transport.attempt_timeout),
            connector: OnceLock::new(),
        }
    }

    /// Sends a request and returns the response with an unread body. Does not follow redirects, because they would send the
    /// token to another server.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        target: Target,
        token: Option<&Token>,
    ) -> Result<HttpResponse, AttemptError> {
        let connector = self.connector(endpoint)?;
        let response = connector.call(request(target, token)?).await;
        response.map_err(|error| self.attempt_error(error))
    }

    fn attempt_error(&self, error: ConnectorError) -> AttemptError {
        // The connect timeout is the only timeout of the connector.
        if error.is_timeout() {
            return Failure::ConnectTimeout { limit: self.connect_timeout }.into();
        }
        AttemptError::of(&*error.into_source())
    }

    fn connector(&self, endpoint: &Endpoint) -> Result<SharedHttpConnector, AttemptError> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let client = match &self.custom_client {
            Some(client) => client.clone(),
            None => default_client(endpoint.is_https(), &self.dns)?,
        };
        let settings = HttpConnectorSettings::builder().connect_timeout(self.connect_timeout).build();
        let components =
            self.components().map_err(|error| Failure::Connection { reason: error.to_string() })?;
        Ok(self.connector.get_or_init(|| client.http_connector(&settings, &components)).clone())
    }

    /// Returns the components that a client requires. Only timer and time are used. The other components neither sign nor
    /// retry.
    fn components(&self) -> Result<RuntimeComponents, BuildError> {
        RuntimeComponents::builder(USER_AGENT_NAME)
            .with_sleep_impl(Some(self.timer.shared()))
            .with_time_source(Some(self.time.clone()))
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![
                NO_AUTH_SCHEME_ID,
            ])))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_identity_cache(Some(IdentityCache::no_cache()))
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .build()
    }
}

/// Returns the SDK's default client. For https it has TLS with the system's certificates, and resolves names with `dns`.
#[cfg_attr(not(feature = "https"), allow(unused_variables))]
fn default_client(https: bool, dns: &SharedDnsResolver) -> Result<SharedHttpClient, Error> {
    if !https {
        return Ok(Builder::new().build_http());
    }
    #[cfg(feature = "https")]
    {
        use aws_smithy_http_client::tls::Provider;
        use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
        let builder = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        Ok(builder.build_with_resolver(dns.clone()))
    }
    #[cfg(not(feature = "https"))]
    Err(Error::feature_missing("https"))
}

fn request(target: Target, token: Option<&Token>) -> Result<HttpRequest, Failure> {
    let mut request =
        http::Request::get(target.uri).header(ACCEPT, "application/json").header(USER_AGENT, USER_AGENT_NAME);
    if let Some(host) = target.host {
        request = request.header(HOST, HeaderValue::from_str(&host).map_err(unsendable)?);
    }
    if let Some(token) = token {
        request = request.header(
            AUTHORIZATION,
            token.header().ok_or("the token is not valid in a header").map_err(unsendable)?,
        );
    }
    let request = request.body(SdkBody::empty()).map_err(unsendable)?;
    HttpRequest::try_from(request).map_err(unsendable)
}

/// Converts an error of building a request. It is not expected, because all parts were checked before.
fn unsendable(error: impl std::fmt::Display) -> Failure {
    Failure::Connection { reason: error.to_string() }
}

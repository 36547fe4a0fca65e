//! The request and the client that sends it.

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

use super::authorization::Token;
use super::endpoint::{Endpoint, Place};
use super::fault::Fault;
use crate::error::{Error, Failure};
use crate::timer::Timer;
use crate::transport::Transport;

/// The longest wait for a connection. The agent is on this node, so a slower connection was dropped on the way.
const CONNECT: Duration = Duration::from_secs(1);

const NAME: &str = concat!("pod-identity-provider/", env!("CARGO_PKG_VERSION"));

/// Sends requests with the given client, or with the SDK's own and no proxy, since the agent is on this node.
#[derive(Debug)]
pub(super) struct Client {
    given: Option<SharedHttpClient>,
    dns: SharedDnsResolver,
    timer: Timer,
    time: SharedTimeSource,
    connect: Duration,
    connector: OnceLock<SharedHttpConnector>,
}

impl Client {
    pub(super) fn new(transport: &Transport) -> Self {
        Self {
            given: transport.http_client.clone(),
            dns: transport.dns.clone(),
            timer: transport.timer.clone(),
            time: SharedTimeSource::new(transport.clock.clone()),
            connect: CONNECT.min(transport.attempt_timeout),
            connector: OnceLock::new(),
        }
    }

    /// Sends a request and returns the response with an unread body. Redirects are not followed, because the token would
    /// be sent there too.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        place: Place,
        token: Option<&Token>,
    ) -> Result<HttpResponse, Fault> {
        let connector = self.connector(endpoint)?;
        let answer = connector.call(request(place, token)?).await;
        answer.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: ConnectorError) -> Fault {
        // The connector has one timeout only.
        if error.is_timeout() {
            return Failure::ConnectTimeout { limit: self.connect }.into();
        }
        Fault::of(&*error.into_source())
    }

    fn connector(&self, endpoint: &Endpoint) -> Result<SharedHttpConnector, Fault> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let client = match &self.given {
            Some(client) => client.clone(),
            None => inner(endpoint.is_https(), &self.dns)?,
        };
        let settings = HttpConnectorSettings::builder().connect_timeout(self.connect).build();
        let components = self.components().map_err(|error| Failure::Connection { reason: error.to_string() })?;
        Ok(self.connector.get_or_init(|| client.http_connector(&settings, &components)).clone())
    }

    /// The components that a client requires. Only timer and time are used; the others are those of a client that neither
    /// signs nor retries.
    fn components(&self) -> Result<RuntimeComponents, BuildError> {
        RuntimeComponents::builder(NAME)
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

/// The SDK's own client. It has TLS, which reads the system's certificates, and resolves names only for an https URI.
#[cfg_attr(not(feature = "https"), allow(unused_variables))]
fn inner(https: bool, dns: &SharedDnsResolver) -> Result<SharedHttpClient, Error> {
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

fn request(place: Place, token: Option<&Token>) -> Result<HttpRequest, Failure> {
    let mut request =
        http::Request::get(place.uri).header(ACCEPT, "application/json").header(USER_AGENT, NAME);
    if let Some(host) = place.host {
        request = request.header(HOST, HeaderValue::from_str(&host).map_err(unsendable)?);
    }
    if let Some(token) = token {
        request = request
            .header(AUTHORIZATION, token.header().ok_or("the token is no header").map_err(unsendable)?);
    }
    let request = request.body(SdkBody::empty()).map_err(unsendable)?;
    HttpRequest::try_from(request).map_err(unsendable)
}

/// All parts of a request were checked, so this does not happen.
fn unsendable(error: impl std::fmt::Display) -> Failure {
    Failure::Connection { reason: error.to_string() }
}

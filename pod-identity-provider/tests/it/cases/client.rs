//! An HTTP client that sends requests for any host to the case's endpoint.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::replay::SENT_TO;

/// The SDK's default client with all connections to one address. A header contains the original target of the request.
#[derive(Debug)]
pub(super) struct RedirectingClient(pub(super) SocketAddr);

#[derive(Debug)]
struct Connector(SocketAddr, SharedHttpConnector);

impl HttpClient for RedirectingClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = Builder::new().build_http().http_connector(settings, components);
        SharedHttpConnector::new(Connector(self.0, connector))
    }
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let uri: http::Uri = request.uri().parse().unwrap();
        let authority = uri.authority().unwrap().to_string();
        let headers = request.headers_mut();
        headers.insert(SENT_TO, format!("{}://{authority}", uri.scheme_str().unwrap()));
        if !headers.contains_key("host") {
            headers.insert("host", authority); // the default of the client
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        request.set_uri(format!("http://{}{path}", self.0)).unwrap();
        self.1.call(request)
    }
}

/// Resolves the names of a case, with one list of addresses for each lookup. The last list is repeated.
#[derive(Debug)]
pub(super) struct ScriptedDns(pub(super) Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>);

impl ResolveDns for ScriptedDns {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let mut names = self.0.lock().unwrap();
        DnsFuture::ready(match names.get_mut(name) {
            Some(lookups) if lookups.len() > 1 => Ok(lookups.remove(0)),
            Some(lookups) => Ok(lookups[0].clone()),
            None => Err(ResolveDnsError::new(format!("{name} does not exist"))),
        })
    }
}

//! Text inputs, so that a corpus is readable and a fuzzer can change one part of an input.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use http::{HeaderName, HeaderValue};

/// The parts before and after the first empty line.
pub(crate) fn head_and_body(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.windows(2).position(|pair| pair == b"\n\n")?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 2..]))
}

/// Returns the header lines that HTTP allows.
pub(crate) fn headers<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.parse().ok()?, value.trim().parse().ok()?))
    })
}

/// An HTTP response: the status, header lines, an empty line, the body.
#[derive(Debug, Clone)]
pub(crate) struct CannedResponse {
    pub(crate) status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

impl CannedResponse {
    pub(crate) fn parse(input: &[u8]) -> Option<Self> {
        let (head, body) = head_and_body(input)?;
        let mut lines = head.lines();
        let status = lines.next()?.parse().ok().filter(|status| (200..600).contains(status))?;
        Some(Self { status, headers: headers(lines).collect(), body: body.to_vec() })
    }
}

/// A server that sends one response to every request, without a network.
#[derive(Debug, Clone)]
pub(crate) struct Server(Arc<Mutex<CannedResponse>>);

impl Server {
    pub(crate) fn new(canned: CannedResponse) -> Self {
        Self(Arc::new(Mutex::new(canned)))
    }

    /// Changes the response.
    pub(crate) fn respond_with(&self, canned: CannedResponse) {
        *self.0.lock().unwrap() = canned;
    }

    /// Returns a client of the SDK whose requests go to this server.
    pub(crate) fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }
}

impl HttpConnector for Server {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let canned = self.0.lock().unwrap();
        let status = canned.status.try_into().unwrap();
        let mut response = HttpResponse::new(status, SdkBody::from(canned.body.clone()));
        for (name, value) in &canned.headers {
            if let Ok(value) = value.to_str() {
                response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
            }
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Makes a runtime for one target, on one thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

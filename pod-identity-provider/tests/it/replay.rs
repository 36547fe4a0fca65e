//! A scripted endpoint. It compares each request exactly with the script, and sends the response of the script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An expected request and the reply.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "ExchangeFile")]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
    /// Whether the request is expected at least twice. Otherwise it is expected once.
    pub(crate) repeated: bool,
}

/// An exchange in a file of a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeFile {
    request: Request,
    response: Option<Response>,
    failure: Option<ConnectionFailure>,
    #[serde(default)]
    repeated: bool,
}

impl TryFrom<ExchangeFile> for Exchange {
    type Error = &'static str;

    fn try_from(file: ExchangeFile) -> Result<Self, &'static str> {
        let ExchangeFile { request, response, failure, repeated } = file;
        let reply = match (response, failure) {
            (Some(response), None) => Reply::Response(response),
            (None, Some(failure)) => Reply::ConnectionFailure(failure),
            _ => return Err("an exchange has either a response or a failure"),
        };
        Ok(Self { request, reply, repeated })
    }
}

/// A GET request with these headers, `Accept: application/json`, the provider's `User-Agent`, and no other headers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Scheme, host and port of the request.
    pub(crate) to: String,
    pub(crate) path: String,
    /// The `Host` header. The default is host and port of `to`.
    pub(crate) host: Option<String>,
    /// The `Authorization` header. `None` if the request must not have one.
    pub(crate) authorization: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Response(Response),
    ConnectionFailure(ConnectionFailure),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Response {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A string is sent as plain text, and other values as JSON.
    #[serde(default)]
    pub(crate) body: serde_json::Value,
    /// The number of repetitions of the body.
    #[serde(default = "once")]
    pub(crate) times: usize,
    /// The delay of the response.
    #[serde(default)]
    pub(crate) after_ms: u64,
}

fn once() -> usize {
    1
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConnectionFailure {
    /// Closes the connection without a response.
    Close,
    /// Closes the connection in the middle of the body.
    Cut,
    /// Sends nothing, and keeps the connection open.
    Hang,
    /// Stops in the middle of the body, and keeps the connection open.
    Stall,
}

/// A running endpoint.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    exchanges: Vec<Exchange>,
    /// The number of requests for each exchange.
    counts: Vec<usize>,
    wrong: Vec<String>,
    /// The expected `User-Agent`. `None` if it is not compared.
    user_agent: Option<&'static str>,
}

impl Endpoint {
    /// Starts an endpoint, which ends with the runtime. `${port}` in expected requests is replaced by its port.
    pub(crate) async fn start(exchanges: Vec<Exchange>, user_agent: Option<&'static str>) -> Self {
        Self::start_at("127.0.0.1:0", exchanges, user_agent).await
    }

    /// Starts an endpoint at a fixed address.
    pub(crate) async fn start_at(
        address: &str,
        exchanges: Vec<Exchange>,
        user_agent: Option<&'static str>,
    ) -> Self {
        Self::serve(address, exchanges, user_agent, None).await
    }

    /// Starts an endpoint with TLS.
    #[cfg(feature = "https")]
    pub(crate) async fn start_tls(exchanges: Vec<Exchange>, tls: TlsAcceptor) -> Self {
        Self::serve("127.0.0.1:0", exchanges, None, Some(tls)).await
    }

    async fn serve(
        address: &str,
        mut exchanges: Vec<Exchange>,
        user_agent: Option<&'static str>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        for exchange in &mut exchanges {
            let request = &mut exchange.request;
            for text in [Some(&mut request.to), request.host.as_mut()].into_iter().flatten() {
                *text = text.replace("${port}", &address.port().to_string());
            }
        }
        let counts = vec![0; exchanges.len()];
        let state = Arc::new(Mutex::new(State { exchanges, counts, wrong: Vec::new(), user_agent }));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, state).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, state).await,
                            Err(error) => state.lock().unwrap().wrong.push(format!("TLS: {error}")),
                        },
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Returns the number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().counts.iter().sum()
    }

    /// Describes the unexpected requests.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        self.state.lock().unwrap().wrong.clone()
    }

    /// Describes the unexpected and the missing requests.
    pub(crate) fn failures(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut wrong = state.wrong.clone();
        for (number, (exchange, count)) in state.exchanges.iter().zip(&state.counts).enumerate() {
            let as_expected = if exchange.repeated { *count >= 2 } else { *count == 1 };
            if !as_expected {
                wrong.push(format!("request {number} was received {count} times: {:?}", exchange.request));
            }
        }
        wrong
    }
}

/// The header with the original target of a request, if a test client has changed the target.
pub(crate) const SENT_TO: &str = "x-sent-to";

/// The first part of a response.
const PARTIAL_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"AccessKeyId\"";

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream).await {
        let reply = state.lock().unwrap().next(&head);
        match reply {
            Some(Reply::Response(response)) => {
                tokio::time::sleep(Duration::from_millis(response.after_ms)).await;
                if stream.write_all(&response.bytes()).await.is_err() {
                    return;
                }
            }
            Some(Reply::ConnectionFailure(failure)) => {
                if matches!(failure, ConnectionFailure::Cut | ConnectionFailure::Stall) {
                    let _ = stream.write_all(PARTIAL_RESPONSE).await;
                }
                if matches!(failure, ConnectionFailure::Hang | ConnectionFailure::Stall) {
                    let _ = stream.read_u8().await; // until the peer closes the connection
                }
                return;
            }
            None => return,
        }
    }
}

async fn head<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.strip_suffix("\r\n")?;
        if line.is_empty() {
            return Some(lines);
        }
        lines.push(line.to_owned());
    }
}

impl Response {
    fn bytes(&self) -> Vec<u8> {
        let body = match &self.body {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let body = body.repeat(self.times);
        let mut head = format!("HTTP/1.1 {} \r\ncontent-length: {}\r\n", self.status, body.len());
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", body.as_bytes()].concat()
    }
}

impl State {
    fn next(&mut self, head: &[String]) -> Option<Reply> {
        let complete = |number: usize| if self.exchanges[number].repeated { 2 } else { 1 };
        let open = (0..self.exchanges.len()).find(|number| self.counts[*number] < complete(*number));
        let last = self.exchanges.len().checked_sub(1).filter(|last| self.exchanges[*last].repeated);
        let Some(number) = open.or(last) else {
            self.wrong.push(format!("unexpected: {head:?}"));
            return None;
        };
        self.counts[number] += 1;
        let wrong = self.exchanges[number].request.differs(head, self.user_agent);
        if let Some(wrong) = wrong {
            self.wrong.push(format!("request {number}: {wrong}"));
            return None;
        }
        Some(self.exchanges[number].reply.clone())
    }
}

impl Request {
    fn differs(&self, head: &[String], user_agent: Option<&str>) -> Option<String> {
        let mut headers = BTreeMap::new();
        for line in &head[1..] {
            let Some((name, value)) = line.split_once(':') else {
                return Some(format!("{line:?} is not a header"));
            };
            if headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()).is_some() {
                return Some(format!("the header {name} occurs twice"));
            }
        }
        let authority = self.to.split_once("://").map_or(self.to.as_str(), |(_, authority)| authority);
        let sent_to = headers.remove(SENT_TO);
        let mut expected = BTreeMap::from([
            ("accept".to_owned(), "application/json".to_owned()),
            ("host".to_owned(), self.host.clone().unwrap_or(authority.to_owned())),
        ]);
        expected.extend(self.authorization.clone().map(|token| ("authorization".to_owned(), token)));
        match user_agent {
            Some(name) => _ = expected.insert("user-agent".to_owned(), name.to_owned()),
            None => _ = headers.remove("user-agent"),
        }
        let line = format!("GET {} HTTP/1.1", self.path);
        let sent_to = sent_to.unwrap_or_else(|| self.to.clone());
        let differs = head[0] != line || headers != expected || sent_to != self.to;
        differs.then(|| {
            format!(
                "{:?} to {sent_to} with {headers:?}, and not {line:?} to {} with {expected:?}",
                head[0], self.to
            )
        })
    }
}

#[test]
fn rejects_a_line_that_is_not_a_header() {
    let request = Request {
        to: "http://127.0.0.1:80".to_owned(),
        path: "/".to_owned(),
        host: None,
        authorization: None,
    };
    let head = ["GET / HTTP/1.1", "host: 127.0.0.1:80", "accept: application/json"].map(str::to_owned);
    assert_eq!(request.differs(&head, None), None);
    let differs = request.differs(&[&head[..], &["x-no-colon".to_owned()]].concat(), None);
    assert_eq!(differs.unwrap(), "\"x-no-colon\" is not a header");
}

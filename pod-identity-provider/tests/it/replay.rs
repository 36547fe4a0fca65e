//! A scripted endpoint: it compares each request exactly and sends the response of the script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An expected request and its response.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) answer: Answer,
    /// The request comes twice or more.
    pub(crate) again: bool,
}

/// An exchange as a case writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    request: Request,
    response: Option<Response>,
    failure: Option<Failure>,
    #[serde(default)]
    again: bool,
}

impl TryFrom<Written> for Exchange {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let Written { request, response, failure, again } = written;
        let answer = match (response, failure) {
            (Some(response), None) => Answer::Response(response),
            (None, Some(failure)) => Answer::Failure(failure),
            _ => return Err("an exchange has either a response or a failure"),
        };
        Ok(Self { request, answer, again })
    }
}

/// A GET with these headers, `Accept: application/json`, the provider's `User-Agent`, and no others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// Scheme, host and port that the request was sent to.
    pub(crate) to: String,
    pub(crate) path: String,
    /// The `Host` header. Host and port of `to` by default.
    pub(crate) host: Option<String>,
    /// The `Authorization` header, if there must be one.
    pub(crate) authorization: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Response(Response),
    /// A failure instead of a response.
    Failure(Failure),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Response {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A plain text or JSON.
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
pub(crate) enum Failure {
    /// The connection is closed.
    Close,
    /// The connection is closed inside the body.
    Cut,
    /// Nothing is sent, and the connection stays open.
    Hang,
    /// The body stops in the middle, and the connection stays open.
    Stall,
}

/// The endpoint, at its own address.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    exchanges: Vec<Exchange>,
    /// The number of requests for each exchange.
    seen: Vec<usize>,
    wrong: Vec<String>,
    /// The expected `User-Agent`, if it is compared.
    user_agent: Option<&'static str>,
}

impl Endpoint {
    /// Serves until the runtime ends. `${port}` in expected requests is this endpoint's port.
    pub(crate) async fn start(exchanges: Vec<Exchange>, user_agent: Option<&'static str>) -> Self {
        Self::start_at("127.0.0.1:0", exchanges, user_agent).await
    }

    /// Serves at a given address.
    pub(crate) async fn start_at(
        address: &str,
        exchanges: Vec<Exchange>,
        user_agent: Option<&'static str>,
    ) -> Self {
        Self::serve(address, exchanges, user_agent, None).await
    }

    /// Serves over TLS.
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
        let seen = vec![0; exchanges.len()];
        let state = Arc::new(Mutex::new(State { exchanges, seen, wrong: Vec::new(), user_agent }));
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
        self.state.lock().unwrap().seen.iter().sum()
    }

    /// Returns the unexpected requests.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        self.state.lock().unwrap().wrong.clone()
    }

    /// Returns the unexpected and the missing requests.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut wrong = state.wrong.clone();
        for (number, (exchange, seen)) in state.exchanges.iter().zip(&state.seen).enumerate() {
            let enough = if exchange.again { *seen >= 2 } else { *seen == 1 };
            if !enough {
                wrong.push(format!("request {number} came {seen} times: {:?}", exchange.request));
            }
        }
        wrong
    }
}

/// The header in which a client in between names the target of a request. Direct requests have none.
pub(crate) const SENT_TO: &str = "x-sent-to";

/// The beginning of a response.
const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"AccessKeyId\"";

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream).await {
        let answer = state.lock().unwrap().next(&head);
        match answer {
            Some(Answer::Response(response)) => {
                tokio::time::sleep(Duration::from_millis(response.after_ms)).await;
                if stream.write_all(&response.bytes()).await.is_err() {
                    return;
                }
            }
            Some(Answer::Failure(failure)) => {
                if matches!(failure, Failure::Cut | Failure::Stall) {
                    let _ = stream.write_all(BEGUN).await;
                }
                if matches!(failure, Failure::Hang | Failure::Stall) {
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
    fn next(&mut self, head: &[String]) -> Option<Answer> {
        let complete = |number: usize| if self.exchanges[number].again { 2 } else { 1 };
        let open = (0..self.exchanges.len()).find(|number| self.seen[*number] < complete(*number));
        let last = self.exchanges.len().checked_sub(1).filter(|last| self.exchanges[*last].again);
        let Some(number) = open.or(last) else {
            self.wrong.push(format!("unexpected: {head:?}"));
            return None;
        };
        self.seen[number] += 1;
        let wrong = self.exchanges[number].request.differs(head, self.user_agent);
        if let Some(wrong) = wrong {
            self.wrong.push(format!("request {number}: {wrong}"));
            return None;
        }
        Some(self.exchanges[number].answer.clone())
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
fn a_line_that_is_not_a_header_is_a_difference() {
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

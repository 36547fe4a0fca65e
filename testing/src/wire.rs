//! HTTP/1.1 with full control over the bytes: requests that HTTP libraries refuse to send, and unmodified responses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The time limit of a response. It is longer than all time limits of the services.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection, over TCP or over TLS.
#[derive(Debug)]
pub struct Connection<S = TcpStream>(BufReader<S>);

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers. Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the value of a header, if the header occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// Returns the body as JSON, or `null` if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Opens a TCP connection.
    ///
    /// # Errors
    /// If the connection is refused.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Returns a connection over any stream.
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    /// If the peer has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Sends a request and returns the response. Adds no headers: the caller sets `Host` and `Content-Length` if needed.
    ///
    /// # Errors
    /// If the connection ends before the end of the response.
    pub async fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut head = format!("{line} HTTP/1.1\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.send(&[head.as_bytes(), body].concat()).await?;
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let answer = self.read_answer(!line.starts_with("HEAD "));
        tokio::time::timeout(ANSWER_LIMIT, answer).await.map_err(timed_out)?
    }

    /// Reads one response.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the connection ends first, [`io::ErrorKind::TimedOut`] after the time limit.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(ANSWER_LIMIT, self.read_answer(true)).await.map_err(timed_out)?
    }

    async fn read_answer(&mut self, with_body: bool) -> io::Result<Answer> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        answer.body.resize(if with_body { length } else { 0 }, 0);
        self.0.read_exact(&mut answer.body).await?;
        Ok(answer)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Returns whether the peer closes the connection without sending another byte.
    pub async fn closes(&mut self) -> bool {
        let read = self.0.read_u8();
        matches!(tokio::time::timeout(ANSWER_LIMIT, read).await, Ok(Err(_)))
    }
}

/// Sends one request on a new connection, with `Host`, `Connection: close` and `Content-Length`.
///
/// # Errors
/// Like [`Connection::ask`].
pub async fn ask(
    address: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let host = address.to_string();
    let length = body.len().to_string();
    let mut all = vec![("Host", host.as_str()), ("Connection", "close")];
    if !body.is_empty() {
        all.push(("Content-Length", &length));
    }
    all.extend(headers);
    Connection::open(address).await?.ask(line, &all, body).await
}

/// Starts a server on a loopback address, and returns the address. The body of its responses never ends. The server ends
/// with the runtime.
///
/// # Errors
/// If the server cannot listen.
pub async fn endless(content_type: &'static str) -> io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let length = u64::MAX / 2;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
                );
                let mut written = stream.write_all(head.as_bytes()).await;
                while written.is_ok() {
                    written = stream.write_all(&[b' '; 64 * 1024]).await;
                }
            });
        }
    });
    Ok(address)
}

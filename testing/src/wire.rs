//! HTTP/1.1 to the byte: requests that well-behaved clients cannot send, answers as they came.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long an answer may take: more than any limit of the services.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection, over TCP or over TLS.
#[derive(Debug)]
pub struct Connection<S = TcpStream>(BufReader<S>);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection over any stream.
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Where the other side is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Sends a request; `Host` and `Content-Length` have to be among the headers where they are due.
    ///
    /// # Errors
    /// Where the connection ends before the answer does.
    pub async fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut head = format!("{line} HTTP/1.1\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.send(&[head.as_bytes(), body].concat()).await?;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let answer = self.read_answer(!line.starts_with("HEAD "));
        tokio::time::timeout(ANSWER_LIMIT, answer).await.map_err(late)?
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the connection ends before, [`io::ErrorKind::TimedOut`]
    /// where nothing comes.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(ANSWER_LIMIT, self.read_answer(true)).await.map_err(late)?
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

    /// Whether the other side closes the connection, without another byte.
    pub async fn closes(&mut self) -> bool {
        let read = self.0.read_u8();
        matches!(tokio::time::timeout(ANSWER_LIMIT, read).await, Ok(Err(_)))
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// As [`Connection::ask`].
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

/// A server on a loopback address that answers every request with a body that never ends: its address. The server ends
/// with the runtime.
///
/// # Errors
/// Where it cannot listen.
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

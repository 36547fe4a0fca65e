//! The load: persistent connections, and requests of many pods in turn.

use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pod_identity_runtime::clock;

/// Number of connections. With them the server is always busy.
const CONNECTIONS: usize = 22;

/// Connections to one server, and the requests to send.
pub(super) struct Load {
    connections: Vec<TcpStream>,
    requests: Vec<Vec<u8>>,
    /// All responses have one length: credentials differ between pods, but here not in length.
    answer_length: usize,
    buffer: Vec<u8>,
    next: usize,
}

impl Load {
    /// Connects, and sends each request once, so that the responses are cached. Also returns the body.
    pub(super) fn start(address: SocketAddr, tokens: &[String]) -> std::io::Result<(Self, Vec<u8>)> {
        // The headers of boto3.
        let request = |token: &String| {
            format!(
                "GET /v1/credentials HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\
                 Accept-Encoding: identity\r\nUser-Agent: Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux \
                 lang/python#3.13 cfg/retry-mode#standard\r\nAuthorization: {token}\r\n\r\n"
            )
            .into_bytes()
        };
        let requests: Vec<Vec<u8>> = tokens.iter().map(request).collect();
        let connect = |_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(stream)
        };
        let connections = (0..CONNECTIONS).map(connect).collect::<std::io::Result<Vec<_>>>()?;
        let mut load = Self { connections, requests, answer_length: 0, buffer: vec![0; 16 * 1024], next: 0 };
        let mut body = Vec::new();
        for number in 0..load.requests.len() {
            let answer = load.first_answer(number)?;
            load.answer_length = answer.len();
            body = answer
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(Vec::new(), |end| answer[end + 4..].to_vec());
        }
        Ok((load, body))
    }

    /// Reads a response of unknown length, which ends with its JSON.
    fn first_answer(&mut self, number: usize) -> std::io::Result<Vec<u8>> {
        let connection = &mut self.connections[0];
        connection.write_all(&self.requests[number])?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let read = connection.read(&mut self.buffer)?;
            if read == 0 {
                return Err(Error::other("the server closed the connection"));
            }
            answer.extend_from_slice(&self.buffer[..read]);
        }
        check(&answer)?;
        Ok(answer)
    }

    /// Checks that both servers return the same response, except for the date.
    pub(super) fn check_same_bytes(&mut self, other: &mut Self) -> std::io::Result<()> {
        let lines = |answer: Vec<u8>| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            let mut lines: Vec<String> =
                text.split("\r\n").filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (one, two) = (lines(self.first_answer(0)?), lines(other.first_answer(0)?));
        if one != two {
            return Err(Error::other(format!("the responses differ: {one:?} and {two:?}")));
        }
        Ok(())
    }

    /// Sends a number of requests, one at a time on each connection, and returns the time.
    pub(super) fn send(&mut self, requests: u32) -> std::io::Result<Duration> {
        let started = clock::monotonic();
        let mut left = requests as usize;
        while left > 0 {
            let now = left.min(self.connections.len());
            for connection in &mut self.connections[..now] {
                connection.write_all(&self.requests[self.next])?;
                self.next = (self.next + 1) % self.requests.len();
            }
            for connection in &mut self.connections[..now] {
                connection.read_exact(&mut self.buffer[..self.answer_length])?;
                check(&self.buffer)?;
            }
            left -= now;
        }
        Ok(started.elapsed())
    }
}

fn check(answer: &[u8]) -> std::io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") {
        return Ok(());
    }
    Err(Error::other(format!("want credentials, got: {}", String::from_utf8_lossy(answer))))
}

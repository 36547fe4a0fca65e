//! The load: persistent connections, and the same review again and again.

use std::io::{Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pod_identity_runtime::clock;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use testing::authority::Authority;

/// Connections to one server, and the request to send.
pub(super) struct Load {
    connections: Vec<StreamOwned<ClientConnection, TcpStream>>,
    request: Vec<u8>,
    /// All responses have one length: the lifetimes of tokens differ, but not in their number of digits.
    answer_length: usize,
    buffer: Vec<u8>,
}

impl Load {
    /// Connects, and sends the request once. Also returns the body of the response.
    pub(super) fn start(
        address: SocketAddr,
        authority: &Authority,
        path: &str,
        body: &[u8],
        connections: usize,
    ) -> Result<(Self, Vec<u8>), Box<dyn std::error::Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.ca_der().into())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let connect = |_| -> Result<_, Box<dyn std::error::Error>> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut tls = ClientConnection::new(config.clone(), address.ip().into())?;
            tls.set_buffer_limit(None); // a whole request goes out in one write
            Ok(StreamOwned::new(tls, stream))
        };
        let connections = (0..connections).map(connect).collect::<Result<Vec<_>, _>>()?;
        // The headers of client-go.
        let mut request = format!(
            "POST {path}?timeout=10s HTTP/1.1\r\nHost: pod-identity-webhook.pod-identity.svc:443\r\n\
             User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\n\
             Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let mut load = Self { connections, request, answer_length: 0, buffer: vec![0; 64 * 1024] };
        let mut body = Vec::new();
        for number in 0..load.connections.len() {
            let answer = load.first_answer(number)?;
            load.answer_length = answer.len();
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_default();
            body = answer[end + 4..].to_vec();
        }
        if !String::from_utf8_lossy(&body).contains("JSONPatch") {
            return Err("the pod was not injected".into());
        }
        Ok((load, body))
    }

    /// Reads a response of unknown length, which ends with its JSON.
    fn first_answer(&mut self, number: usize) -> std::io::Result<Vec<u8>> {
        let connection = &mut self.connections[number];
        connection.write_all(&self.request)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            let read = connection.read(&mut self.buffer)?;
            if read == 0 {
                return Err(Error::other("the server closed the connection"));
            }
            answer.extend_from_slice(&self.buffer[..read]);
        }
        check(&answer)?;
        Ok(answer)
    }

    /// Sends a number of reviews, one at a time on each connection, and returns the time of each.
    pub(super) fn send(&mut self, reviews: u32) -> std::io::Result<Vec<Duration>> {
        let mut took = Vec::with_capacity(reviews as usize);
        while took.len() < reviews as usize {
            let mut sent = Vec::with_capacity(self.connections.len());
            for connection in &mut self.connections {
                sent.push(clock::monotonic());
                connection.write_all(&self.request)?;
            }
            for (connection, sent) in self.connections.iter_mut().zip(sent) {
                connection.read_exact(&mut self.buffer[..self.answer_length])?;
                took.push(sent.elapsed());
                check(&self.buffer)?;
            }
        }
        Ok(took)
    }
}

fn check(answer: &[u8]) -> std::io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") {
        return Ok(());
    }
    Err(Error::other(format!("want a response with status 200, got: {}", String::from_utf8_lossy(answer))))
}

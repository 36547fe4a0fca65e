//! Listeners for HTTP/1.1 over plain TCP or TLS, with limits and a drain at shutdown.

mod connections;
mod flags;

pub use connections::{Connections, Limits};
pub use flags::LimitFlags;

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_io_timeout::TimeoutStream;

use self::connections::{Closed, Permit};
use crate::logs::LogLimiter;
use crate::shutdown::{DRAIN_DEADLINE, Shutdown};
use crate::tls::ServerTls;

/// Maximum size of a request head in bytes. Tokens have at most 12 KiB. A connection buffers about as much for
/// reading, and for writing.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 64;
/// Maximum time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after a shutdown request during which idle connections still serve a request in transit. Its response then
/// closes the connection.
const IDLE_GRACE: Duration = Duration::from_millis(250);
/// Length of the kernel's queue of connections that wait to be accepted. `net.core.somaxconn` limits it, by default to
/// 4096.
const ACCEPT_QUEUE: u32 = 4096;
/// Size in bytes of the kernel's buffers of a connection, in each direction. Linux allocates twice as much.
const SOCKET_BUFFER: u32 = 64 * 1024;
/// Peer of log lines that are not about a peer.
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// Pause after a failed accept, usually because file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The client of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it presented a client certificate that the listener's client CA signed.
    pub has_client_certificate: bool,
}

impl Peer {
    /// Returns the IP address. An IPv4-mapped IPv6 address is returned as IPv4.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

/// A handler of requests.
pub trait Handler: Send + Sync + 'static {
    /// Returns the response to a request of a peer, also for errors.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A bound socket, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerTls>,
    connections: Connections,
}

impl Listener {
    /// Binds an address. Port 0 selects a free port. The listener has [`Limits::default`].
    ///
    /// # Errors
    /// If the address cannot be bound. The error contains the address.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{address}: {error}"));
        let socket = bind(address).map_err(named)?;
        Ok(Self { socket, tls: None, connections: Connections::new(Limits::default()) })
    }

    /// Adds TLS.
    #[must_use]
    pub fn with_tls(self, tls: ServerTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Sets the limits, which the listener shares with other listeners of `connections`.
    #[must_use]
    pub fn with_connections(self, connections: Connections) -> Self {
        Self { connections, ..self }
    }

    /// Returns the bound address.
    ///
    /// # Errors
    /// If the system does not report it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the shutdown. Then it accepts the connections in the kernel's queue, closes the socket, and
    /// finishes the requests in progress, for at most [`DRAIN_DEADLINE`].
    pub async fn serve(self, handler: Arc<impl Handler>, shutdown: Shutdown) {
        let Self { socket, tls, connections } = self;
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let limiter = LogLimiter::default();
        let start = |stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit| {
            let has_client_ca = tls.as_ref().is_some_and(ServerTls::has_client_ca);
            let ip = peer.ip().to_canonical();
            let is_local = stream.local_addr().is_ok_and(|own| own.ip().to_canonical() == ip);
            let Ok(permit) = connections.admit(ip, is_local, permit, has_client_ca) else { return };
            let connection = Connection {
                handler: handler.clone(),
                connections: connections.clone(),
                shutdown: shutdown.clone(),
                permit,
            };
            let (tls, open) = (tls.clone(), open.clone());
            tokio::spawn(async move {
                connection.serve(stream, peer, tls).await;
                drop(open);
            });
        };
        let mut shutdown_asked = pin!({
            let mut shutdown = shutdown.clone();
            async move { shutdown.asked().await }
        });
        loop {
            let accept = async {
                let permit = connections.permit().await;
                (socket.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut shutdown_asked => break,
                accepted = accept => accepted,
            };
            match (accepted, permit) {
                (Ok((stream, peer)), Some(permit)) => start(stream, peer, permit),
                (Err(error), _) => {
                    limiter.log(OWN, "accept", |suppressed| {
                        tracing::warn!(%error, suppressed, "connection not accepted");
                    });
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Ok(_), None) => return,
            }
        }
        accept_queued(socket, &connections, start);
        drop(open);
        if tokio::time::timeout(DRAIN_DEADLINE, all_closed.recv()).await.is_err() {
            tracing::warn!(
                seconds = DRAIN_DEADLINE.as_secs(),
                "drain deadline passed; open requests were cut off"
            );
        }
    }
}

/// Binds with a longer queue than the 1,024 of the standard library. When a peer opens thousands of connections at
/// once, the kernel must not drop another peer's first packet, which is repeated only after a second.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit the sizes. By default the kernel lets each buffer grow to megabytes.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

/// Accepts the connections in the kernel's queue, whose requests may have been sent already, and closes the socket.
fn accept_queued(
    socket: TcpListener,
    connections: &Connections,
    start: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
) {
    let Ok(socket) = socket.into_std() else { return };
    while let Some(permit) = connections.permit_now() {
        match socket.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    start(stream, peer, permit);
                }
            }
            // The client closed the connection meanwhile.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// The data of a connection.
struct Connection<H> {
    handler: Arc<H>,
    connections: Connections,
    shutdown: Shutdown,
    permit: Permit,
}

impl<H: Handler> Connection<H> {
    async fn serve(mut self, stream: TcpStream, address: SocketAddr, tls: Option<ServerTls>) {
        // Sends small responses at once. A failure costs only time.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.requests(stream, Peer { address, has_client_certificate: false }).await;
        };
        let Some(acceptor) = tls.acceptor() else {
            return tracing::debug!(peer = %address, "connection closed: there is no TLS certificate yet");
        };
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            failed => {
                let error = failed.map_or_else(
                    |_| "timed out".to_owned(),
                    |handshake| match handshake {
                        Ok(_) => String::new(),
                        Err(error) => error.to_string(),
                    },
                );
                self.connections.count(Closed::Handshake);
                return tracing::debug!(peer = %address, error, "TLS handshake failed");
            }
        };
        // rustls has verified the certificate, if there is one.
        let has_client_certificate = stream.get_ref().1.peer_certificates().is_some();
        match self.permit.settle(has_client_certificate) {
            Ok(()) => self.requests(stream, Peer { address, has_client_certificate }).await,
            Err(reason) => self.connections.count(reason),
        }
    }

    async fn requests<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Self { handler, connections, shutdown, permit } = self;
        let permit = Arc::new(permit);
        let limits = connections.limits();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_stall));
        let leaving = shutdown.clone();
        let service = service_fn(move |request| {
            let (handler, permit, leaving) = (handler.clone(), permit.clone(), leaving.clone());
            async move {
                permit.request().await;
                let mut response = handler.handle(request, peer).await;
                if leaving.is_asked() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new()) // the header timeout needs a timer
                .header_read_timeout(limits.head)
                .max_buf_size(MAX_HEAD)
                .max_headers(MAX_HEADERS)
                .serve_connection(TokioIo::new(Box::pin(stream)), service)
        );
        let mut leave = pin!(async move {
            let mut shutdown = shutdown;
            shutdown.asked().await;
            tokio::time::sleep(IDLE_GRACE).await;
        });
        // The connection is polled first, so that it reads arrived requests before it ends.
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = &mut leave => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            if is_stalled_write(&error) {
                connections.count(Closed::WriteStalled);
            }
            tracing::debug!(peer = %peer.address, %error, "connection ended early");
        }
    }
}

/// Returns whether a connection ended because its peer did not read. Only the write timeout has this kind.
fn is_stalled_write(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == ErrorKind::TimedOut)
}

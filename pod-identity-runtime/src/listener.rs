//! Listeners: HTTP/1.1 over plain TCP or TLS, with limits, drained at the end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::shutdown::{DRAIN_DEADLINE, Shutdown};
use crate::tls::ServerTls;

/// The most that a request's head may take. Tokens have at most 12 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers a request may have.
const MAX_HEADERS: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections a listener holds, and how long it waits for their next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections served at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a client may take to send a request's head, from the connection's beginning or from the last
    /// answer. So it is how long a connection is kept that nobody uses, too.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, head: Duration::from_secs(5) }
    }
}

/// What answers the requests of a listener.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request of that peer. It must not fail: an error is an answer too.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A bound socket, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerTls>,
    limits: Limits,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// Where the address cannot be bound; the error names it.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{address}: {error}"));
        let socket = TcpListener::bind(address).await.map_err(named)?;
        Ok(Self { socket, tls: None, limits: Limits::default() })
    }

    /// The same listener, speaking TLS.
    #[must_use]
    pub fn with_tls(self, tls: ServerTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same listener, with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the shutdown, then finishes the requests under way, for at most
    /// [`DRAIN_DEADLINE`].
    pub async fn serve(self, handler: Arc<impl Handler>, mut shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.asked() => break,
                accepted = self.accept(&places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let (handler, tls, watcher) = (handler.clone(), self.tls.clone(), graceful.watcher());
            let patience = self.limits.head;
            tokio::spawn(async move {
                connection(stream, peer, tls, patience, handler, watcher).await;
                drop(place);
            });
        }
        drop(self.socket);
        if tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                seconds = DRAIN_DEADLINE.as_secs(),
                "drain deadline passed; open requests are cut off"
            );
        }
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = places.clone().acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, peer)) => Some((stream, peer, place)),
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets some be closed.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTls>,
    patience: Duration,
    handler: Arc<impl Handler>,
    watcher: Watcher,
) {
    // Small answers go out at once; failing to ask for that costs only time.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return requests(stream, peer, patience, handler, watcher).await };
    let Some(acceptor) = tls.acceptor() else {
        return tracing::debug!(%peer, "no TLS certificate yet: the connection is closed");
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, patience, handler, watcher).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
    }
}

async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    patience: Duration,
    handler: Arc<impl Handler>,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, std::convert::Infallible>(handler.handle(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new()) // without it the next line does nothing
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

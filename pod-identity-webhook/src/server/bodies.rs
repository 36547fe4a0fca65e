//! Reads request bodies within limits: size and time for each body, memory for each peer, and memory in total. Every pod of
//! the cluster can reach the webhook, and API servers must still get responses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use pod_identity_runtime::http::{BodyError, read_body_within};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::request_error::RequestError;
use pod_identity_core::inject::MAX_REVIEW_BYTES;

/// Maximum time for a body, including the wait for memory. An API server waits at most this long for a webhook
/// (`timeoutSeconds` in `admissionregistration.k8s.io/v1`).
const MAX_TIME: Duration = Duration::from_secs(30);
/// Maximum size in bytes of a body that needs no permit for memory. A review of two containers has 6 to 8 kB.
const SMALL: usize = 64 * 1024;
/// Maximum time for a larger body after it got memory, since others wait for that memory. It allows 8 MiB at 13 Mbit/s. An
/// API server has the whole review before it sends it.
const MAX_TIME_WITH_MEMORY: Duration = Duration::from_secs(5);
/// Memory for larger bodies in bytes. With a small body on each of 1,024 connections the total is 96 MiB.
const MEMORY: usize = 4 * MAX_REVIEW_BYTES;
/// Memory of one peer in bytes. Three such peers leave as much to the API server.
const PEER_MEMORY: usize = MAX_REVIEW_BYTES;
/// Bytes of one permit of a semaphore.
const UNIT: usize = 1024;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    memory: Arc<Semaphore>,
    /// Memory of each peer with bodies.
    of_peers: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A body with the permit for its memory.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _memory: Option<Memory>,
}

/// Permits for the memory of one body; released on drop.
#[derive(Debug)]
struct Memory {
    _of_all: OwnedSemaphorePermit,
    /// `None` for a peer without a limit of its own.
    _of_peer: Option<(OwnedSemaphorePermit, Arc<Semaphore>)>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MEMORY / UNIT)), of_peers: Mutex::default() }
    }
}

impl Bodies {
    /// Reads a body of a peer. `None` is a peer that may use all memory.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is too large or too slow, or waits too long for memory.
    pub(super) async fn read(&self, body: Incoming, peer: Option<IpAddr>) -> Result<Body, RequestError> {
        let deadline = Instant::now() + MAX_TIME;
        let announced = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if announced.is_some_and(|size| size > MAX_REVIEW_BYTES) {
            return Err(RequestError::too_large());
        }
        // A body of unknown size may have the maximum size.
        let size = announced.unwrap_or(MAX_REVIEW_BYTES);
        if size <= SMALL {
            return Ok(Body { bytes: read_body_within(body, SMALL, MAX_TIME).await?, _memory: None });
        }
        let memory =
            timeout_at(deadline, self.memory(size, peer)).await.map_err(|_| RequestError::Busy)??;
        let left = MAX_TIME_WITH_MEMORY.min(deadline - Instant::now());
        let bytes = read_body_within(body, size, left).await.map_err(|error| match error {
            BodyError::TooSlow { .. } => BodyError::TooSlow { patience: MAX_TIME_WITH_MEMORY },
            error => error,
        })?;
        Ok(Body { bytes, _memory: Some(memory) })
    }

    /// Waits for memory: first for the peer's own, so that its bodies never block the queue of other peers.
    async fn memory(&self, size: usize, peer: Option<IpAddr>) -> Result<Memory, RequestError> {
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let of_peer = match peer.map(|peer| self.of_peer(peer)) {
            Some(memory) => {
                let permit =
                    memory.clone().acquire_many_owned(units).await.map_err(|_| RequestError::Busy)?;
                Some((permit, memory))
            }
            None => None,
        };
        let of_all = self.memory.clone().acquire_many_owned(units).await.map_err(|_| RequestError::Busy)?;
        Ok(Memory { _of_all: of_all, _of_peer: of_peer })
    }

    fn of_peer(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = of_peers.get(&peer).and_then(Weak::upgrade) {
            return memory;
        }
        of_peers.retain(|_, memory| memory.strong_count() > 0);
        let memory = Arc::new(Semaphore::new(PEER_MEMORY / UNIT));
        of_peers.insert(peer, Arc::downgrade(&memory));
        memory
    }
}

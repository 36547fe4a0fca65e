//! Reads request bodies. Each body has a limit of size and time, each peer a share of the memory, and all bodies a
//! total. Every pod of the cluster can reach the webhook, and the API server must still get answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use pod_identity_runtime::http::{BodyError, read_body_within};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::refusal::Refusal;
use pod_identity_core::inject::MAX_REVIEW_BYTES;

/// The total time for a body, waiting for memory included: the most that an API server waits for a webhook
/// (`timeoutSeconds` in `admissionregistration.k8s.io/v1`), so that this program never gives up first.
const TOTAL: Duration = Duration::from_secs(30);
/// Maximum size in bytes of a body that needs no share of the memory. A review of two containers has 6 to 8 kB.
const SMALL: usize = 64 * 1024;
/// Maximum time for a larger body after it got memory, which others wait for: 8 MiB at 13 Mbit/s. API servers are
/// near, and have all of a review when they begin to send it.
const LARGE: Duration = Duration::from_secs(5);
/// The memory for larger bodies. Together with small ones on each of 1,024 connections that is 96 MiB.
const MEMORY: usize = 4 * MAX_REVIEW_BYTES;
/// The share of one peer. Three such peers leave a share to the API server.
const SHARE: usize = MAX_REVIEW_BYTES;
/// Bytes of a semaphore's permit.
const UNIT: usize = 1024;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    memory: Arc<Semaphore>,
    /// Memory of each peer that has bodies.
    shares: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A body, and its memory.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _memory: Option<Memory>,
}

/// The memory of one body; released on drop.
#[derive(Debug)]
struct Memory {
    _of_all: OwnedSemaphorePermit,
    /// `None` for a peer without a limit of its own.
    _of_peer: Option<(OwnedSemaphorePermit, Arc<Semaphore>)>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MEMORY / UNIT)), shares: Mutex::default() }
    }
}

impl Bodies {
    /// Reads a body of a peer; `None` is a peer that may use all of the memory.
    ///
    /// # Errors
    /// [`Refusal`] for a body that is too large or too slow, or waits too long for memory.
    pub(super) async fn read(&self, body: Incoming, peer: Option<IpAddr>) -> Result<Body, Refusal> {
        let deadline = Instant::now() + TOTAL;
        let announced = body.size_hint().exact().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if announced.is_some_and(|size| size > MAX_REVIEW_BYTES) {
            return Err(Refusal::too_large());
        }
        // One of unknown size may become the largest.
        let size = announced.unwrap_or(MAX_REVIEW_BYTES);
        if size <= SMALL {
            return Ok(Body { bytes: read_body_within(body, SMALL, TOTAL).await?, _memory: None });
        }
        let memory = timeout_at(deadline, self.memory(size, peer)).await.map_err(|_| Refusal::Busy)??;
        let left = LARGE.min(deadline - Instant::now());
        let bytes = read_body_within(body, size, left).await.map_err(|error| match error {
            BodyError::TooSlow { .. } => BodyError::TooSlow { patience: LARGE },
            error => error,
        })?;
        Ok(Body { bytes, _memory: Some(memory) })
    }

    /// Waits for memory: first for the peer's own share, so that its bodies never take the queue from those of other
    /// peers.
    async fn memory(&self, size: usize, peer: Option<IpAddr>) -> Result<Memory, Refusal> {
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let of_peer = match peer.map(|peer| self.share(peer)) {
            Some(share) => {
                let permit = share.clone().acquire_many_owned(units).await.map_err(|_| Refusal::Busy)?;
                Some((permit, share))
            }
            None => None,
        };
        let of_all = self.memory.clone().acquire_many_owned(units).await.map_err(|_| Refusal::Busy)?;
        Ok(Memory { _of_all: of_all, _of_peer: of_peer })
    }

    fn share(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0); // as many stay as have bodies here
        let share = Arc::new(Semaphore::new(SHARE / UNIT));
        shares.insert(peer, Arc::downgrade(&share));
        share
    }
}

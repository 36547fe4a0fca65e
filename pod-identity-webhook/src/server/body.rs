//! Reading bodies: within bounds of size and time for each, and of memory for all. Every pod of the cluster may
//! reach this program, and the API server has to be answered all the same.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use pod_identity_runtime::http::read_body_within;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::refusal::Refusal;
use crate::review::MAX_BYTES;

/// How long a small body may take: the most that an API server waits for a webhook (`timeoutSeconds` in
/// `admissionregistration.k8s.io/v1`), so that this program never is the one who gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Up to that many bytes a body is a small one, as nearly all are: a review of two containers has 6 to 8 kB.
const SMALL: u64 = 64 * 1024;
/// How long a larger one may take, for it has a place that others wait for: 8 MiB at 13 Mbit/s. API servers are near,
/// and have all of a review when they begin to send it.
const PATIENCE_WITH_LARGE: Duration = Duration::from_secs(5);
/// How many larger ones are held at once. Together with small ones on every connection that is 96 MiB.
const LARGE_AT_ONCE: usize = 4;

/// The bodies that are held.
#[derive(Debug)]
pub(super) struct Bodies {
    large: Semaphore,
}

/// A body, and its place among the large ones.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    _place: Option<SemaphorePermit<'a>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { large: Semaphore::new(LARGE_AT_ONCE) }
    }
}

impl Bodies {
    pub(super) async fn read(&self, body: Incoming) -> Result<Body<'_>, Refusal> {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|size| size > MAX_BYTES as u64) {
            return Err(Refusal::too_large());
        }
        // One of unknown size may become a large one.
        let place = if announced.is_none_or(|size| size > SMALL) {
            match tokio::time::timeout(PATIENCE, self.large.acquire()).await {
                Ok(Ok(place)) => Some(place),
                Ok(Err(_)) | Err(_) => return Err(Refusal::Busy),
            }
        } else {
            None
        };
        let patience = if place.is_some() { PATIENCE_WITH_LARGE } else { PATIENCE };
        let bytes = read_body_within(body, MAX_BYTES, patience).await?;
        Ok(Body { bytes, _place: place })
    }
}

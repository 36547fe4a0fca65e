//! `/healthz`, `/readyz` and `/metrics`, on a listener of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;

use crate::http::{answer, plain};
use crate::listener::{Handler, Peer};

/// What has to hold before the service should get traffic. Liveness does not depend on it: a
/// restart mends none of these.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// Says that a condition holds.
    pub fn met(&self, condition: &'static str) {
        self.set(condition, None);
    }

    /// Says that a condition is yet to hold, before anything is served: a start is no alarm.
    pub fn pending(&self, condition: &'static str, reason: &str) {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.insert(condition, Some(reason.to_owned()));
    }

    /// Says that a condition does not hold, and why.
    pub fn unmet(&self, condition: &'static str, reason: impl Into<String>) {
        self.set(condition, Some(reason.into()));
    }

    fn set(&self, condition: &'static str, reason: Option<String>) {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = conditions.get(condition);
        if known != Some(&reason) {
            match &reason {
                None => tracing::info!(condition, "ready"),
                Some(reason) => tracing::warn!(condition, %reason, "not ready"),
            }
            conditions.insert(condition, reason);
        }
    }

    /// Every condition that does not hold, with the reason.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, reason)| Some((*name, reason.clone()?))).collect()
    }
}

/// The admin endpoints of one process.
#[derive(Debug)]
pub struct Admin {
    readiness: Readiness,
    registry: Registry,
    pages: Vec<Page>,
}

/// A page of one program's own.
struct Page {
    path: &'static str,
    answer: Box<dyn Fn() -> Response<Full<Bytes>> + Send + Sync>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

impl Admin {
    /// Serves this readiness and these metrics.
    pub fn new(readiness: Readiness, mut registry: Registry) -> Self {
        crate::logs::register(&mut registry);
        Self { readiness, registry, pages: Vec::new() }
    }

    /// The same, with a page of the program's own.
    #[must_use]
    pub fn with_page(
        mut self,
        path: &'static str,
        answer: impl Fn() -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.pages.push(Page { path, answer: Box::new(answer) });
        self
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let missing = self.readiness.missing();
        if missing.is_empty() {
            return plain(StatusCode::OK, "ready\n");
        }
        let lines: String = missing.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
        plain(StatusCode::SERVICE_UNAVAILABLE, lines)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => answer(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text.into(),
            ),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            path => match self.pages.iter().find(|page| page.path == path) {
                Some(page) => (page.answer)(),
                None => plain(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"),
            },
        }
    }
}

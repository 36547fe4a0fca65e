//! Readiness, and the admin endpoints `/healthz`, `/readyz` and `/metrics` on a separate listener.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;

use crate::clock::monotonic;
use crate::http::{answer, plain};
use crate::listener::{Handler, Peer};
use crate::metrics::{register_gauge, register_gauges};

/// Start-up conditions of a process, and later faults.
///
/// Readiness is a latch. `/readyz` returns 503 and the failing conditions until every [`pending`](Self::pending) and
/// every [`awaited`](Self::awaited) condition has been met once. From then on it returns 200 until
/// [`leaving`](Self::leaving). A ready replica with a fault serves the requests that it can, and other requests get an
/// error with the fault. A fault of one cluster or of an upstream affects every replica, so readiness would remove all
/// of them from the Service. Later faults are in the gauge `pod_identity_condition` and in log lines.
///
/// Liveness does not depend on conditions, because a restart repairs none of them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    conditions: BTreeMap<&'static str, Condition>,
    started: bool,
    leaving: Option<String>,
}

#[derive(Debug)]
struct Condition {
    /// Whether readiness waits for this condition.
    required: bool,
    state: ConditionState,
    /// Time of its last failure.
    failed_at: Option<Instant>,
    logged_at: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum ConditionState {
    /// Neither met nor failed yet. The process may be ready.
    Awaited,
    Pending(String),
    Failed(String),
    Met,
}

impl ConditionState {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending(reason) | Self::Failed(reason) => Some(reason),
            Self::Awaited | Self::Met => None,
        }
    }
}

/// Minimum time between a condition's last failure and its recovery, after the process became ready. Calls that
/// alternately fail and succeed are one fault.
const RECOVERY: Duration = Duration::from_secs(10);

/// Minimum time between two log lines of a condition that keeps failing for different reasons.
const REPEAT: Duration = Duration::from_secs(60);

impl Readiness {
    /// Registers the gauges `pod_identity_ready` and `pod_identity_condition`.
    pub fn register(&self, registry: &mut Registry) {
        let ready = self.clone();
        register_gauge(registry, "pod_identity_ready", "1 if /readyz returns 200", move || {
            Some(i64::from(ready.missing().is_empty()))
        });
        let conditions = self.clone();
        let help = "1 if the condition is met, 0 if it fails or has not been met yet";
        register_gauges(registry, "pod_identity_condition", help, move || {
            let state = conditions.state();
            let known =
                state.conditions.iter().filter(|(_, condition)| condition.state != ConditionState::Awaited);
            known
                .map(|(name, condition)| {
                    ([("condition", *name)], i64::from(condition.state == ConditionState::Met))
                })
                .collect()
        });
    }

    /// Declares a condition that is not met yet. The process is not ready until it is met.
    pub fn pending(&self, condition: &'static str, reason: &str) {
        self.declare(condition, ConditionState::Pending(reason.to_owned()));
    }

    /// Declares a condition whose state is unknown. The process may be ready until the condition fails. The latch
    /// closes when all conditions are met.
    pub fn awaited(&self, condition: &'static str) {
        self.declare(condition, ConditionState::Awaited);
    }

    fn declare(&self, condition: &'static str, state: ConditionState) {
        let declared = Condition { required: true, state, failed_at: None, logged_at: None };
        self.state().conditions.insert(condition, declared);
    }

    /// Reports that a condition is met. After a failure of a ready process, it takes effect 10 s after the last report
    /// of that failure.
    pub fn met(&self, condition: &'static str) {
        self.set(condition, ConditionState::Met, monotonic());
    }

    /// Reports that a condition fails, with the reason. It makes the process unready only if the latch is not closed
    /// yet and the condition was declared.
    pub fn unmet(&self, condition: &'static str, reason: impl Into<String>) {
        self.set(condition, ConditionState::Failed(reason.into()), monotonic());
    }

    /// Makes the process unready permanently, because it is about to end.
    pub fn leaving(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let before = self.state().leaving.replace(reason.clone());
        if before.is_none() {
            tracing::info!(reason, "no longer ready");
        }
    }

    fn set(&self, name: &'static str, state: ConditionState, now: Instant) {
        let mut readiness = self.state();
        let started = readiness.started;
        let condition = readiness.conditions.entry(name).or_insert(Condition {
            required: false,
            state: ConditionState::Awaited,
            failed_at: None,
            logged_at: None,
        });
        let within =
            |since: Option<Instant>, span| since.is_some_and(|since| now.duration_since(since) < span);
        match &state {
            ConditionState::Failed(reason) => {
                condition.failed_at = Some(now);
                let still = matches!(condition.state, ConditionState::Failed(_));
                if !still || (condition.state != state && !within(condition.logged_at, REPEAT)) {
                    condition.logged_at = Some(now);
                    tracing::warn!(condition = name, %reason, "condition failed");
                }
            }
            ConditionState::Met if started && within(condition.failed_at, RECOVERY) => return,
            ConditionState::Met
                if matches!(condition.state, ConditionState::Failed(_) | ConditionState::Pending(_)) =>
            {
                tracing::info!(condition = name, "condition met");
            }
            _ => {}
        }
        condition.state = state;
        let met = |condition: &Condition| !condition.required || condition.state == ConditionState::Met;
        if !started && readiness.conditions.values().all(met) {
            // A process without conditions is ready from its first response on.
            readiness.started = true;
            tracing::info!("ready");
        }
    }

    /// Returns the reasons of a 503 of `/readyz` by condition, or nothing if it returns 200.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let state = self.state();
        if let Some(reason) = &state.leaving {
            return vec![("shutdown", reason.clone())];
        }
        if state.started { Vec::new() } else { state.failing(|condition| condition.required) }
    }

    /// Returns the failing conditions with their reasons, even if the process is ready.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        self.state().failing(|_| true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failing(&self, of: impl Fn(&Condition) -> bool) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.iter().filter(|(_, condition)| of(condition));
        conditions
            .filter_map(|(name, condition)| Some((*name, condition.state.reason()?.to_owned())))
            .collect()
    }
}

/// The admin endpoints of one process.
#[derive(Debug)]
pub struct Admin {
    readiness: Readiness,
    registry: Registry,
    pages: Vec<Page>,
}

/// An additional page of one program.
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
    /// Serves a readiness and metrics.
    pub fn new(readiness: Readiness, mut registry: Registry) -> Self {
        crate::logs::register(&mut registry);
        Self { readiness, registry, pages: Vec::new() }
    }

    /// Adds a page to the endpoints.
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
        let lines = |of: Vec<(&str, String)>| -> String {
            of.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect()
        };
        match self.readiness.missing() {
            missing if missing.is_empty() => {
                plain(StatusCode::OK, format!("ready\n{}", lines(self.readiness.faults())))
            }
            missing => plain(StatusCode::SERVICE_UNAVAILABLE, lines(missing)),
        }
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
            return plain(StatusCode::METHOD_NOT_ALLOWED, "want method GET\n");
        }
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            path => match self.pages.iter().find(|page| page.path == path) {
                Some(page) => (page.answer)(),
                None => {
                    plain(StatusCode::NOT_FOUND, "not found: the paths are /healthz, /readyz and /metrics\n")
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str) -> ConditionState {
        ConditionState::Failed(reason.to_owned())
    }

    #[test]
    fn process_stays_ready_after_every_condition_was_met() {
        let readiness = Readiness::default();
        readiness.pending("keys", "no keys yet");
        readiness.pending("sts", "not called yet");
        readiness.met("keys");
        assert_eq!(readiness.missing(), [("sts", "not called yet".to_owned())]);
        readiness.unmet("keys", "lost again");
        readiness.met("sts");
        assert_eq!(
            readiness.missing(),
            [("keys", "lost again".to_owned())],
            "the conditions were not met at the same time"
        );
        readiness.met("keys");
        assert_eq!(readiness.missing(), []);

        readiness.unmet("keys", "cluster b has no keys");
        readiness.unmet("sts", "connection refused");
        readiness.unmet("file", "it is broken");
        assert_eq!(readiness.missing(), []);
        assert_eq!(readiness.faults().len(), 3);
        readiness.leaving("the process is ending");
        assert_eq!(readiness.missing(), [("shutdown", "the process is ending".to_owned())]);
    }

    #[test]
    fn awaited_condition_makes_process_unready_only_if_it_fails_before_it_was_met() {
        let readiness = Readiness::default();
        readiness.awaited("own_credentials");
        assert_eq!(readiness.missing(), []);
        readiness.unmet("own_credentials", "refused");
        assert_eq!(readiness.missing().len(), 1);
        readiness.met("own_credentials");
        readiness.unmet("own_credentials", "refused");
        assert_eq!(readiness.missing(), []);
    }

    #[test]
    fn undeclared_condition_never_makes_the_process_unready() {
        let readiness = Readiness::default();
        readiness.pending("keys", "no keys yet");
        readiness.unmet("file", "it is broken");
        readiness.met("keys");
        assert_eq!(readiness.missing(), []);
        assert_eq!(readiness.faults(), [("file", "it is broken".to_owned())]);
    }

    #[test]
    fn fault_ends_ten_seconds_after_its_last_report() {
        let (readiness, start) = (Readiness::default(), monotonic());
        let at = |seconds| start + Duration::from_secs(seconds);
        readiness.set("sts", ConditionState::Met, start);
        readiness.set("sts", failed("down"), at(1));
        readiness.set("sts", ConditionState::Met, at(5));
        readiness.set("sts", failed("down"), at(6));
        readiness.set("sts", ConditionState::Met, at(15));
        assert_eq!(readiness.faults().len(), 1, "9 s after the last report");
        readiness.set("sts", ConditionState::Met, at(16));
        assert_eq!(readiness.faults(), []);
    }

    #[test]
    fn metrics_have_each_condition_and_readiness() {
        let (readiness, mut registry) = (Readiness::default(), Registry::default());
        readiness.register(&mut registry);
        readiness.pending("keys", "no keys yet");
        readiness.awaited("own_credentials");
        let metrics = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let before = metrics();
        assert!(before.contains("pod_identity_ready 0\n"), "{before}");
        assert!(before.contains("pod_identity_condition{condition=\"keys\"} 0\n"), "{before}");
        assert!(!before.contains("own_credentials"), "its state is unknown: {before}");
        readiness.met("keys");
        let after = metrics();
        assert!(after.contains("pod_identity_ready 1\n"), "{after}");
        assert!(after.contains("pod_identity_condition{condition=\"keys\"} 1\n"), "{after}");
    }
}

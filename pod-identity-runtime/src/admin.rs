//! Readiness, and the admin endpoints `/healthz`, `/readyz` and `/metrics` on a listener of their own.

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

/// Start-up conditions of a process, and the faults that come later.
///
/// Readiness is a latch. Until every [`required`](Self::pending) and every [`awaited`](Self::awaited) condition has
/// been met once, `/readyz` answers 503 and lists the conditions that fail. From then on it answers 200 until
/// [`leaving`](Self::leaving): a replica with a fault serves what it can, and its caller gets an error that names the
/// fault. A fault of one cluster or of an upstream concerns every replica, so an unready answer would remove them all.
/// Later faults are the gauge `pod_identity_condition`, and log lines.
///
/// Liveness does not depend on conditions: a restart repairs none of them.
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
    standing: Standing,
    /// Time of its last failure.
    failed_at: Option<Instant>,
    logged_at: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Neither met nor failed yet; it does not make the process unready.
    Awaited,
    Pending(String),
    Failed(String),
    Met,
}

impl Standing {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending(reason) | Self::Failed(reason) => Some(reason),
            Self::Awaited | Self::Met => None,
        }
    }
}

/// Minimum time between a condition's last failure and its recovery, after the process became ready. Calls that fail
/// and succeed in turn are one fault.
const RECOVERY: Duration = Duration::from_secs(10);

/// Minimum time between two log lines of a condition that keeps failing with changing reasons.
const REPEAT: Duration = Duration::from_secs(60);

impl Readiness {
    /// Registers the gauges `pod_identity_ready` and `pod_identity_condition`.
    pub fn register(&self, registry: &mut Registry) {
        let ready = self.clone();
        register_gauge(registry, "pod_identity_ready", "1 where /readyz answers 200", move || {
            Some(i64::from(ready.missing().is_empty()))
        });
        let conditions = self.clone();
        let help = "1 where the condition holds, 0 where it fails or has not been met yet";
        register_gauges(registry, "pod_identity_condition", help, move || {
            let state = conditions.state();
            let known = state.conditions.iter().filter(|(_, one)| one.standing != Standing::Awaited);
            known
                .map(|(name, one)| ([("condition", *name)], i64::from(one.standing == Standing::Met)))
                .collect()
        });
    }

    /// Requires a condition that is not met yet: the process is not ready until it is met.
    pub fn pending(&self, condition: &'static str, reason: &str) {
        self.declare(condition, Standing::Pending(reason.to_owned()));
    }

    /// Awaits a condition whose state is unknown. The process is ready until the condition fails; the latch closes
    /// when it is met.
    pub fn awaited(&self, condition: &'static str) {
        self.declare(condition, Standing::Awaited);
    }

    fn declare(&self, condition: &'static str, standing: Standing) {
        let declared = Condition { required: true, standing, failed_at: None, logged_at: None };
        self.state().conditions.insert(condition, declared);
    }

    /// Reports that a condition holds. After a failure of a ready process it takes effect 10 s after the last report
    /// of that failure.
    pub fn met(&self, condition: &'static str) {
        self.set(condition, Standing::Met, monotonic());
    }

    /// Reports that a condition fails, with the reason. It makes the process unready only before the latch closes, and
    /// only where the condition was declared.
    pub fn unmet(&self, condition: &'static str, reason: impl Into<String>) {
        self.set(condition, Standing::Failed(reason.into()), monotonic());
    }

    /// Makes the process unready for good: it is about to end.
    pub fn leaving(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let before = self.state().leaving.replace(reason.clone());
        if before.is_none() {
            tracing::info!(reason, "no longer ready");
        }
    }

    fn set(&self, name: &'static str, standing: Standing, now: Instant) {
        let mut state = self.state();
        let started = state.started;
        let condition = state.conditions.entry(name).or_insert(Condition {
            required: false,
            standing: Standing::Awaited,
            failed_at: None,
            logged_at: None,
        });
        let within =
            |since: Option<Instant>, span| since.is_some_and(|since| now.duration_since(since) < span);
        match &standing {
            Standing::Failed(reason) => {
                condition.failed_at = Some(now);
                let still = matches!(condition.standing, Standing::Failed(_));
                if !still || (condition.standing != standing && !within(condition.logged_at, REPEAT)) {
                    condition.logged_at = Some(now);
                    tracing::warn!(condition = name, %reason, "condition failed");
                }
            }
            Standing::Met if started && within(condition.failed_at, RECOVERY) => return,
            Standing::Met if matches!(condition.standing, Standing::Failed(_) | Standing::Pending(_)) => {
                tracing::info!(condition = name, "condition met");
            }
            _ => {}
        }
        condition.standing = standing;
        if !started && state.conditions.values().all(|one| !one.required || one.standing == Standing::Met) {
            // A process that awaits nothing is ready from its first answer on.
            state.started = true;
            tracing::info!("ready");
        }
    }

    /// The reasons why `/readyz` answers 503, by condition; empty where it answers 200.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let state = self.state();
        if let Some(reason) = &state.leaving {
            return vec![("shutdown", reason.clone())];
        }
        if state.started { Vec::new() } else { state.failing(|one| one.required) }
    }

    /// The conditions that fail now, with their reasons, whether or not they make the process unready.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        self.state().failing(|_| true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failing(&self, of: impl Fn(&Condition) -> bool) -> Vec<(&'static str, String)> {
        let conditions = self.conditions.iter().filter(|(_, one)| of(one));
        conditions.filter_map(|(name, one)| Some((*name, one.standing.reason()?.to_owned()))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str) -> Standing {
        Standing::Failed(reason.to_owned())
    }

    #[test]
    fn a_process_stays_ready_once_every_condition_was_met() {
        let readiness = Readiness::default();
        readiness.pending("keys", "no keys yet");
        readiness.pending("sts", "not asked yet");
        readiness.met("keys");
        assert_eq!(readiness.missing(), [("sts", "not asked yet".to_owned())]);
        readiness.unmet("keys", "lost again");
        readiness.met("sts");
        assert_eq!(readiness.missing(), [("keys", "lost again".to_owned())], "not all were met at once");
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
    fn an_awaited_condition_makes_the_process_unready_only_if_it_fails_before_it_was_met() {
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
    fn a_condition_that_nobody_declared_never_makes_the_process_unready() {
        let readiness = Readiness::default();
        readiness.pending("keys", "no keys yet");
        readiness.unmet("file", "it is broken");
        readiness.met("keys");
        assert_eq!(readiness.missing(), []);
        assert_eq!(readiness.faults(), [("file", "it is broken".to_owned())]);
    }

    #[test]
    fn a_fault_is_over_ten_seconds_after_its_last_report() {
        let (readiness, start) = (Readiness::default(), monotonic());
        let at = |seconds| start + Duration::from_secs(seconds);
        readiness.set("sts", Standing::Met, start);
        readiness.set("sts", failed("away"), at(1));
        readiness.set("sts", Standing::Met, at(5));
        readiness.set("sts", failed("away"), at(6));
        readiness.set("sts", Standing::Met, at(15));
        assert_eq!(readiness.faults().len(), 1, "9 s after the last report");
        readiness.set("sts", Standing::Met, at(16));
        assert_eq!(readiness.faults(), []);
    }

    #[test]
    fn metrics_show_each_condition_and_whether_the_process_is_ready() {
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

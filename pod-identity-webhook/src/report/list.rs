//! The published findings: a list, and metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use pod_identity_runtime::http::json;
use pod_identity_runtime::metrics::{register_gauge, register_gauges};
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::finding::{Finding, NOT_INJECTED};
use pod_identity_runtime::clock::rfc3339;
use pod_identity_runtime::logs::FAULT_REPEAT;

/// The findings of the last complete reading. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(Arc<Mutex<State>>);

/// The result of one reading of all running pods.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) found: Vec<Finding>,
    /// The UIDs of pods whose service account could not be read. Their earlier findings stay.
    pub(super) undetermined: HashSet<String>,
}

#[derive(Debug, Default)]
struct State {
    /// The time of the last complete reading.
    read: Option<SystemTime>,
    /// By UID of the pod.
    pods: HashMap<String, Listed>,
    undetermined: usize,
}

#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    finding: Finding,
    /// The time of the reading that first found it, in RFC 3339.
    found: String,
    /// The time of its last Event, by the monotonic clock.
    #[serde(skip)]
    event: Option<Duration>,
}

impl Findings {
    /// The path of the list on the metrics port.
    pub(super) const PATH: &str = "/uninjected-pods";

    /// Registers `pod_identity_webhook_uninjected_pods`, `pod_identity_webhook_undetermined_pods` and
    /// `pod_identity_webhook_last_reading_seconds`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let findings = Self::default();
        let (by_reason, undetermined, read) = (findings.clone(), findings.clone(), findings.clone());
        register_gauges(
            registry,
            "pod_identity_webhook_uninjected_pods",
            "Running pods without what their service account has, by reason",
            move || by_reason.lock().count(),
        );
        register_gauge(
            registry,
            "pod_identity_webhook_undetermined_pods",
            "Running pods whose service account could not be read at the last complete reading",
            move || Some(undetermined.lock().undetermined as u64),
        );
        register_gauge(
            registry,
            "pod_identity_webhook_last_reading_seconds",
            "Time of the last complete reading of all running pods, in seconds since 1970; 0 before the first",
            move || Some(read.lock().read.map_or(0, seconds)),
        );
        findings
    }

    /// Replaces the findings by those of a complete reading that ended at `now`, a monotonic time, and `time`.
    ///
    /// `send` gets each finding that is new or whose last Event is an hour old, and returns whether it was accepted. A
    /// finding that was not accepted is sent again at the next reading.
    pub(super) fn replace(
        &self,
        Reading { found, undetermined }: Reading,
        now: Duration,
        time: SystemTime,
        mut send: impl FnMut(&Finding) -> bool,
    ) {
        let mut state = self.lock();
        let mut earlier = std::mem::take(&mut state.pods);
        for finding in found {
            let before =
                earlier.remove(&finding.uid).filter(|before| before.finding.reason == finding.reason);
            let (found, mut event) =
                before.map_or_else(|| (rfc3339(time), None), |before| (before.found, before.event));
            if event.is_none_or(|last| now.saturating_sub(last) >= FAULT_REPEAT) && send(&finding) {
                event = Some(now);
            }
            state.pods.insert(finding.uid.clone(), Listed { finding, found, event });
        }
        state.pods.extend(earlier.into_iter().filter(|(uid, _)| undetermined.contains(uid)));
        (state.undetermined, state.read) = (undetermined.len(), Some(time));
    }

    /// Returns the list, by namespace and name; 503 before the first complete reading.
    pub(super) fn page(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Page<'a> {
            read: String,
            undetermined: usize,
            pods: Vec<&'a Listed>,
        }
        #[derive(Serialize)]
        struct NotRead {
            code: &'static str,
            message: &'static str,
        }
        let state = self.lock();
        let Some(read) = state.read else {
            let message = "the running pods have not been read yet: the log names failures";
            return json(StatusCode::SERVICE_UNAVAILABLE, &NotRead { code: "not_read", message });
        };
        let mut pods: Vec<_> = state.pods.values().collect();
        pods.sort_by_key(|pod| (&pod.finding.namespace, &pod.finding.pod));
        json(StatusCode::OK, &Page { read: rfc3339(read), undetermined: state.undetermined, pods })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Pods by reason; none before the first complete reading, which would say that no pod lacks anything.
    fn count(&self) -> Vec<([(&'static str, &'static str); 1], u64)> {
        let mut count = BTreeMap::from([(NOT_INJECTED, 0)]);
        for pod in self.pods.values() {
            *count.entry(pod.finding.reason).or_default() += 1;
        }
        let count = count.into_iter().map(|(reason, count)| ([("reason", reason)], count));
        count.filter(|_| self.read.is_some()).collect()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn finding(name: &str, uid: &str, reason: &'static str) -> Finding {
        Finding {
            namespace: "shop".to_owned(),
            pod: format!("{name}-{uid}"),
            uid: uid.to_owned(),
            service_account: name.to_owned(),
            reason,
            message: String::new(),
        }
    }

    fn complete(found: &[Finding]) -> Reading {
        Reading { found: found.to_vec(), undetermined: HashSet::new() }
    }

    fn unknown(uids: &[&str]) -> Reading {
        Reading { found: vec![], undetermined: uids.iter().map(|uid| (*uid).to_owned()).collect() }
    }

    impl Findings {
        /// Replaces at a second of the test. Returns the UIDs that were sent.
        fn replace_at(&self, second: u64, reading: Reading) -> Vec<String> {
            let (mut sent, now) = (Vec::new(), Duration::from_secs(second));
            self.replace(reading, now, SystemTime::UNIX_EPOCH + now, |finding| {
                sent.push(finding.uid.clone());
                true
            });
            sent
        }

        fn uids(&self) -> Vec<String> {
            let mut uids: Vec<_> = self.lock().pods.keys().cloned().collect();
            uids.sort();
            uids
        }

        fn metrics(registry: &Registry) -> String {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            text
        }
    }

    #[test]
    fn a_pod_is_sent_once_for_each_reason_and_keeps_the_time_it_was_found() {
        let mut registry = Registry::default();
        let findings = Findings::register(&mut registry);
        let (cart, pay) = (finding("cart", "1", "not_injected"), finding("pay", "2", "not_injected"));
        assert_eq!(findings.replace_at(1, complete(&[cart.clone(), pay.clone()])), ["1", "2"]);
        let third = finding("cart", "3", "not_injected");
        assert_eq!(findings.replace_at(2, complete(&[cart, pay.clone(), third.clone()])), ["3"]);
        assert_eq!(findings.lock().pods["1"].found, "1970-01-01T00:00:01Z");
        assert!(Findings::metrics(&registry).contains("uninjected_pods{reason=\"not_injected\"} 3\n"));
        let other_reason = finding("cart", "1", "role_differs");
        assert_eq!(findings.replace_at(3, complete(&[other_reason, pay, third])), ["1"]);
        assert_eq!(findings.lock().pods["1"].found, "1970-01-01T00:00:03Z");
        let metrics = Findings::metrics(&registry);
        assert!(metrics.contains("uninjected_pods{reason=\"not_injected\"} 2\n"), "{metrics}");
        assert!(metrics.contains("uninjected_pods{reason=\"role_differs\"} 1\n"), "{metrics}");
        assert!(metrics.contains("last_reading_seconds 3\n"), "{metrics}");
        assert!(findings.replace_at(4, complete(&[])).is_empty());
        assert!(findings.uids().is_empty());
        assert!(Findings::metrics(&registry).contains("uninjected_pods{reason=\"not_injected\"} 0\n"));
    }

    #[test]
    fn a_finding_that_persists_is_sent_once_an_hour() {
        let findings = Findings::default();
        let cart = || complete(&[finding("cart", "1", "not_injected")]);
        let seconds = (0..=2 * HOUR).step_by(300);
        let sent: Vec<_> =
            seconds.filter(|second| !findings.replace_at(*second, cart()).is_empty()).collect();
        assert_eq!(sent, [0, HOUR, 2 * HOUR]);
    }

    #[test]
    fn a_finding_that_was_not_accepted_is_sent_again_at_the_next_reading() {
        let findings = Findings::default();
        let cart = || complete(&[finding("cart", "1", "not_injected")]);
        findings.replace(cart(), Duration::ZERO, SystemTime::UNIX_EPOCH, |_| false);
        assert_eq!(findings.replace_at(300, cart()), ["1"]);
        assert!(findings.replace_at(600, cart()).is_empty());
    }

    #[test]
    fn while_a_service_account_cannot_be_read_findings_about_its_pods_stay_and_are_not_sent_again() {
        let mut registry = Registry::default();
        let findings = Findings::register(&mut registry);
        let cart = |uid| finding("cart", uid, "not_injected");
        findings.replace_at(0, complete(&[cart("1"), cart("2"), finding("pay", "3", "not_injected")]));
        // The second pod is gone, the third has all it needs, and the service account of the others cannot be read.
        assert!(findings.replace_at(2 * HOUR, unknown(&["1", "4"])).is_empty());
        assert_eq!(findings.uids(), ["1"]);
        assert!(Findings::metrics(&registry).contains("undetermined_pods 2\n"));
        let pay = Reading { found: vec![finding("pay", "3", "not_injected")], ..unknown(&["1"]) };
        assert_eq!(findings.replace_at(2 * HOUR + 1, pay), ["3"]);
        assert_eq!(findings.uids(), ["1", "3"]);
        assert!(Findings::metrics(&registry).contains("undetermined_pods 1\n"));
        // It was sent two hours ago, so it is due again.
        assert_eq!(findings.replace_at(2 * HOUR + 2, complete(&[cart("1")])), ["1"]);
        assert_eq!(findings.lock().pods["1"].found, "1970-01-01T00:00:00Z");
        findings.replace_at(2 * HOUR + 3, unknown(&["1"]));
        assert!(findings.replace_at(2 * HOUR + 4, complete(&[cart("1")])).is_empty());
        assert!(Findings::metrics(&registry).contains("undetermined_pods 0\n"));
    }

    #[test]
    fn before_the_first_reading_neither_list_nor_metrics_say_that_no_pod_lacks_anything() {
        let mut registry = Registry::default();
        let findings = Findings::register(&mut registry);
        assert_eq!(findings.page().status(), StatusCode::SERVICE_UNAVAILABLE);
        let metrics = Findings::metrics(&registry);
        assert!(!metrics.contains("uninjected_pods{") && metrics.contains("last_reading_seconds 0\n"));
        findings.replace_at(1, complete(&[]));
        assert_eq!(findings.page().status(), StatusCode::OK);
    }
}

//! What was found: a gauge, and a page for people and programs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::clock;
use pod_identity_runtime::http::json;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::judgement::{Finding, NOT_INJECTED};
use crate::text::rfc3339;

/// The pods that lack something, as of the last reading. Clones are the same list.
#[derive(Debug, Clone)]
pub(in crate::reports) struct Findings {
    state: Arc<Mutex<State>>,
    gauge: Family<Reason, Gauge>,
    undetermined: Gauge,
}

/// What a reading of pods has found.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) found: Vec<Finding>,
    pub(super) undetermined: Undetermined,
}

/// Pods of which nobody could say for certain what they lack, by their UIDs: what their account has was not
/// known. What was found of them before stays.
pub(super) type Undetermined = HashMap<(Namespace, ServiceAccount), HashSet<String>>;

#[derive(Debug, Default)]
struct State {
    /// When all pods were last read; never by a replica that does not look.
    read: Option<String>,
    /// By the pods' UIDs.
    pods: HashMap<String, Finding>,
    undetermined: Undetermined,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl State {
    fn count_undetermined(&self) -> usize {
        self.undetermined.values().map(HashSet::len).sum()
    }
}

/// The time, in RFC 3339.
pub(super) fn time() -> String {
    rfc3339(clock::now())
}

impl Findings {
    /// The path of the page, on the port of the metrics.
    pub(in crate::reports) const PATH: &str = "/uninjected-pods";

    /// None yet. Registers `pod_identity_webhook_uninjected_pods` and `pod_identity_webhook_undetermined_pods`.
    pub(in crate::reports) fn register(registry: &mut Registry) -> Self {
        let gauge = Family::<Reason, Gauge>::default();
        drop(gauge.get_or_create(&Reason { reason: NOT_INJECTED }));
        registry.register(
            "pod_identity_webhook_uninjected_pods",
            "Running pods without what their service account has, by reason; of the replica that looks for them",
            gauge.clone(),
        );
        let undetermined = Gauge::default();
        registry.register(
            "pod_identity_webhook_undetermined_pods",
            "Running pods whose service account could not be read, of the replica that looks for them",
            undetermined.clone(),
        );
        Self { state: Arc::default(), gauge, undetermined }
    }

    /// Puts what a reading of all pods has found in place of everything, and gives those that are new.
    pub(super) fn replace_all(&self, read: Read) -> Vec<Finding> {
        let mut state = self.lock();
        state.read = Some(time());
        state.undetermined.clear();
        self.put(&mut state, read, |_| true)
    }

    /// The same for the pods of one account.
    pub(super) fn replace(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
        read: Read,
    ) -> Vec<Finding> {
        let mut state = self.lock();
        state.undetermined.remove(&(namespace.clone(), account.clone()));
        let of = |finding: &Finding| {
            finding.namespace == namespace.as_str() && finding.service_account == account.as_str()
        };
        self.put(&mut state, read, of)
    }

    /// Forgets all: another replica looks.
    pub(super) fn clear(&self) {
        *self.lock() = State::default();
        self.gauge.clear();
        self.undetermined.set(0);
    }

    fn put(&self, state: &mut State, read: Read, of: impl Fn(&Finding) -> bool) -> Vec<Finding> {
        let staying: HashSet<&String> = read.undetermined.values().flatten().collect();
        let told: HashSet<_> = state.pods.values().map(|old| (old.uid.clone(), old.reason)).collect();
        let mut first_found: HashMap<_, _> = state
            .pods
            .extract_if(|uid, old| of(old) && !staying.contains(uid))
            .map(|(uid, old)| ((uid, old.reason), old.found))
            .collect();
        let mut new = Vec::new();
        for mut finding in read.found {
            let key = (finding.uid.clone(), finding.reason);
            if let Some(found) = first_found.remove(&key) {
                finding.found = found;
            }
            if !told.contains(&key) {
                new.push(finding.clone());
            }
            state.pods.insert(finding.uid.clone(), finding);
        }
        let mut count = BTreeMap::from([(NOT_INJECTED, 0)]);
        for finding in state.pods.values() {
            *count.entry(finding.reason).or_default() += 1;
        }
        self.gauge.clear();
        for (reason, count) in count {
            self.gauge.get_or_create(&Reason { reason }).set(count);
        }
        state.undetermined.extend(read.undetermined);
        self.undetermined.set(i64::try_from(state.count_undetermined()).unwrap_or(i64::MAX));
        new
    }

    /// The page: what was found, by namespace and name. A replica that does not look says so with 503.
    pub(in crate::reports) fn page(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Page<'a> {
            read: &'a str,
            undetermined: usize,
            pods: Vec<&'a Finding>,
        }
        #[derive(Serialize)]
        struct Elsewhere {
            code: &'static str,
            message: &'static str,
        }
        let state = self.lock();
        let Some(read) = &state.read else {
            let message = "this replica has not read the pods: the one that does holds the Lease \
                           pod-identity-webhook-reconciler";
            return json(StatusCode::SERVICE_UNAVAILABLE, &Elsewhere { code: "not_read", message });
        };
        let mut pods: Vec<_> = state.pods.values().collect();
        pods.sort_by(|one, other| (&one.namespace, &one.pod).cmp(&(&other.namespace, &other.pod)));
        json(StatusCode::OK, &Page { read, undetermined: state.count_undetermined(), pods })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(account: &str, uid: &str, reason: &'static str, found: &str) -> Finding {
        Finding {
            namespace: "shop".to_owned(),
            pod: format!("{account}-{uid}"),
            uid: uid.to_owned(),
            service_account: account.to_owned(),
            reason,
            message: String::new(),
            found: found.to_owned(),
        }
    }

    fn read(found: Vec<Finding>) -> Read {
        Read { found, undetermined: Undetermined::new() }
    }

    fn uids(found: &[Finding]) -> Vec<&str> {
        found.iter().map(|finding| &*finding.uid).collect()
    }

    #[test]
    fn a_pod_is_told_of_once_for_each_reason_and_keeps_the_time_it_was_found() {
        let findings = Findings::register(&mut Registry::default());
        let first =
            vec![finding("cart", "1", "not_injected", "t1"), finding("pay", "2", "not_injected", "t1")];
        assert_eq!(uids(&findings.replace_all(read(first))), ["1", "2"]);
        let (shop, cart) = ("shop".parse().unwrap(), "cart".parse().unwrap());
        let again =
            vec![finding("cart", "1", "not_injected", "t2"), finding("cart", "3", "not_injected", "t2")];
        assert_eq!(uids(&findings.replace(&shop, &cart, read(again))), ["3"]);
        assert_eq!(findings.lock().pods["1"].found, "t1");
        assert_eq!(findings.lock().pods.len(), 3);
        assert_eq!(findings.gauge.get_or_create(&Reason { reason: "not_injected" }).get(), 3);
        let other_reason = vec![finding("cart", "1", "role_differs", "t3")];
        assert_eq!(uids(&findings.replace(&shop, &cart, read(other_reason))), ["1"]);
        assert_eq!(findings.lock().pods["1"].found, "t3");
        assert_eq!(findings.gauge.get_or_create(&Reason { reason: "not_injected" }).get(), 1);
        assert!(findings.replace_all(read(vec![])).is_empty());
        assert!(findings.lock().pods.is_empty());
    }

    #[test]
    fn while_an_account_cannot_be_read_what_was_found_of_its_pods_stays_and_is_not_said_again() {
        let findings = Findings::register(&mut Registry::default());
        let (shop, cart): (Namespace, ServiceAccount) = ("shop".parse().unwrap(), "cart".parse().unwrap());
        let both =
            || vec![finding("cart", "1", "not_injected", "t1"), finding("cart", "2", "not_injected", "t1")];
        let pay = || finding("pay", "3", "not_injected", "t1");
        findings.replace_all(read(both().into_iter().chain([pay()]).collect()));
        // The second pod is gone, the third has all it needs, and of two nobody knows.
        let unknown = |uids: &[&str]| {
            let uids = uids.iter().map(|uid| (*uid).to_owned()).collect();
            Read { found: vec![], undetermined: [((shop.clone(), cart.clone()), uids)].into() }
        };
        assert!(findings.replace_all(unknown(&["1", "4"])).is_empty());
        let seen = || {
            let state = findings.lock();
            let mut uids: Vec<_> = state.pods.keys().cloned().collect();
            uids.sort();
            assert_eq!(findings.undetermined.get(), i64::try_from(state.count_undetermined()).unwrap());
            (uids.join(" "), state.count_undetermined())
        };
        assert_eq!(seen(), ("1".to_owned(), 2));
        assert!(findings.replace(&shop, &cart, unknown(&["1"])).is_empty());
        assert_eq!(seen(), ("1".to_owned(), 1));
        // A reading of another account changes nothing about this one.
        let another = "pay".parse().unwrap();
        assert_eq!(uids(&findings.replace(&shop, &another, read(vec![pay()]))), ["3"]);
        assert_eq!(seen(), ("1 3".to_owned(), 1));
        let again = finding("cart", "1", "not_injected", "t2");
        assert!(findings.replace(&shop, &cart, read(vec![again])).is_empty(), "it was said already");
        assert_eq!((seen(), &*findings.lock().pods["1"].found), (("1 3".to_owned(), 0), "t1"));
        findings.replace_all(unknown(&["1"]));
        findings.clear();
        assert_eq!(seen(), (String::new(), 0));
    }

    #[test]
    fn a_replica_that_has_not_read_the_pods_does_not_say_that_all_is_well() {
        let findings = Findings::register(&mut Registry::default());
        assert_eq!(findings.page().status(), StatusCode::SERVICE_UNAVAILABLE);
        findings.replace_all(read(vec![]));
        assert_eq!(findings.page().status(), StatusCode::OK);
        findings.clear();
        assert_eq!(findings.page().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

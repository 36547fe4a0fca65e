//! The list of injected pods, as JSON.

use std::time::SystemTime;

use pod_identity_runtime::clock::rfc3339;
use serde::Serialize;

use super::table::Table;

/// Maximum number of pods in the list. A node has 110 pods by default, and 250 at most on EKS.
const MAX_PODS: usize = 1000;

#[derive(Serialize)]
struct Page<'a> {
    pods: Vec<Pod<'a>>,
    /// Pods that are left out of the list.
    omitted: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    service_account: &'a str,
    uid: &'a str,
    addresses: Vec<String>,
    host_network: bool,
    started: Option<String>,
    /// The time of the last request that was served.
    last_request: Option<String>,
    last_error: Option<LastError>,
}

#[derive(Serialize)]
struct LastError {
    code: &'static str,
    time: String,
}

/// Returns the list, sorted by namespace and name.
pub(super) fn json(table: &Table) -> Vec<u8> {
    let text = |time: Option<SystemTime>| time.map(rfc3339);
    let mut pods: Vec<_> = table
        .injected()
        .map(|(uid, pod)| Pod {
            namespace: &pod.namespace,
            name: &pod.name,
            service_account: &pod.service_account,
            uid: uid.as_str(),
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            host_network: pod.host_network,
            started: text(pod.started),
            last_request: text(pod.last_request()),
            last_error: pod
                .failure()
                .map(|failure| LastError { code: failure.code.as_str(), time: rfc3339(failure.at) }),
        })
        .collect();
    pods.sort_by_key(|pod| (pod.namespace, pod.name));
    let omitted = pods.len().saturating_sub(MAX_PODS);
    pods.truncate(MAX_PODS);
    // Strings and numbers can always be written.
    serde_json::to_vec(&Page { pods, omitted }).unwrap_or_default()
}

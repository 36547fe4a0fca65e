//! Metrics of the node's pods.

use pod_identity_runtime::clock;
use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::registry::Registry;

use super::check::Pods;
use super::table::Table;

/// Registers `pod_identity_node_pods`, `pod_identity_node_pods_without_request` and `pod_identity_pod_reads_total`, if
/// pods are watched.
pub fn register(pods: &Pods, registry: &mut Registry) {
    let Some(lookup) = pods.lookup() else { return };
    lookup.register(registry);
    let of_all = pods.clone();
    register_gauge(registry, "pod_identity_node_pods", "Pods of this node that the agent knows", move || {
        i64::try_from(of_all.read(Table::len)).ok()
    });
    let of_silent = pods.clone();
    register_gauge(
        registry,
        "pod_identity_node_pods_without_request",
        "Pods with Pod Identity that started after the agent and have run for 5 minutes without a request",
        move || i64::try_from(of_silent.read(|table| table.without_request(clock::now()))).ok(),
    );
}

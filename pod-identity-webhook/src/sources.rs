//! The sources of roles that the configuration names: a metric, and a warning if no source gives Pod Identity.

use pod_identity_runtime::metrics::register_gauges;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;

use crate::config::{Config, ServiceAccountRead};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

/// Registers `pod_identity_webhook_source_configured`. Warns if the webhook has no source of associations.
pub(crate) fn show(config: &Config, registry: &mut Registry) {
    let (associations, file) = (config.associations.is_some(), config.pod_identity_file.is_some());
    let sources = [
        ("associations", associations),
        ("pod_identity_file", file),
        ("config_map", config.watch_config_map),
        ("annotations", config.service_account_read != ServiceAccountRead::Never),
    ];
    register_gauges(
        registry,
        "pod_identity_webhook_source_configured",
        "1 if the webhook has this source of roles, otherwise 0",
        move || sources.map(|(source, is_on)| (SourceLabel { source }, i64::from(is_on))).to_vec(),
    );
    if !associations && !file {
        tracing::warn!(
            "no source of associations: only the label podidentity.dev/inject=enabled injects Pod Identity; for \
             associations give --associations and --cluster-name, or --watch-container-credentials-config"
        );
    }
}

//! Authorities in a ConfigMap that clients mount.

use std::time::Duration;

use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::failure::{CertificateFailure, changes};
use super::publication::{Bundles, Publication};

/// The RBAC rule that the calls need.
const RULE: &str = "get, list, watch and patch of the ConfigMap of its authorities, and create of configmaps if it does not \
                    exist";

/// The entry of the ConfigMap that holds the authorities in PEM.
pub const CA_ENTRY: &str = "ca.crt";

/// Time between the publication of an authority in a ConfigMap and the use of its certificate: the
/// [`wait`](super::CertificateConfig::wait) of programs whose clients mount the ConfigMap.
///
/// kubelet updates a mounted ConfigMap within its sync period and the delay of its cache, about two minutes. Ten minutes
/// leave time for a kubelet that restarts.
pub const MOUNTED_WAIT: Duration = Duration::from_secs(10 * 60);

/// A ConfigMap whose entry [`CA_ENTRY`] holds the authorities. Pods mount it, and kubelet updates the mounted file.
///
/// The first replica creates the ConfigMap. Its other entries, labels and annotations are not touched.
#[derive(Debug)]
pub struct CaConfigMap {
    config_maps: Api<ConfigMap>,
    namespace: String,
    name: String,
}

impl CaConfigMap {
    /// Selects the ConfigMap `name` of the namespace.
    pub fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        let config_maps = Api::namespaced(client, namespace);
        Self { config_maps, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Publication for CaConfigMap {
    async fn read(&self) -> Result<Bundles, CertificateFailure> {
        let read = self.config_maps.get_opt(&self.name);
        let found = CertificateFailure::call("reading the ConfigMap of authorities", RULE, read).await?;
        Ok(bundles(found.as_ref()))
    }

    async fn write(&self, bundles: &Bundles) -> Result<(), CertificateFailure> {
        let pem: String = bundles.bundles.iter().map(Bundle::to_pem).collect();
        if bundles.version.is_some() {
            let (patch, params) = (Patch::Merge(patch(bundles, &pem)), PatchParams::default());
            let patched = self.config_maps.patch(&self.name, &params, &patch);
            return CertificateFailure::call("writing the ConfigMap of authorities", RULE, patched)
                .await
                .map(drop);
        }
        let mut config_map = ConfigMap::default();
        config_map.metadata.name = Some(self.name.clone());
        config_map.data = Some([(CA_ENTRY.to_owned(), pem)].into());
        let params = PostParams::default();
        let created = self.config_maps.create(&params, &config_map);
        CertificateFailure::call("creating the ConfigMap of authorities", RULE, created).await.map(drop)
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let client = self.config_maps.clone().into_client();
        changes::<ConfigMap>(Api::namespaced(client, &self.namespace), &self.name)
    }

    fn missing(&self) -> String {
        let Self { namespace, name, .. } = self;
        format!("no ConfigMap {name} in the namespace {namespace}: check --ca-config-map and --namespace")
    }
}

/// Returns one bundle, which is empty if the ConfigMap or its entry does not exist.
fn bundles(found: Option<&ConfigMap>) -> Bundles {
    let pem = found.and_then(|found| found.data.as_ref()?.get(CA_ENTRY)).map_or("", String::as_str);
    Bundles {
        version: found.and_then(|found| found.metadata.resource_version.clone()),
        bundles: vec![Bundle::from_pem(CA_ENTRY, pem.as_bytes())],
    }
}

/// Returns a merge patch that sets the entry and nothing else. The API server refuses it (409) if the object has another
/// version.
fn patch(bundles: &Bundles, pem: &str) -> Value {
    json!({"metadata": {"resourceVersion": bundles.version}, "data": {CA_ENTRY: pem}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::rotation::Authority;

    #[test]
    fn absent_config_map_and_absent_entry_are_one_empty_bundle() {
        let empty = vec![Bundle { name: CA_ENTRY.to_owned(), authorities: vec![] }];
        assert_eq!(bundles(None), Bundles { version: None, bundles: empty.clone() });
        let of = |object: Value| bundles(Some(&serde_json::from_value(object).unwrap()));
        let version = Some("7".to_owned());
        let found = of(json!({"metadata": {"resourceVersion": "7"}, "data": {"other": "x"}}));
        assert_eq!(found, Bundles { version: version.clone(), bundles: empty.clone() });
        let found = of(json!({"metadata": {"resourceVersion": "7"}, "data": {CA_ENTRY: "# nothing yet"}}));
        assert_eq!(found, Bundles { version, bundles: empty });
    }

    #[test]
    fn patch_names_the_version_and_one_entry() {
        let bundle = Bundle { name: CA_ENTRY.to_owned(), authorities: vec![Authority::from(vec![1; 100])] };
        let pem = bundle.to_pem();
        let read = json!({"metadata": {"resourceVersion": "7"}, "data": {CA_ENTRY: pem}});
        let found = bundles(Some(&serde_json::from_value(read.clone()).unwrap()));
        assert_eq!(found.bundles, [bundle]);
        assert_eq!(patch(&found, &pem), read);
    }
}

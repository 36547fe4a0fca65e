//! Authorities in the `caBundle`s of a webhook configuration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::BoxStream;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::failure::{CertificateFailure, changes};
use super::publication::{Bundles, Publication};

/// The RBAC rule that the calls need.
const RULE: &str = "get, list, watch and patch of its MutatingWebhookConfiguration";

/// The `caBundle` of each entry of a `MutatingWebhookConfiguration` that calls one Service. API servers verify the
/// webhook's certificate with it.
///
/// API servers call a Service as `<service>.<namespace>.svc` (`k8s.io/apiserver`, `pkg/util/webhook`), whatever the
/// domain of the cluster is. Entries that call other Services are not touched.
#[derive(Debug)]
pub struct WebhookConfiguration {
    configurations: Api<MutatingWebhookConfiguration>,
    name: String,
    namespace: String,
    service: String,
}

impl WebhookConfiguration {
    /// Selects the entries of the configuration `name` that call the Service.
    pub fn new(client: kube::Client, name: &str, namespace: &str, service: &str) -> Self {
        Self {
            configurations: Api::all(client),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
        }
    }
}

impl Publication for WebhookConfiguration {
    async fn read(&self) -> Result<Bundles, CertificateFailure> {
        let read = self.configurations.get_opt(&self.name);
        let found = CertificateFailure::call("reading the webhook configuration", RULE, read).await?;
        Ok(found.map_or_else(Bundles::default, |found| bundles(&found, &self.namespace, &self.service)))
    }

    async fn write(&self, bundles: &Bundles) -> Result<(), CertificateFailure> {
        let (patch, params) = (Patch::Strategic(patch(bundles)), PatchParams::default());
        let patched = self.configurations.patch(&self.name, &params, &patch);
        CertificateFailure::call("writing the webhook configuration", RULE, patched).await.map(drop)
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let client = self.configurations.clone().into_client();
        changes::<MutatingWebhookConfiguration>(Api::all(client), &self.name)
    }

    fn missing(&self) -> String {
        let Self { name, service, .. } = self;
        format!(
            "no MutatingWebhookConfiguration {name} with an entry for the Service {service}: check \
             --webhook-configuration and --service-name"
        )
    }
}

fn bundles(configuration: &MutatingWebhookConfiguration, namespace: &str, service: &str) -> Bundles {
    let own = configuration.webhooks.iter().flatten().filter(|webhook| {
        let called = webhook.client_config.service.as_ref();
        called.is_some_and(|called| called.namespace == namespace && called.name == service)
    });
    let bundles = own.map(|webhook| {
        let pem = webhook.client_config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
        Bundle::from_pem(&webhook.name, pem)
    });
    Bundles { version: configuration.metadata.resource_version.clone(), bundles: bundles.collect() }
}

/// Returns a strategic merge patch that sets the `caBundle`s and nothing else. It finds entries by name (their
/// `patchMergeKey`). The API server refuses it (409) if the object has another version.
fn patch(bundles: &Bundles) -> Value {
    let webhooks = bundles.bundles.iter().map(
        |bundle| json!({"name": bundle.name, "clientConfig": {"caBundle": STANDARD.encode(bundle.to_pem())}}),
    );
    json!({"metadata": {"resourceVersion": bundles.version}, "webhooks": webhooks.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::rotation::Authority;

    fn bundle(name: &str, authorities: &[u8]) -> Bundle {
        let authority = |content: &u8| Authority::from(vec![*content; 100]);
        Bundle { name: name.to_owned(), authorities: authorities.iter().map(authority).collect() }
    }

    fn configuration(bundle: &str) -> MutatingWebhookConfiguration {
        let entry = |name: &str, client: Value| json!({"name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let of = |namespace: &str, name: &str| json!({"service": {"namespace": namespace, "name": name}, "caBundle": STANDARD.encode(bundle)});
        let webhooks = json!([
            entry("ours", of("eks", "webhook")),
            entry("another-service", of("eks", "other")),
            entry("another-namespace", of("default", "webhook")),
            entry("by-url", json!({"url": "https://webhook.eks.svc/mutate"})),
            entry("ours-too", json!({"service": {"namespace": "eks", "name": "webhook"}})),
        ]);
        let object = json!({"metadata": {"resourceVersion": "7"}, "webhooks": webhooks});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn reads_the_entries_of_the_service_and_no_others() {
        let found = bundles(&configuration(&bundle("", &[1, 2]).to_pem()), "eks", "webhook");
        assert_eq!(found.bundles, [bundle("ours", &[1, 2]), bundle("ours-too", &[])]);
        assert_eq!(found.version.as_deref(), Some("7"));
    }

    #[test]
    fn patch_names_the_version_and_holds_nothing_but_bundles() {
        let new = bundle("ours-too", &[3]);
        let patch = patch(&Bundles { version: Some("7".to_owned()), bundles: vec![new.clone()] });
        let webhook =
            json!({"name": "ours-too", "clientConfig": {"caBundle": STANDARD.encode(new.to_pem())}});
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "webhooks": [webhook]}));
    }
}

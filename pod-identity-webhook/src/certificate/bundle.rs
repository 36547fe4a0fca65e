//! The `caBundle` of each entry of a webhook configuration that asks our Service.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::rotation::Authority;

/// An entry that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    pub(super) bundle: Vec<Authority>,
}

impl Entry {
    /// The same entry with another bundle.
    pub(super) fn with(&self, bundle: Vec<Authority>) -> Self {
        Self { name: self.name.clone(), bundle }
    }
}

/// The entries that ask that Service. Others in the same object are somebody else's.
pub(super) fn entries(
    configuration: &MutatingWebhookConfiguration,
    namespace: &str,
    service: &str,
) -> Vec<Entry> {
    let ours = configuration.webhooks.iter().flatten().filter(|webhook| {
        let asked = webhook.client_config.service.as_ref();
        asked.is_some_and(|asked| asked.namespace == namespace && asked.name == service)
    });
    ours.map(|webhook| Entry {
        name: webhook.name.clone(),
        bundle: webhook.client_config.ca_bundle.as_ref().map_or_else(Vec::new, |bundle| parse(&bundle.0)),
    })
    .collect()
}

/// A strategic merge patch that sets the `caBundle`s and touches nothing else: entries are found by name (their
/// `patchMergeKey`), and the API server refuses it (409) where the object is no longer of that version.
pub(super) fn patch(version: Option<&str>, entries: &[Entry]) -> Value {
    let webhooks = entries.iter().map(|entry| {
        json!({"name": entry.name, "clientConfig": {"caBundle": STANDARD.encode(write(&entry.bundle))}})
    });
    json!({"metadata": {"resourceVersion": version}, "webhooks": webhooks.collect::<Vec<_>>()})
}

/// The certificates in PEM. What is none is skipped, as API servers do (Go's `AppendCertsFromPEM`).
fn parse(pem: &[u8]) -> Vec<Authority> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

fn write(bundle: &[Authority]) -> String {
    let mut pem = String::new();
    for authority in bundle {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(authority).as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(content: u8) -> Authority {
        vec![content; 100].into()
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
    fn only_the_entries_of_the_service_are_ours() {
        let found = entries(&configuration(&write(&[authority(1), authority(2)])), "eks", "webhook");
        let expected = [("ours", vec![authority(1), authority(2)]), ("ours-too", vec![])];
        assert_eq!(found, expected.map(|(name, bundle)| Entry { name: name.to_owned(), bundle }));
    }

    #[test]
    fn what_is_no_certificate_is_skipped() {
        let found = |pem: &str| entries(&configuration(pem), "eks", "webhook").remove(0).bundle;
        for junk in ["", "\n", "${CA_BUNDLE}", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"]
        {
            assert_eq!(found(junk), [], "{junk:?}");
        }
        let mixed = format!("# one of ours\n{}and the end", write(&[authority(1)]));
        assert_eq!(found(&mixed), [authority(1)]);
    }

    #[test]
    fn a_patch_names_the_version_and_holds_nothing_but_bundles() {
        let found = entries(&configuration(""), "eks", "webhook");
        let patch = patch(Some("7"), &[found[1].with(vec![authority(3)])]);
        let bundle = STANDARD.encode(write(&[authority(3)]));
        let webhook = json!({"name": "ours-too", "clientConfig": {"caBundle": bundle}});
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "webhooks": [webhook]}));
    }
}

//! The creation of pods, and its cost.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream::{self, StreamExt};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use pod_identity_runtime::clock::monotonic;
use serde_json::json;
use testing::cluster::apply_object;

use super::webhook::Webhook;
use super::{Error, TO_A_NAMESPACE, within};
use crate::measure::Figures;

const PODS: usize = 1000;
/// Pods per second, if they are not created at once.
const RATE: u32 = 100;
/// Number of concurrent creations.
const AT_ONCE: usize = 32;
const NAME: &str = "benches";

/// The pods of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pods {
    OfManyServiceAccounts,
    OfOneServiceAccountAtOnce,
}

impl Pods {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::OfManyServiceAccounts => "of as many service accounts, 100 a second",
            Self::OfOneServiceAccountAtOnce => "of one service account, 32 at once",
        }
    }
}

/// The results of a round.
pub(super) struct Round {
    /// Milliseconds for each creation.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Reads by the webhook.
    pub(super) reads: f64,
    /// Milliseconds of the API server's CPU for each pod.
    pub(super) cpu: f64,
}

pub(super) struct Load {
    client: Client,
    api_server: u32,
}

impl Load {
    /// Makes the load for the control plane with files in `directory`.
    pub(super) fn new(client: Client, directory: &Path) -> Result<Self, Error> {
        let directory = directory.display().to_string();
        let is_it = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("kube-apiserver") && line.contains(&directory)
        };
        let processes =
            std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let api_server = processes.into_iter().find(is_it).ok_or("the API server's process was not found")?;
        Ok(Self { client, api_server })
    }

    /// Registers the webhook at the API server, and waits until the API server calls it.
    pub(super) async fn register(&self, webhook: &Webhook) -> Result<(), Error> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": NAME},
            "webhooks": [{
                "name": "pod-identity-webhook.amazonaws.com", "failurePolicy": "Fail", "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
                "clientConfig": {
                    "url": webhook.url(), "caBundle": BASE64_STANDARD.encode(webhook.authority.ca_pem()),
                },
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        apply_object(&self.client, &configuration).await;
        let called = within(Duration::from_secs(10), async || {
            let before = webhook.reviews().await.ok()?;
            self.pod(0, Pods::OfManyServiceAccounts, true).await.ok()?;
            (webhook.reviews().await.ok()? > before).then_some(())
        });
        called.await.ok_or("the API server does not call the webhook")?;
        Ok(())
    }

    pub(super) async fn unregister(&self) -> Result<(), Error> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        api.delete(NAME, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Creates the pods, and deletes them afterwards.
    pub(super) async fn create(&self, webhook: &Webhook, pods: Pods) -> Result<Round, Error> {
        let (reads, cpu) = (webhook.reads().await?, self.cpu()?);
        let began = tokio::time::Instant::now();
        let one = |number: usize| async move {
            if pods == Pods::OfManyServiceAccounts {
                let at = Duration::from_secs(1) / RATE * u32::try_from(number).unwrap_or_default();
                tokio::time::sleep_until(began + at).await;
            }
            let started: Instant = monotonic();
            self.pod(number, pods, false).await?;
            Ok::<f64, Error>((monotonic() - started).as_secs_f64() * 1e3)
        };
        let at_once = if pods == Pods::OfManyServiceAccounts { PODS } else { AT_ONCE };
        let took: Vec<Result<f64, Error>> =
            stream::iter(0..PODS).map(one).buffer_unordered(at_once).collect().await;
        let took = Figures::of(took.into_iter().collect::<Result<Vec<_>, _>>()?);
        #[allow(clippy::cast_precision_loss)]
        let round = Round {
            p50: took.median(),
            p99: took.quantile(0.99),
            reads: webhook.reads().await? - reads,
            cpu: (self.cpu()? - cpu) * 1e3 / PODS as f64,
        };
        self.delete_all().await?;
        Ok(round)
    }

    async fn pod(&self, number: usize, pods: Pods, dry_run: bool) -> Result<(), Error> {
        let (namespace, service_account) = match pods {
            Pods::OfManyServiceAccounts => (number / TO_A_NAMESPACE, number % TO_A_NAMESPACE),
            Pods::OfOneServiceAccountAtOnce => (0, 0),
        };
        let namespace = format!("n-{namespace}");
        let pod = json!({
            "metadata": {"name": format!("pod-{number}"), "namespace": namespace},
            "spec": {
                "serviceAccountName": format!("app-{service_account}"), "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "app"}, {"name": "log", "image": "log"}],
            },
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let how = PostParams { dry_run, ..PostParams::default() };
        api.create(&how, &serde_json::from_value(pod)?).await?;
        Ok(())
    }

    async fn delete_all(&self) -> Result<(), Error> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let at_once = DeleteParams::default().grace_period(0);
        let deleted = stream::iter(pods.list(&ListParams::default()).await?.items).for_each_concurrent(
            AT_ONCE,
            |pod| {
                let of_namespace: Api<Pod> =
                    Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                let at_once = &at_once;
                async move {
                    if let Err(error) = of_namespace.delete(&pod.name_any(), at_once).await {
                        eprintln!("a pod was not deleted: {error}");
                    }
                }
            },
        );
        deleted.await;
        Ok(())
    }

    /// Returns the CPU seconds of the API server so far (`proc(5)`: utime and stime, in hundredths).
    fn cpu(&self) -> Result<f64, Error> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.api_server))?;
        let after_name = stat.rsplit_once(')').ok_or("no such line")?.1;
        let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum::<f64>() / 100.0)
    }
}

//! The Secret and the webhook configuration, at the API server. Every write is a compare-and-swap.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};

use super::Own;
use super::bundle::{self, Entry};
use super::generation::{self, Generation};
use crate::lookup::ReadFailure;

/// The Secret's entry that holds the generations, a JSON array.
const ENTRY: &str = "generations.json";

/// The Secret's entry that holds the version of its format, a whole number. A Secret without it has version 1.
///
/// Replicas of two versions write the same Secret during an upgrade. So a replica keeps every entry and every field
/// that it does not know, and never lowers the version. A newer format must stay readable for older replicas.
/// Otherwise they write nothing, and serve the last certificate that they could read.
const FORMAT_ENTRY: &str = "format-version";

/// The version of the format that this program writes.
const FORMAT: u32 = 1;

/// How long one watch lasts: shorter than a connection may be silent.
const WATCH: u32 = 60;

/// What RBAC has to allow.
const RULE: &str = "get, list, watch and update of the Secret of --tls-secret, create of secrets where it is not \
                    there, and get, list, watch and patch of --webhook-configuration";

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The two objects, by their names.
#[derive(Debug)]
pub(super) struct Store {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    namespace: String,
    own: Own,
}

/// What was read, and at which versions.
pub(super) struct Found {
    secret: Option<Secret>,
    version: Option<String>,
    /// Oldest first.
    pub(super) generations: Vec<Generation>,
    /// Of the webhook configuration, those that are ours.
    pub(super) entries: Vec<Entry>,
}

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Somebody else was faster; the next look shows what is to be done then.
    #[error("changed by somebody else meanwhile")]
    Conflict,
    #[error("{what}: {failure}")]
    Call { what: &'static str, failure: ReadFailure },
    #[error("{what}: no answer within {} s", LIMIT.as_secs())]
    Late { what: &'static str },
    #[error("no certificate can be made: {0}")]
    Make(String),
    #[error(
        "the Secret {secret} has the format version {found:?}, and its entry {ENTRY} cannot be read; this program \
         reads version {FORMAT}: upgrade it, or delete the Secret to begin with a new certificate"
    )]
    Format { secret: String, found: String },
    /// No step failed on this replica, but the certificate was not replaced.
    #[error(
        "five sixths of the certificate's life are over, and no replica has replaced it: look for a replica that \
         cannot write the Lease or the Secret"
    )]
    Overdue,
}

impl Failure {
    /// All labels of [`as_str`](Self::as_str).
    pub(super) const ALL: [&str; 11] = [
        "conflict",
        "deadline",
        "connection",
        "unauthorized",
        "forbidden",
        "throttled",
        "server",
        "answer",
        "make",
        "format",
        "overdue",
    ];

    /// The failure as a metric's label.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Call { failure, .. } => failure.as_str(),
            Self::Late { .. } => "deadline",
            Self::Make(_) => "make",
            Self::Format { .. } => "format",
            Self::Overdue => "overdue",
        }
    }
}

impl Store {
    pub(super) fn new(client: kube::Client, namespace: String, own: Own) -> Self {
        let secrets = Api::namespaced(client.clone(), &namespace);
        Self { secrets, configurations: Api::all(client), namespace, own }
    }

    /// Something changed in one of the two: a reason to look, and no more than that.
    pub(super) fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let only =
            |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH);
        let client = || self.secrets.clone().into_client();
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client(), &self.namespace);
        let configurations: Api<PartialObjectMeta<MutatingWebhookConfiguration>> = Api::all(client());
        let secrets = watcher(secrets, only(&self.own.secret)).default_backoff();
        let configurations = watcher(configurations, only(&self.own.configuration)).default_backoff();
        // What fails is begun again by itself, and logged by the library.
        let secrets = secrets.filter_map(async |event| event.ok().map(drop));
        let configurations = configurations.filter_map(async |event| event.ok().map(drop));
        futures_util::stream::select(secrets.boxed(), configurations.boxed())
    }

    /// Reads both, from etcd: a GET without a version is not answered from the API server's cache.
    pub(super) async fn read(&self) -> Result<Found, Failure> {
        let secret = limited("reading the Secret", self.secrets.get_opt(&self.own.secret)).await?;
        let read = self.configurations.get_opt(&self.own.configuration);
        let configuration = limited("reading the webhook configuration", read).await?;
        let entry = |name| secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(name));
        let generations = match entry(ENTRY).map(|entry| generation::read(&entry.0)) {
            None => Vec::new(),
            Some(Ok(generations)) => generations,
            Some(Err(_))
                if entry(FORMAT_ENTRY).is_some_and(|format| format.0 != FORMAT.to_string().as_bytes()) =>
            {
                let found = entry(FORMAT_ENTRY).map_or(&[][..], |format| &format.0);
                let found = String::from_utf8_lossy(found).chars().take(20).collect();
                return Err(Failure::Format { secret: self.own.secret.clone(), found });
            }
            Some(Err(place)) => {
                tracing::error!(
                    secret = %self.own.secret, entry = ENTRY, %place,
                    "the Secret's entry cannot be read; it is begun anew"
                );
                Vec::new()
            }
        };
        let entries = configuration.as_ref().map(|found| {
            let (namespace, service) = (&self.namespace, &self.own.service);
            bundle::entries(found, namespace, service)
        });
        let version = configuration.and_then(|found| found.metadata.resource_version);
        Ok(Found { secret, version, generations, entries: entries.unwrap_or_default() })
    }

    /// Writes the Secret, at the version that was read. Its other entries stay, and so does a newer format version.
    pub(super) async fn keep(&self, found: &Found, generations: &[Generation]) -> Result<(), Failure> {
        let mut secret = found.secret.clone().unwrap_or_default();
        let entry = ByteString(generation::write(generations));
        let data = secret.data.get_or_insert_default();
        data.insert(ENTRY.to_owned(), entry);
        data.entry(FORMAT_ENTRY.to_owned()).or_insert_with(|| ByteString(FORMAT.to_string().into_bytes()));
        let (secrets, name, params) = (&self.secrets, &self.own.secret, PostParams::default());
        if found.secret.is_some() {
            limited("writing the Secret", secrets.replace(name, &params, &secret)).await.map(drop)
        } else {
            secret.metadata.name = Some(name.clone());
            limited("creating the Secret", secrets.create(&params, &secret)).await.map(drop)
        }
    }

    /// Writes the `caBundle`s of these entries, at the version that was read.
    pub(super) async fn publish(&self, found: &Found, entries: &[Entry]) -> Result<(), Failure> {
        let patch = Patch::Strategic(bundle::patch(found.version.as_deref(), entries));
        let params = PatchParams::default();
        let patched = self.configurations.patch(&self.own.configuration, &params, &patch);
        limited("writing the webhook configuration", patched).await.map(drop)
    }
}

async fn limited<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        // 404: what was read is gone meanwhile.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Failure::Conflict),
        Ok(Err(error)) => Err(Failure::Call { what, failure: ReadFailure::of(&error, RULE) }),
        Err(_) => Err(Failure::Late { what }),
    }
}

//! The Secret that holds the generations. Every write is a compare-and-swap.

use futures_util::stream::BoxStream;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};

use super::failure::{CertificateFailure, changes};
use super::generation::{self, Generation};

/// The Secret's entry with the generations, a JSON array.
const ENTRY: &str = "generations.json";

/// The Secret's entry with the version of its format, a whole number. A Secret without it has version 1.
///
/// Replicas of two versions write the same Secret during an upgrade. So a replica keeps every entry and every field
/// that it does not know, and never lowers the version. A newer format must stay readable for older replicas.
/// Otherwise they write nothing, and serve the last certificate that they could read.
const FORMAT_ENTRY: &str = "format-version";

/// The version of the format that this program writes.
const FORMAT: u32 = 1;

/// The RBAC rule that the calls need.
const RULE: &str = "get, list, watch and update of the Secret of its certificate, and create of secrets if it does not \
                    exist";

/// The Secret, by its name.
#[derive(Debug)]
pub(super) struct SecretStore {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
}

/// The Secret that was read, with its version.
#[derive(Debug)]
pub(super) struct StoredGenerations {
    secret: Option<Secret>,
    /// Oldest first.
    pub(super) generations: Vec<Generation>,
}

impl SecretStore {
    pub(super) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        let secrets = Api::namespaced(client, namespace);
        Self { secrets, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Returns a stream with an item after each change.
    pub(super) fn changes(&self) -> BoxStream<'static, ()> {
        let client = self.secrets.clone().into_client();
        changes::<Secret>(Api::namespaced(client, &self.namespace), &self.name)
    }

    /// Reads the Secret from etcd: a GET without a version is not answered from the API server's cache.
    pub(super) async fn read(&self) -> Result<StoredGenerations, CertificateFailure> {
        let read = self.secrets.get_opt(&self.name);
        let secret = CertificateFailure::call("reading the Secret", RULE, read).await?;
        let entry = |name| secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(name));
        let generations = match entry(ENTRY).map(|entry| generation::read(&entry.0)) {
            None => Vec::new(),
            Some(Ok(generations)) => generations,
            Some(Err(_))
                if entry(FORMAT_ENTRY).is_some_and(|format| format.0 != FORMAT.to_string().as_bytes()) =>
            {
                let found = entry(FORMAT_ENTRY).map_or(&[][..], |format| &format.0);
                let found = String::from_utf8_lossy(found).chars().take(20).collect();
                let secret = self.name.clone();
                return Err(CertificateFailure::Format { secret, entry: ENTRY, found, known: FORMAT });
            }
            Some(Err(place)) => {
                tracing::error!(
                    secret = %self.name, entry = ENTRY, %place,
                    "the Secret's entry cannot be read; a new generation replaces it"
                );
                Vec::new()
            }
        };
        Ok(StoredGenerations { secret, generations })
    }

    /// Writes the generations, at the version that was read. Other entries stay, and so does a newer format version.
    pub(super) async fn write(
        &self,
        stored: &StoredGenerations,
        generations: &[Generation],
    ) -> Result<(), CertificateFailure> {
        let mut secret = stored.secret.clone().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        data.insert(ENTRY.to_owned(), ByteString(generation::write(generations)));
        data.entry(FORMAT_ENTRY.to_owned()).or_insert_with(|| ByteString(FORMAT.to_string().into_bytes()));
        let params = PostParams::default();
        if stored.secret.is_some() {
            let written = self.secrets.replace(&self.name, &params, &secret);
            CertificateFailure::call("writing the Secret", RULE, written).await.map(drop)
        } else {
            secret.metadata.name = Some(self.name.clone());
            let created = self.secrets.create(&params, &secret);
            CertificateFailure::call("creating the Secret", RULE, created).await.map(drop)
        }
    }
}

//! The ConfigMap of roles, read for each review that needs it.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use super::failure::ReadFailure;
use super::freshness::Freshness;
use super::metrics::ReadMetrics;
use super::reads::{SharedReads, Source};
use pod_identity_core::inject::RoleConfigMap;
use pod_identity_core::inject::Settings;

/// The name of the ConfigMap and the key in it (AWS's webhook, `pkg/cache/cache.go`).
const NAME: &str = "pod-identity-webhook";
const KEY: &str = "config";

const RULE: &str = "get of the configmap pod-identity-webhook, in the webhook's namespace (a Role)";

/// The ConfigMap and its last usable content.
#[derive(Debug)]
pub(super) struct ConfigMapLookup {
    reads: Arc<SharedReads<ConfigMapSource>>,
    last: Arc<Mutex<Last>>,
}

/// The result of the last read.
#[derive(Debug, Default)]
struct Last {
    /// Version of the ConfigMap; `None` if there is no ConfigMap.
    version: Option<String>,
    /// Why this version cannot be used.
    failure: Option<ReadFailure>,
    /// The last usable content. A missing ConfigMap is one without roles.
    good: Option<Arc<RoleConfigMap>>,
}

impl ConfigMapLookup {
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        settings: &Arc<Settings>,
        metrics: &ReadMetrics,
    ) -> Self {
        let last: Arc<Mutex<Last>> = Arc::default();
        let source = ConfigMapSource {
            client: client.clone(),
            namespace: namespace.to_owned(),
            settings: settings.clone(),
            last: last.clone(),
        };
        Self { reads: SharedReads::new(source, metrics.of("config_map")), last }
    }

    /// Returns the current content, or the last usable one.
    pub(super) async fn current(&self, deadline: Instant) -> (Arc<RoleConfigMap>, Freshness) {
        let failure = match self.reads.read((), None, deadline).await {
            Ok(map) => return (map, Freshness::Fresh),
            Err(failure) => failure,
        };
        match &self.last.lock().unwrap_or_else(PoisonError::into_inner).good {
            Some(good) => (good.clone(), Freshness::Stale(failure)),
            None => (Arc::default(), Freshness::Unknown(failure)),
        }
    }
}

/// Reads the ConfigMap from the API server.
struct ConfigMapSource {
    client: Client,
    namespace: String,
    settings: Arc<Settings>,
    last: Arc<Mutex<Last>>,
}

impl Source for ConfigMapSource {
    type Key = ();
    type Found = Arc<RoleConfigMap>;

    /// Reads the metadata first, and the content only if the version differs from the last one: the ConfigMap may be large
    /// and changes rarely.
    async fn read(&self, (): &()) -> Result<Arc<RoleConfigMap>, ReadFailure> {
        let failed = |error: kube::Error| ReadFailure::of(&error, RULE);
        let metadata: Api<PartialObjectMeta<ConfigMap>> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let Some(found) = metadata.get_opt(NAME).await.map_err(failed)? else {
            return self.replace(None, Ok(RoleConfigMap::default()));
        };
        if let Some(unchanged) = self.unchanged(found.resource_version()) {
            return unchanged;
        }
        let whole: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(object) = whole.get_opt(NAME).await.map_err(failed)? else {
            return self.replace(None, Ok(RoleConfigMap::default()));
        };
        let (version, settings) = (object.resource_version(), self.settings.clone());
        let text = object.data.and_then(|mut data| data.remove(KEY));
        let parsed = tokio::task::spawn_blocking(move || match text {
            Some(text) => RoleConfigMap::parse(&text, &settings).map_err(|error| error.to_string()),
            None => Err(format!("the ConfigMap {NAME} has no key {KEY}")),
        });
        let parsed = parsed.await.unwrap_or_else(|error| Err(error.to_string()));
        self.replace(version, parsed)
    }
}

impl ConfigMapSource {
    /// Returns the result of the last read if it was of this version.
    fn unchanged(&self, version: Option<String>) -> Option<Result<Arc<RoleConfigMap>, ReadFailure>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if version.is_none() || last.version != version {
            return None;
        }
        Some(match (&last.failure, &last.good) {
            (Some(failure), _) => Err(failure.clone()),
            (None, good) => Ok(good.clone().unwrap_or_default()),
        })
    }

    fn replace(
        &self,
        version: Option<String>,
        parsed: Result<RoleConfigMap, String>,
    ) -> Result<Arc<RoleConfigMap>, ReadFailure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match parsed {
            Ok(map) => {
                let map = Arc::new(map);
                *last = Last { version, failure: None, good: Some(map.clone()) };
                Ok(map)
            }
            Err(reason) => {
                let failure = ReadFailure::ConfigMap(reason);
                tracing::error!("{failure}");
                (last.version, last.failure) = (version, Some(failure.clone()));
                Err(failure)
            }
        }
    }
}

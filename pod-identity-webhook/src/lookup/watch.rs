//! The watch of all service accounts.
//!
//! It keeps the settings of service accounts that have any. Reads write nothing here, so no older object replaces a newer one,
//! and no deleted object comes back.

mod health; // whether the watch is current
mod listing; // streamed or paged lists

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, InitialListStrategy, watcher};
use kube::{Api, Client, Resource};
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock;
use pod_identity_runtime::kubernetes::ApiFailure;
use pod_identity_runtime::metrics::{ByLabel, register_gauge};
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::health::Health;
use self::listing::{GONE, Listing, NotStreamed};
use super::failure::{READ_SERVICE_ACCOUNTS, ReadFailure};
use super::metrics::register_watch_failures;
use super::object::ServiceAccountObject;
use pod_identity_core::inject::ServiceAccountSettings;
use pod_identity_core::inject::Settings;

/// The readiness condition that all service accounts were listed once.
const CONDITION: &str = "service_accounts";

/// Number of service accounts in one page of a list that is not streamed. A service account may have 256 KiB of
/// annotations (Kubernetes, *Annotations*), and a whole page is in memory at once.
const PAGE: u32 = 100;

/// Duration of one watch request. A connection that died silently is noticed at its end. The next request continues at the
/// last version.
const REQUEST: Duration = Duration::from_secs(60);

/// The prefix of this project's own annotations, without the `/`.
const OUR_PREFIX: &str = "podidentity.dev";

/// Settings of service accounts that have any, by namespace and name.
type AllSettings = HashMap<Namespace, HashMap<ServiceAccount, Arc<ServiceAccountSettings>>>;

#[derive(Debug)]
pub(super) struct Watch {
    api: Api<ServiceAccountObject>,
    settings: Arc<Settings>,
    /// Empty until all service accounts were listed once.
    listed: Arc<OnceLock<RwLock<AllSettings>>>,
    failures: ByLabel<Counter>,
    health: Health,
}

impl Watch {
    /// Registers the gauges `pod_identity_watch_service_accounts` and `pod_identity_watch_silent_seconds` too.
    pub(super) fn new(
        client: Client,
        settings: Arc<Settings>,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Self {
        readiness.pending(CONDITION, "the service accounts have not been listed yet");
        let listed: Arc<OnceLock<RwLock<AllSettings>>> = Arc::default();
        let failures = register_watch_failures(registry);
        let health = Health::new(clock::monotonic());
        let (of_gauge, of_silence) = (listed.clone(), health.clone());
        let count = |seen: &RwLock<AllSettings>| {
            let seen = seen.read().unwrap_or_else(PoisonError::into_inner);
            seen.values().map(HashMap::len).sum::<usize>() as u64
        };
        register_gauge(
            registry,
            "pod_identity_watch_service_accounts",
            "Service accounts with annotations of this project or of AWS, in the watch",
            move || Some(of_gauge.get().map_or(0, count)),
        );
        register_gauge(
            registry,
            "pod_identity_watch_silent_seconds",
            "Time since a request of the watch of service accounts last succeeded, in seconds",
            move || Some(of_silence.silent(clock::monotonic()).as_secs_f64()),
        );
        let api = Api::all(observed(client, health.clone()));
        Self { api, settings, listed, failures, health }
    }

    /// Returns the settings of a service account; `None` until all service accounts were listed.
    pub(super) fn settings(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
    ) -> Option<ServiceAccountSettings> {
        let listed = self.listed.get()?.read().unwrap_or_else(PoisonError::into_inner);
        let found = listed.get(namespace).and_then(|of_namespace| of_namespace.get(service_account));
        Some(found.map(|settings| (**settings).clone()).unwrap_or_default())
    }

    /// Returns why the watch is not current, if it has failed for more than 30 s.
    pub(super) fn failure(&self) -> Option<ReadFailure> {
        self.health.failure(clock::monotonic())
    }

    /// Lists and watches until the shutdown. After an error the watch continues at the last version, or lists again if the
    /// API server no longer has it. The earlier settings stay in use meanwhile.
    ///
    /// The list is streamed (`sendInitialEvents`), which the API server answers from its memory. If that fails, the
    /// service accounts are listed in pages from then on, which every API server can do.
    pub(super) async fn follow(&self, readiness: Readiness, mut shutdown: Shutdown) {
        let request = u32::try_from(REQUEST.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default().page_size(PAGE).timeout(request);
        let watch = async {
            if let Some(reason) = self.run(config.clone().streaming_lists(), &readiness).await {
                tracing::warn!(%reason, "streamed list of service accounts failed: listing in pages");
                self.run(config, &readiness).await;
            }
        };
        tokio::select! {
            () = shutdown.asked() => {}
            () = watch => {}
        }
    }

    /// Lists and watches. Ends only if the API server did not stream a list.
    async fn run(&self, config: watcher::Config, readiness: &Readiness) -> Option<NotStreamed> {
        let mut listing = Listing::new(config.initial_list_strategy == InitialListStrategy::StreamingList);
        let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
        let mut listed = AllSettings::new();
        while let Some(event) = events.next().await {
            if let Some(reason) = listing.follow(&event) {
                return Some(reason);
            }
            match event {
                Ok(event) => {
                    // A list may still fail after its begin.
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        recovered(&self.health);
                    }
                    self.apply(event, &mut listed, readiness);
                }
                // API servers drop old versions: this is no failure.
                Err(watcher::Error::WatchError(status)) if status.code == GONE => {
                    tracing::info!(
                        reason = status.message,
                        "watch of service accounts expired: listing again"
                    );
                }
                Err(error) => {
                    let failure = failure(&error);
                    self.failures.of(failure.as_str()).inc();
                    if self.listed.get().is_none() {
                        readiness.unmet(CONDITION, failure.to_string());
                    }
                    if self.health.failed(failure.clone(), clock::monotonic()) {
                        tracing::warn!(
                            reason = failure.as_str(),
                            "watch of service accounts failed: {failure}"
                        );
                    }
                }
            }
        }
        None
    }

    fn apply(&self, event: Event<ServiceAccountObject>, listed: &mut AllSettings, readiness: &Readiness) {
        match event {
            Event::Init => *listed = AllSettings::new(),
            Event::InitApply(object) => self.put(listed, object),
            Event::InitDone => {
                listed.values_mut().for_each(HashMap::shrink_to_fit);
                listed.shrink_to_fit();
                let listed = std::mem::take(listed);
                let service_accounts: usize = listed.values().map(HashMap::len).sum();
                match self.listed.get() {
                    None => drop(self.listed.set(RwLock::new(listed))),
                    Some(seen) => *seen.write().unwrap_or_else(PoisonError::into_inner) = listed,
                }
                tracing::info!(service_accounts, "service accounts listed");
                readiness.met(CONDITION);
            }
            Event::Apply(object) => self.change(|all| self.put(all, object)),
            Event::Delete(object) => self.change(|all| {
                if let Some((namespace, service_account)) = names(&object) {
                    remove(all, &namespace, &service_account);
                }
            }),
        }
    }

    fn change(&self, change: impl FnOnce(&mut AllSettings)) {
        if let Some(listed) = self.listed.get() {
            change(&mut listed.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn put(&self, all: &mut AllSettings, object: ServiceAccountObject) {
        let Some((namespace, service_account)) = names(&object) else { return };
        if object.annotations().is_some_and(|annotations| self.has_settings(annotations)) {
            let settings =
                ServiceAccountSettings::from_annotations(&object.into_annotations(), &self.settings);
            all.entry(namespace).or_default().insert(service_account, Arc::new(settings));
        } else {
            remove(all, &namespace, &service_account);
        }
    }

    fn has_settings(&self, annotations: &BTreeMap<String, String>) -> bool {
        let mut prefixes = annotations.keys().filter_map(|key| Some(key.split_once('/')?.0));
        prefixes.any(|prefix| prefix == self.settings.annotation_prefix || prefix == OUR_PREFIX)
    }
}

/// Wraps the client so that `health` sees the results of its requests: the watcher reports no watch request that was accepted
/// and has no events.
fn observed(client: Client, health: Health) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, health) = (client.clone(), health.clone());
        async move {
            // A streamed list is a watch request too, and may still fail.
            let query = request.uri().query().unwrap_or_default();
            let watches = query.contains("watch=true") && !query.contains("sendInitialEvents=true");
            let response = client.send(request).await?;
            if response.status().is_success() {
                health.answered(clock::monotonic());
                if watches {
                    recovered(&health);
                }
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

fn recovered(health: &Health) {
    if health.watches(clock::monotonic()) {
        tracing::info!("watch of service accounts recovered");
    }
}

fn names(object: &ServiceAccountObject) -> Option<(Namespace, ServiceAccount)> {
    let metadata = object.meta();
    Some((metadata.namespace.as_ref()?.parse().ok()?, metadata.name.as_ref()?.parse().ok()?))
}

fn remove(all: &mut AllSettings, namespace: &Namespace, service_account: &ServiceAccount) {
    if let Some(of_namespace) = all.get_mut(namespace) {
        of_namespace.remove(service_account);
        if of_namespace.is_empty() {
            all.remove(namespace);
        }
    }
}

fn failure(error: &watcher::Error) -> ReadFailure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ReadFailure::of(error, READ_SERVICE_ACCOUNTS),
        watcher::Error::WatchError(status) => {
            ReadFailure::of(&kube::Error::Api(status.clone()), READ_SERVICE_ACCOUNTS)
        }
        watcher::Error::NoResourceVersion => ApiFailure::Answer(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests;

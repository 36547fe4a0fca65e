//! What the watch of service accounts has seen.
//!
//! Kept of each account is what it says, and of those that say nothing, nothing. Reads do not write here:
//! whatever is older than what the watch has seen cannot take its place, and what is deleted stays so.

mod health; // whether it still sees what happens
mod listing; // how the initial list is read

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
use pod_identity_runtime::metrics::register_gauge;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use self::health::Health;
use self::listing::{Listing, NotStreamed};
use super::ACCOUNTS_CONDITION;
use super::accounts::RULE;
use super::failure::ReadFailure;
use super::metrics::WatchMetrics;
use super::object::AccountObject;
use pod_identity_core::inject::ServiceAccountSettings;
use pod_identity_core::inject::Settings;

/// Number of service accounts in one page of a list that is not streamed. A service account may have 256 KiB of
/// annotations (Kubernetes, *Annotations*), and a whole page is in memory at once.
const PAGE: u32 = 100;

/// How long one watch request lasts. A connection that died silently is noticed when it is over; a new request
/// goes on where the last one ended.
const REQUEST: Duration = Duration::from_secs(60);

/// The status of a watch that asks for what is not kept any more (Kubernetes, *API concepts*, 410 Gone).
const GONE: u16 = 410;

/// What this project's own annotations begin with, before the `/`.
const OUR_PREFIX: &str = "podidentity.dev";

/// Accounts that say something, by namespace and name.
type Seen = HashMap<Namespace, HashMap<ServiceAccount, Arc<ServiceAccountSettings>>>;

#[derive(Debug)]
pub(super) struct Watch {
    api: Api<AccountObject>,
    settings: Arc<Settings>,
    /// Empty until all accounts have been listed once.
    seen: Arc<OnceLock<RwLock<Seen>>>,
    metrics: WatchMetrics,
    health: Health,
}

impl Watch {
    /// Registers the gauges `pod_identity_watch_accounts` and `pod_identity_watch_silent_seconds` too.
    pub(super) fn new(client: Client, settings: Arc<Settings>, registry: &mut Registry) -> Self {
        let seen: Arc<OnceLock<RwLock<Seen>>> = Arc::default();
        let metrics = WatchMetrics::register(registry);
        let health = Health::new(clock::monotonic());
        let (of_gauge, of_silence) = (seen.clone(), health.clone());
        let count = |seen: &RwLock<Seen>| {
            let seen = seen.read().unwrap_or_else(PoisonError::into_inner);
            seen.values().map(HashMap::len).sum::<usize>() as u64
        };
        register_gauge(
            registry,
            "pod_identity_watch_accounts",
            "Service accounts with annotations of ours, as the watch has seen them",
            move || Some(of_gauge.get().map_or(0, count)),
        );
        register_gauge(
            registry,
            "pod_identity_watch_silent_seconds",
            "Seconds since a request of the watch of service accounts last succeeded",
            move || Some(of_silence.silent(clock::monotonic()).as_secs_f64()),
        );
        let api = Api::all(noting(client, health.clone()));
        Self { api, settings, seen, metrics, health }
    }

    /// What the watch has seen of an account; `None` where it has not seen all accounts yet.
    pub(super) fn lookup(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
    ) -> Option<ServiceAccountSettings> {
        let seen = self.seen.get()?.read().unwrap_or_else(PoisonError::into_inner);
        let found = seen.get(namespace).and_then(|accounts| accounts.get(account));
        Some(found.map(|settings| (**settings).clone()).unwrap_or_default())
    }

    /// Why what it has seen may be old, where it has failed for half a minute.
    pub(super) fn failure(&self) -> Option<ReadFailure> {
        self.health.failure(clock::monotonic())
    }

    /// Lists and watches until the shutdown. After an error the watch continues where it was, or lists again where
    /// the API server no longer has that version. The service accounts seen before stay known meanwhile.
    ///
    /// The list is streamed (`sendInitialEvents`), which the API server answers from its memory. If that fails, the
    /// service accounts are listed in pages from then on, which every API server can do.
    pub(super) async fn follow(&self, readiness: Readiness, mut shutdown: Shutdown) {
        let request = u32::try_from(REQUEST.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default().page_size(PAGE).timeout(request);
        let watch = async {
            if let Some(reason) = self.run(config.clone().streaming_lists(), &readiness).await {
                tracing::warn!(%reason, "service accounts are listed in pages: the list was not streamed");
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
        let mut listed = Seen::new();
        while let Some(event) = events.next().await {
            if let Some(reason) = listing.follow(&event) {
                return Some(reason);
            }
            match event {
                Ok(event) => {
                    // A list that has begun may still fail.
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        goes_on(&self.health);
                    }
                    self.apply(event, &mut listed, readiness);
                }
                // The API server forgets old versions by and by: that is no fault, and all is listed anew.
                Err(watcher::Error::WatchError(status)) if status.code == GONE => {
                    tracing::info!("the service accounts are listed anew: {}", status.message);
                }
                Err(error) => {
                    let failure = failure(&error);
                    self.metrics.failed(&failure);
                    if self.seen.get().is_none() {
                        readiness.unmet(ACCOUNTS_CONDITION, failure.to_string());
                    }
                    if self.health.failed(failure.clone(), clock::monotonic()) {
                        tracing::warn!("the watch of service accounts was interrupted: {failure}");
                    }
                }
            }
        }
        None
    }

    fn apply(&self, event: Event<AccountObject>, listed: &mut Seen, readiness: &Readiness) {
        match event {
            Event::Init => *listed = Seen::new(),
            Event::InitApply(object) => self.put(listed, object),
            Event::InitDone => {
                listed.values_mut().for_each(HashMap::shrink_to_fit);
                listed.shrink_to_fit();
                let listed = std::mem::take(listed);
                let accounts: usize = listed.values().map(HashMap::len).sum();
                match self.seen.get() {
                    None => drop(self.seen.set(RwLock::new(listed))),
                    Some(seen) => *seen.write().unwrap_or_else(PoisonError::into_inner) = listed,
                }
                tracing::info!(accounts, "service accounts with annotations of ours were listed");
                readiness.met(ACCOUNTS_CONDITION);
            }
            Event::Apply(object) => self.change(|seen| self.put(seen, object)),
            Event::Delete(object) => self.change(|seen| {
                if let Some((namespace, account)) = names(&object) {
                    forget(seen, &namespace, &account);
                }
            }),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.seen.get() {
            change(&mut seen.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn put(&self, seen: &mut Seen, object: AccountObject) {
        let Some((namespace, account)) = names(&object) else { return };
        if object.annotations().is_some_and(|annotations| self.are_ours(annotations)) {
            let settings =
                ServiceAccountSettings::from_annotations(&object.into_annotations(), &self.settings);
            seen.entry(namespace).or_default().insert(account, Arc::new(settings));
        } else {
            forget(seen, &namespace, &account);
        }
    }

    fn are_ours(&self, annotations: &BTreeMap<String, String>) -> bool {
        let mut prefixes = annotations.keys().filter_map(|key| Some(key.split_once('/')?.0));
        prefixes.any(|prefix| prefix == self.settings.annotation_prefix || prefix == OUR_PREFIX)
    }
}

/// The same client, for the watch, which notes what becomes of its requests: nobody else hears of a watch request
/// that was accepted and has nothing to tell.
fn noting(client: Client, health: Health) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, health) = (client.clone(), health.clone());
        async move {
            // A list that is streamed is a watch request too, and may still fail.
            let query = request.uri().query().unwrap_or_default();
            let watches = query.contains("watch=true") && !query.contains("sendInitialEvents=true");
            let response = client.send(request).await?;
            if response.status().is_success() {
                health.answered(clock::monotonic());
                if watches {
                    goes_on(&health);
                }
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

fn goes_on(health: &Health) {
    if health.watches(clock::monotonic()) {
        tracing::info!("the watch of service accounts goes on");
    }
}

fn names(object: &AccountObject) -> Option<(Namespace, ServiceAccount)> {
    let metadata = object.meta();
    Some((metadata.namespace.as_ref()?.parse().ok()?, metadata.name.as_ref()?.parse().ok()?))
}

fn forget(seen: &mut Seen, namespace: &Namespace, account: &ServiceAccount) {
    if let Some(accounts) = seen.get_mut(namespace) {
        accounts.remove(account);
        if accounts.is_empty() {
            seen.remove(namespace);
        }
    }
}

fn failure(error: &watcher::Error) -> ReadFailure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ReadFailure::of(error, RULE),
        watcher::Error::WatchError(status) => ReadFailure::of(&kube::Error::Api(status.clone()), RULE),
        watcher::Error::NoResourceVersion => ApiFailure::Answer(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests;

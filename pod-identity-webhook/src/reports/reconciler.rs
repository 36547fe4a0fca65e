//! Pods that run without what their accounts have: looked for, and told of. Nothing is changed, nobody evicted.
//!
//! One replica does this, the one that holds the Lease. It reads all pods every so often, page by page, and
//! those of one account as soon as the account changes, which is when most of them come to lack something.

mod judgement; // what a pod lacks
mod list; // what was found, for people and programs
mod pods; // the pods that there are

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;

pub use self::judgement::Finding;
use self::judgement::ListedPod;
pub(super) use self::list::Findings;
use self::pods::{Pods, PodsError};
use crate::account::{Known, NamespaceSettings};
use crate::knowledge::{Change, Freshness, Knowledge};
use crate::lease::Leadership;
use crate::reports::{Events, Said};
use crate::settings::Settings;

/// How long changes are gathered before their pods are looked at: an account is often written several times
/// in a row, and its pods come right after it.
const GATHERING: Duration = Duration::from_secs(2);
/// When a reading that failed is begun again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The most accounts whose pods are read one account after the other; more are a reading of all pods.
const MOST_ACCOUNTS: usize = 50;

/// The Lease of who looks.
pub(super) const LEASE: &str = "pod-identity-webhook-reconciler";

/// Looks for pods that lack what their accounts have.
#[derive(Debug)]
pub(super) struct Reconciler {
    pods: Pods,
    knowledge: Knowledge,
    settings: Settings,
    findings: Findings,
    events: Option<Events>,
    interval: Duration,
}

/// Whose pods are to be read.
#[derive(Debug, Default)]
struct Due {
    all: bool,
    accounts: BTreeSet<(Namespace, ServiceAccount)>,
}

impl Due {
    fn all() -> Self {
        Self { all: true, accounts: BTreeSet::new() }
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Account(namespace, account) => {
                self.accounts.insert((namespace, account));
            }
            Change::Everything => self.all = true,
        }
        if self.all || self.accounts.len() > MOST_ACCOUNTS {
            *self = Self::all();
        }
    }
}

impl Reconciler {
    /// Reads all pods every `interval`, and those of changed accounts sooner.
    pub(super) fn new(
        client: kube::Client,
        knowledge: Knowledge,
        settings: Settings,
        findings: Findings,
        events: Option<Events>,
        interval: Duration,
    ) -> Self {
        Self { pods: Pods::new(client), knowledge, settings, findings, events, interval }
    }

    /// Looks whenever this replica is the one to do so, until the shutdown.
    pub(super) async fn follow(
        self,
        leadership: Leadership,
        mut changes: mpsc::Receiver<Change>,
        mut shutdown: Shutdown,
    ) {
        let look = async {
            loop {
                until(&leadership, true).await;
                tokio::select! {
                    () = self.look(&mut changes) => return,
                    () = until(&leadership, false) => self.findings.clear(),
                }
            }
        };
        tokio::select! {
            () = look => {}
            () = shutdown.asked() => {}
        }
    }

    /// Looks again and again; ends when there is nobody left to tell of changes.
    async fn look(&self, changes: &mut mpsc::Receiver<Change>) {
        let mut due = Due::all();
        loop {
            let next = match self.reconcile(&due).await {
                Ok(()) => {
                    due = Due::default();
                    self.interval
                }
                Err(error) => {
                    tracing::warn!(%error, "the pods were not looked at; tried again in a moment");
                    PAUSE_AFTER_FAILURE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(next) => due.add(Change::Everything),
                change = changes.recv() => {
                    let Some(change) = change else { return };
                    due.add(change);
                    tokio::time::sleep(GATHERING).await;
                    while let Ok(change) = changes.try_recv() {
                        due.add(change);
                    }
                }
            }
        }
    }

    async fn reconcile(&self, due: &Due) -> Result<(), PodsError> {
        let mut reading = Reading { namespaces: self.pods.namespaces().await?, accounts: HashMap::new() };
        if due.all {
            let found = self.read(None, &mut reading).await?;
            self.say(self.findings.replace_all(found));
            return Ok(());
        }
        for (namespace, account) in &due.accounts {
            let found = self.read(Some((namespace, account)), &mut reading).await?;
            self.say(self.findings.replace(namespace, account, found));
        }
        Ok(())
    }

    async fn read(
        &self,
        of: Option<(&Namespace, &ServiceAccount)>,
        reading: &mut Reading,
    ) -> Result<Vec<Finding>, PodsError> {
        let time = list::time();
        let mut found = Vec::new();
        let mut page = self.pods.first_page(of).await?;
        loop {
            for json in page.pods()? {
                // Of a pod that cannot be read nobody can say what it lacks; the API server wrote it.
                let Ok(pod) = ListedPod::parse(json) else { continue };
                let Some(known) = self.known(&pod, reading).await else { continue };
                found.extend(pod.lacks(&known, &self.settings, &time));
            }
            match self.pods.next_page(of, &page).await? {
                Some(next) => page = next,
                None => return Ok(found),
            }
        }
    }

    /// What is known of a pod's account, read once for all of its pods; nothing where that cannot be said
    /// for certain now.
    async fn known(&self, pod: &ListedPod<'_>, reading: &mut Reading) -> Option<Known> {
        let namespace: Namespace = pod.namespace.parse().ok()?;
        let account: ServiceAccount = pod.pod.service_account().parse().ok()?;
        let of_namespace = reading.namespaces.get(&pod.namespace).copied().unwrap_or_default();
        let key = (namespace, account);
        if !reading.accounts.contains_key(&key) {
            let answer = if self.knowledge.may_have_role(&key.0, &key.1) {
                let answer = self.knowledge.of(&key.0, &key.1, clock::monotonic()).await;
                matches!(answer.freshness, Freshness::Fresh).then_some(Known {
                    associated: answer.associated,
                    account: answer.account,
                    ..Known::default()
                })
            } else {
                Some(Known::default())
            };
            reading.accounts.insert(key.clone(), answer);
        }
        let known = reading.accounts.get(&key)?.clone()?;
        Some(Known { namespace: of_namespace, ..known })
    }

    fn say(&self, new: Vec<Finding>) {
        for finding in new {
            let Finding { namespace, pod, service_account, reason, message, .. } = &finding;
            tracing::warn!(namespace, pod, service_account, reason, "{message}");
            if let Some(events) = &self.events {
                let regarding = finding.object();
                events.say(Said { regarding, reason: "PodIdentityLacking", note: finding.message });
            }
        }
    }
}

/// Waits until this replica leads, or no longer does. Asked every second: that time is up, nobody says.
async fn until(leadership: &Leadership, leads: bool) {
    while leadership.holds() != leads {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What one reading of pods has learned.
struct Reading {
    namespaces: HashMap<String, NamespaceSettings>,
    accounts: HashMap<(Namespace, ServiceAccount), Option<Known>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_accounts_are_a_reading_of_all() {
        let mut due = Due::default();
        for number in 0..=MOST_ACCOUNTS {
            assert!(!due.all);
            due.add(Change::Account("shop".parse().unwrap(), format!("cart-{number}").parse().unwrap()));
        }
        assert!(due.all && due.accounts.is_empty());
        due.add(Change::Account("shop".parse().unwrap(), "cart".parse().unwrap()));
        assert!(due.all && due.accounts.is_empty());
    }
}

//! Pods that run without what their accounts have: looked for, and told of. Nothing is changed, nobody evicted.
//!
//! One replica does this, the one that holds the Lease. It reads all pods every so often, page by page, and
//! those of one account soon after the account changes, which is when most of them come to lack something.

mod judgement; // what a pod lacks
mod list; // what was found, for people and programs
mod pods; // the pods that there are
mod schedule; // when which of them are read

use std::collections::HashMap;
use std::time::Duration;

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use tokio::time::Instant;

pub use self::judgement::Finding;
use self::judgement::ListedPod;
pub(super) use self::list::Findings;
use self::list::Read;
use self::pods::{Pods, PodsError};
use self::schedule::{Due, Schedule};
use crate::account::{Known, NamespaceSettings};
use crate::knowledge::{ChangeReceiver, Freshness, Knowledge};
use crate::lease::Leadership;
use crate::mutate::gives_containers_roles;
use crate::reports::events::{Events, Said};
use crate::settings::Settings;

/// The Lease of who looks.
pub(super) const LEASE: &str = "pod-identity-webhook-reconciler";

/// Looks for pods that lack what their accounts have.
#[derive(Debug)]
pub(super) struct Reconciler {
    pods: Pods,
    knowledge: Knowledge,
    settings: Settings,
    findings: Findings,
    events: Events,
    interval: Duration,
}

impl Reconciler {
    /// Reads all pods every `interval`, and those of changed accounts sooner.
    pub(super) fn new(
        client: kube::Client,
        knowledge: Knowledge,
        settings: Settings,
        findings: Findings,
        events: Events,
        interval: Duration,
    ) -> Self {
        Self { pods: Pods::new(client), knowledge, settings, findings, events, interval }
    }

    /// Looks whenever this replica is the one to do so, until the shutdown.
    pub(super) async fn follow(
        self,
        leadership: Leadership,
        mut changes: ChangeReceiver,
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
    async fn look(&self, changes: &mut ChangeReceiver) {
        let mut schedule = Schedule::new(self.interval, now());
        loop {
            // What waited while another replica looked, or while this one read.
            while let Some(change) = changes.try_recv() {
                schedule.add(change, now());
            }
            let began = now();
            if let Some(due) = schedule.due(began) {
                match self.reconcile(&due).await {
                    Ok(()) => schedule.done(&due, began, now()),
                    Err(error) => {
                        tracing::warn!(%error, "the pods were not looked at; tried again in a moment");
                        schedule.failed(now());
                    }
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(schedule.next()) => {}
                change = changes.recv() => {
                    let Some(change) = change else { return };
                    schedule.add(change, now());
                }
            }
        }
    }

    async fn reconcile(&self, due: &Due) -> Result<(), PodsError> {
        let mut reading = Reading { namespaces: self.pods.namespaces().await?, accounts: HashMap::new() };
        match due {
            Due::All => {
                let read = self.read(None, &mut reading).await?;
                self.say(self.findings.replace_all(read));
            }
            Due::Accounts(accounts) => {
                for (namespace, account) in accounts {
                    let read = self.read(Some((namespace, account)), &mut reading).await?;
                    self.say(self.findings.replace(namespace, account, read));
                }
            }
        }
        Ok(())
    }

    async fn read(
        &self,
        of: Option<(&Namespace, &ServiceAccount)>,
        reading: &mut Reading,
    ) -> Result<Read, PodsError> {
        let time = list::time();
        let (mut read, mut token) = (Read::default(), None);
        loop {
            let page = self.pods.page(of, token.as_deref()).await?;
            let list = page.list()?;
            for json in list.pods() {
                // Thousands of pods are some time of computing: reviews come first.
                tokio::task::yield_now().await;
                // Of a pod that cannot be read nobody can say what it lacks; the API server wrote it.
                let Ok(pod) = ListedPod::parse(json) else { continue };
                let Some(account) = pod.account() else { continue };
                match self.known(&pod, &account, reading).await {
                    Some(known) => read.found.extend(pod.lacks(&known, &self.settings, &time)),
                    None => {
                        read.undetermined.entry(account).or_default().insert(pod.uid);
                    }
                }
            }
            token = list.next();
            if token.is_none() {
                return Ok(read);
            }
        }
    }

    /// What is known of a pod's account, read once for all of its pods; nothing where that cannot be said
    /// for certain now.
    async fn known(
        &self,
        pod: &ListedPod<'_>,
        account: &(Namespace, ServiceAccount),
        reading: &mut Reading,
    ) -> Option<Known> {
        let of_namespace = reading.namespaces.get(&pod.namespace).copied().unwrap_or_default();
        // Of most accounts it is known without asking that they give nothing. A container's own role comes with
        // its pod, and what the account says of tokens counts for it.
        if !gives_containers_roles(&pod.pod) && !self.knowledge.may_have_role(&account.0, &account.1) {
            return Some(Known { namespace: of_namespace, ..Known::default() });
        }
        if !reading.accounts.contains_key(account) {
            let answer = self.knowledge.of(&account.0, &account.1, None, clock::monotonic()).await;
            let answer = matches!(answer.freshness, Freshness::Fresh).then_some(Known {
                associated: answer.associated,
                account: answer.account,
                ..Known::default()
            });
            reading.accounts.insert(account.clone(), answer);
        }
        let known = reading.accounts.get(account)?.clone()?;
        Some(Known { namespace: of_namespace, ..known })
    }

    fn say(&self, new: Vec<Finding>) {
        for finding in new {
            let Finding { namespace, pod, service_account, reason, message, .. } = &finding;
            tracing::warn!(namespace, pod, service_account, reason, "{message}");
            let regarding = finding.object();
            self.events.say(Said { regarding, reason: "PodIdentityLacking", note: finding.message });
        }
    }
}

/// Waits until this replica leads, or no longer does. Asked every second: that time is up, nobody says.
async fn until(leadership: &Leadership, leads: bool) {
    while leadership.holds() != leads {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The time that timers go by.
fn now() -> Instant {
    Instant::from_std(clock::monotonic())
}

/// What one reading of pods has learned.
struct Reading {
    namespaces: HashMap<String, NamespaceSettings>,
    accounts: HashMap<(Namespace, ServiceAccount), Option<Known>>,
}

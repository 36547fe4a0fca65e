//! Decides one admission review and counts and logs the decision.

mod metrics; // reviews by outcome
mod requirement; // pods that must be injected

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use pod_identity_core::identity::{InvalidName, Namespace, ServiceAccount};
use pod_identity_core::inject::{
    AdmissionReview, Injection, InjectionOutcome, Injector, InvalidReview, NamespaceSettings, Pod,
    ServiceAccountFacts, Settings, Subject, Warning, WarningReason,
};
use pod_identity_runtime::clock;
use pod_identity_runtime::logs::LogLimiter;
use prometheus_client::registry::Registry;

use self::metrics::{NOT_A_POD, ReviewMetrics, UNREADABLE};
use self::requirement::{Requirement, Unmet};
use crate::lookup::{Freshness, Lookup, LookupResult};
use crate::repeat_limiter::RepeatLimiter;

/// Maximum number of warnings in one log line: a pod may have a thousand.
const MAX_LOGGED: usize = 10;

/// Decides admission reviews.
#[derive(Debug)]
pub struct Admission {
    lookup: Lookup,
    injector: Injector,
    metrics: ReviewMetrics,
    /// Limits the lines about one peer: without client certificates every pod can send reviews.
    log_limiter: LogLimiter,
    /// Limits lines about pods that are admitted by earlier data, by failure and outcome.
    not_fresh_lines: RepeatLimiter<(&'static str, &'static str)>,
}

/// One review of a pod.
#[derive(Clone, Copy)]
struct PodReview<'a> {
    review: &'a AdmissionReview<'a>,
    pod: &'a Pod<'a>,
    /// `None` is a peer without limits.
    peer: Option<IpAddr>,
    requirement: Requirement,
}

impl Admission {
    /// Decides by `lookup` and `settings`. Nothing is written to the Kubernetes API, since every client can send a review.
    pub fn new(lookup: Lookup, settings: Settings, registry: &mut Registry) -> Self {
        Self {
            lookup,
            injector: Injector::new(settings),
            metrics: ReviewMetrics::register(registry),
            log_limiter: LogLimiter::default(),
            not_fresh_lines: RepeatLimiter::default(),
        }
    }

    /// Returns the limit of log lines of each peer.
    pub(crate) fn log_limiter(&self) -> &LogLimiter {
        &self.log_limiter
    }

    /// Writes a line about a review within its peer's limit, with the number of suppressed lines.
    fn log(&self, peer: Option<IpAddr>, reason: &'static str, write: impl FnOnce(u64)) {
        match peer {
            Some(peer) => self.log_limiter.log(peer, reason, write),
            None => write(0),
        }
    }

    /// Returns the response to a review that arrived at `arrived`, of an object in a namespace with these settings. Reads of
    /// the API server count against the limit of `peer`; `None` is a peer without limit.
    ///
    /// # Errors
    /// [`InvalidReview`] if the body is not a review that has a response.
    pub async fn respond(
        &self,
        body: &[u8],
        namespace: NamespaceSettings,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> Result<Vec<u8>, InvalidReview> {
        let review = AdmissionReview::parse(body)?;
        Ok(match &review.subject {
            Subject::Pod(pod) => {
                let requirement = Requirement::new(pod.requires(), namespace);
                let review = PodReview { review: &review, pod, peer, requirement };
                self.pod(review, namespace, arrived).await
            }
            Subject::Unreadable { reason, requires } => {
                let requirement = Requirement::new(*requires, namespace);
                self.unreadable(&review, peer, requirement, &reason.to_string())
            }
            Subject::Other => {
                self.metrics.reviewed(NOT_A_POD);
                review.allow_unchanged(None)
            }
        })
    }

    async fn pod(&self, one: PodReview<'_>, namespace: NamespaceSettings, arrived: Instant) -> Vec<u8> {
        let PodReview { review, pod, peer, requirement } = one;
        let random = review.random();
        let (of_namespace, service_account) = match service_account(one) {
            Ok(names) => names,
            Err(error) => {
                let reason = format!("the pod cannot be read: {error}");
                return self.unreadable(review, peer, requirement, Warning::truncate(&reason));
            }
        };
        let (mut injection, freshness) = match self.injector.inject_without_lookup(pod, namespace, random) {
            Some(injection) => (injection, Freshness::Fresh),
            None => {
                let found = self.lookup.of(&of_namespace, &service_account, peer, arrived).await;
                let LookupResult { associated, settings, freshness } = found;
                let facts = ServiceAccountFacts { associated, settings, namespace };
                (self.injector.inject(pod, &facts, random), freshness)
            }
        };
        self.metrics.reviewed(injection.outcome.as_str());
        if let Some(unmet) = requirement.unmet(&injection, &freshness) {
            return self.refuse(one, &unmet);
        }
        if injection.outcome == InjectionOutcome::Injected {
            self.metrics.injected(&injection.methods);
            tracing::debug!(
                namespace = &*review.namespace,
                pod = pod.name(),
                service_account = pod.service_account(),
                methods = ?injection.methods,
                dry_run = review.dry_run,
                "pod injected"
            );
        }
        self.report_not_fresh(one, &mut injection, &freshness);
        self.report_missed(one, &injection);
        review.allow(&injection)
    }

    /// Counts and logs a pod that is admitted by earlier data. The log has a limit: while the API server is slow that is
    /// every pod. A pod without a role gets a warning if the watch does not work; if it works, the pod lacks nothing.
    fn report_not_fresh(&self, one: PodReview<'_>, injection: &mut Injection, freshness: &Freshness) {
        let Some(failure) = freshness.failure() else { return };
        let (outcome, cause) = (injection.outcome.as_str(), failure.to_string());
        self.metrics.not_fresh(outcome);
        if let Some(suppressed) = self.not_fresh_lines.allow((failure.as_str(), outcome), clock::monotonic())
        {
            tracing::warn!(
                namespace = &*one.review.namespace,
                pod = one.pod.name(),
                service_account = one.pod.service_account(),
                reason = failure.as_str(),
                outcome,
                dry_run = one.review.dry_run,
                suppressed,
                "pod admitted by earlier data of its service account: {cause}"
            );
        }
        if injection.outcome == InjectionOutcome::NoRole {
            let reason = match freshness {
                Freshness::Unknown(_) => WarningReason::ServiceAccountUnknown { cause },
                Freshness::Stale(_) => WarningReason::NotFresh { cause },
                Freshness::Recent(_) | Freshness::Fresh => return,
            };
            injection.warnings.insert(0, Warning { container: None, reason });
        }
    }

    /// Counts and logs containers without credentials that their service account has or may have.
    fn report_missed(&self, one: PodReview<'_>, injection: &Injection) {
        let reasons: BTreeSet<_> = injection.missed().map(|warning| warning.reason.as_str()).collect();
        let Some(&first) = reasons.first() else { return };
        reasons.iter().for_each(|reason| self.metrics.missed(reason));
        if injection.outcome == InjectionOutcome::NoRole {
            return; // logged as admitted by earlier data
        }
        let mut texts: Vec<_> = injection.missed().take(MAX_LOGGED).map(ToString::to_string).collect();
        let more = injection.missed().skip(MAX_LOGGED).count();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        let text = texts.join("; ");
        self.log(one.peer, first, |suppressed| {
            tracing::warn!(
                namespace = &*one.review.namespace,
                pod = one.pod.name(),
                service_account = one.pod.service_account(),
                reasons = ?reasons,
                dry_run = one.review.dry_run,
                suppressed,
                "pod admitted without credentials that it should have: {text}"
            );
        });
    }

    /// Admits a pod that cannot be read, unless it must be injected.
    fn unreadable(
        &self,
        review: &AdmissionReview<'_>,
        peer: Option<IpAddr>,
        requirement: Requirement,
        reason: &str,
    ) -> Vec<u8> {
        self.metrics.reviewed(UNREADABLE);
        let namespace = &*review.namespace;
        if requirement == Requirement::None {
            self.metrics.missed(UNREADABLE);
            self.log(peer, UNREADABLE, |suppressed| {
                let reasons = [UNREADABLE];
                tracing::warn!(namespace, ?reasons, suppressed, "pod admitted unchanged: {reason}");
            });
            let warning = format!("pod-identity: {reason}");
            return review.allow_unchanged(Some(Warning::truncate(&warning).to_owned()));
        }
        let unmet = Unmet::unreadable(reason);
        self.metrics.refused(unmet.reason);
        let text = requirement.message(&unmet);
        self.log(peer, unmet.reason, |suppressed| {
            let dry_run = review.dry_run;
            tracing::warn!(namespace, reason = unmet.reason, dry_run, suppressed, "pod refused: {text}");
        });
        review.refuse(&text)
    }

    fn refuse(&self, one: PodReview<'_>, unmet: &Unmet) -> Vec<u8> {
        self.metrics.refused(unmet.reason);
        let text = one.requirement.message(unmet);
        self.log(one.peer, unmet.reason, |suppressed| {
            tracing::warn!(
                namespace = &*one.review.namespace,
                pod = one.pod.name(),
                service_account = one.pod.service_account(),
                reason = unmet.reason,
                dry_run = one.review.dry_run,
                suppressed,
                "pod refused: {text}"
            );
        });
        one.review.refuse(&text)
    }
}

fn service_account(one: PodReview<'_>) -> Result<(Namespace, ServiceAccount), InvalidName> {
    Ok((one.review.namespace.parse()?, one.pod.service_account().parse()?))
}

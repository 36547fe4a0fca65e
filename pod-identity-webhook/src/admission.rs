//! One review, end to end: read, decided, answered, counted, and said where somebody has to know.

mod metrics; // what became of reviews
mod require; // who is kept out rather than let in without

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use pod_identity_core::identity::{InvalidName, Namespace, ServiceAccount};
use pod_identity_runtime::clock;
use pod_identity_runtime::logs::LogLimiter;
use prometheus_client::registry::Registry;

use self::metrics::ReviewMetrics;
use self::require::{Cause, Requirement};
use crate::knowledge::{Answer, Freshness, Knowledge};
use crate::repeat_limiter::RepeatLimiter;
use pod_identity_core::inject::{
    AdmissionReview, Injection, InjectionOutcome, Injector, InvalidReview, NamespaceSettings, Pod,
    ServiceAccountFacts, Settings, Subject, Warning, WarningReason,
};

/// How many of the reasons for which containers go without are said in one line: a pod may have a thousand.
const SAID: usize = 10;

/// What decides about pods.
#[derive(Debug)]
pub struct Admission {
    knowledge: Knowledge,
    injector: Injector,
    metrics: ReviewMetrics,
    /// Limits the lines about pods and requests of one peer: without client certificates anybody can send reviews.
    log_limiter: LogLimiter,
    /// Limits lines about pods that are admitted by earlier data, by failure and outcome.
    not_fresh: RepeatLimiter<(&'static str, &'static str)>,
}

impl Admission {
    /// Decides by the lookup in `knowledge`. Nothing is written to the Kubernetes API, since every client can send a
    /// review.
    pub fn new(knowledge: Knowledge, settings: Settings, registry: &mut Registry) -> Self {
        Self {
            knowledge,
            injector: Injector::new(settings),
            metrics: ReviewMetrics::register(registry),
            log_limiter: LogLimiter::default(),
            not_fresh: RepeatLimiter::default(),
        }
    }

    /// The limit of the log lines that one peer can cause.
    pub(crate) fn log_limiter(&self) -> &LogLimiter {
        &self.log_limiter
    }

    /// Writes a line about a review within the limit of its peer, with the number of lines left out before it. A peer
    /// with a verified client certificate has no limit.
    fn log(&self, peer: Option<IpAddr>, reason: &'static str, write: impl FnOnce(u64)) {
        match peer {
            Some(peer) => self.log_limiter.log(peer, reason, write),
            None => write(0),
        }
    }

    /// Returns the answer to a review that arrived at `arrived`, of a pod in a namespace with these settings. Its
    /// reads count against the limit of `peer`; `None` is a peer without limit.
    ///
    /// # Errors
    /// [`InvalidReview`] where it is none that could be answered.
    pub async fn answer(
        &self,
        body: &[u8],
        namespace: NamespaceSettings,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> Result<Vec<u8>, InvalidReview> {
        let review = AdmissionReview::parse(body)?;
        Ok(match &review.subject {
            Subject::Pod(pod) => self.pod(&review, pod, namespace, peer, arrived).await,
            Subject::Unreadable { reason, requires } => {
                let requirement = Requirement::new(*requires, namespace);
                self.unreadable(&review, peer, requirement, &reason.to_string())
            }
            Subject::Other => {
                self.metrics.reviewed(metrics::NOT_A_POD);
                review.allow_unchanged(None)
            }
        })
    }

    async fn pod(
        &self,
        review: &AdmissionReview<'_>,
        pod: &Pod<'_>,
        namespace: NamespaceSettings,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> Vec<u8> {
        let requirement = Requirement::of(pod, namespace);
        let random = review.random();
        let (of, account) = match account(review, pod) {
            Ok(names) => names,
            Err(error) => {
                let reason = format!("the pod cannot be read: {error}");
                return self.unreadable(review, peer, requirement, Warning::truncate(&reason));
            }
        };
        let (mut injection, freshness) = match self.injector.inject_without_lookup(pod, namespace, random) {
            Some(injection) => (injection, Freshness::Fresh),
            None => {
                let Answer { associated, account: settings, freshness } =
                    self.knowledge.of(&of, &account, peer, arrived).await;
                let known = ServiceAccountFacts { associated, settings, namespace };
                (self.injector.inject(pod, &known, random), freshness)
            }
        };
        self.metrics.reviewed(injection.outcome.as_str());
        if let Some(cause) = requirement.keeps_out(&injection, &freshness) {
            return self.refuse(review, pod, peer, requirement, &cause);
        }
        if injection.outcome == InjectionOutcome::Injected {
            self.metrics.injected(&injection.methods);
            tracing::debug!(
                namespace = &*review.namespace,
                pod = pod.name(),
                account = pod.service_account(),
                methods = ?injection.methods,
                dry_run = review.dry_run,
                "injected"
            );
        }
        self.say_what_may_be_old(review, pod, &mut injection, &freshness);
        self.say_what_is_missed(review, pod, peer, &injection);
        review.allow(&injection)
    }

    /// Counts a pod that is admitted by earlier data, and logs it within the limit: while the API server is slow that
    /// is every pod. While the watch works, a pod whose service account has no role there lacks nothing. Otherwise
    /// the pod gets a warning.
    fn say_what_may_be_old(
        &self,
        review: &AdmissionReview<'_>,
        pod: &Pod<'_>,
        injection: &mut Injection,
        freshness: &Freshness,
    ) {
        let Some(failure) = freshness.failure() else { return };
        let (outcome, cause) = (injection.outcome.as_str(), failure.to_string());
        self.metrics.not_fresh(outcome);
        if let Some(suppressed) = self.not_fresh.allow((failure.as_str(), outcome), clock::monotonic()) {
            tracing::warn!(
                namespace = &*review.namespace,
                pod = pod.name(),
                account = pod.service_account(),
                reason = failure.as_str(),
                outcome,
                dry_run = review.dry_run,
                suppressed,
                "pod admitted by earlier data of its service account: {cause}"
            );
        }
        if injection.outcome == InjectionOutcome::NoRole {
            let reason = match freshness {
                Freshness::Unknown(_) => WarningReason::ServiceAccountUnknown { cause },
                Freshness::FromWatch(_) => WarningReason::NotFresh { cause },
                Freshness::Recent(_) | Freshness::Fresh => return,
            };
            injection.warnings.insert(0, Warning { container: None, reason });
        }
    }

    /// Says which containers go without what their account has or may have.
    fn say_what_is_missed(
        &self,
        review: &AdmissionReview<'_>,
        pod: &Pod<'_>,
        peer: Option<IpAddr>,
        injection: &Injection,
    ) {
        let reasons: BTreeSet<_> = injection.missed().map(|notice| notice.reason.as_str()).collect();
        let Some(&first) = reasons.first() else { return };
        reasons.iter().for_each(|reason| self.metrics.missed(reason));
        if injection.outcome == InjectionOutcome::NoRole {
            return; // logged as admitted by earlier data
        }
        let mut said: Vec<_> = injection.missed().take(SAID).map(ToString::to_string).collect();
        let more = injection.missed().skip(SAID).count();
        if more > 0 {
            said.push(format!("and {more} more"));
        }
        let text = said.join("; ");
        self.log(peer, first, |suppressed| {
            tracing::warn!(
                namespace = &*review.namespace,
                pod = pod.name(),
                account = pod.service_account(),
                reasons = ?reasons,
                dry_run = review.dry_run,
                suppressed,
                "pod admitted without credentials that it should have: {text}"
            );
        });
    }

    /// A pod that cannot be read is let in, unless it must be injected.
    fn unreadable(
        &self,
        review: &AdmissionReview<'_>,
        peer: Option<IpAddr>,
        requirement: Requirement,
        reason: &str,
    ) -> Vec<u8> {
        self.metrics.reviewed(metrics::UNREADABLE);
        let namespace = &*review.namespace;
        if requirement == Requirement::None {
            self.metrics.missed(metrics::UNREADABLE);
            self.log(peer, metrics::UNREADABLE, |suppressed| {
                let reasons = [metrics::UNREADABLE];
                tracing::warn!(namespace, ?reasons, suppressed, "pod admitted unchanged: {reason}");
            });
            return review
                .allow_unchanged(Some(Warning::truncate(&format!("pod-identity: {reason}")).to_owned()));
        }
        let cause = Cause::unreadable(reason);
        self.metrics.refused(cause.reason);
        let text = requirement.refusal(&cause);
        self.log(peer, cause.reason, |suppressed| {
            let dry_run = review.dry_run;
            tracing::warn!(namespace, reason = cause.reason, dry_run, suppressed, "pod refused: {text}");
        });
        review.refuse(&text)
    }

    fn refuse(
        &self,
        review: &AdmissionReview<'_>,
        pod: &Pod<'_>,
        peer: Option<IpAddr>,
        requirement: Requirement,
        cause: &Cause,
    ) -> Vec<u8> {
        self.metrics.refused(cause.reason);
        let text = requirement.refusal(cause);
        self.log(peer, cause.reason, |suppressed| {
            tracing::warn!(
                namespace = &*review.namespace,
                pod = pod.name(),
                account = pod.service_account(),
                reason = cause.reason,
                dry_run = review.dry_run,
                suppressed,
                "pod refused: {text}"
            );
        });
        review.refuse(&text)
    }
}

/// The pod's account, with its namespace.
fn account(review: &AdmissionReview<'_>, pod: &Pod<'_>) -> Result<(Namespace, ServiceAccount), InvalidName> {
    Ok((review.namespace.parse()?, pod.service_account().parse()?))
}

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
use crate::account::{Known, NamespaceSettings};
use crate::knowledge::{Answer, Freshness, Knowledge};
use crate::mutate::notice::{Notice, Reason};
use crate::mutate::{Mutation, Outcome, mutate, mutate_without_account};
use crate::pod::Pod;
use crate::repeat_limiter::RepeatLimiter;
use crate::review::{Review, ReviewError, Subject};
use crate::settings::Settings;
use crate::text::beginning;

/// How many of the reasons for which containers go without are said in one line: a pod may have a thousand.
const SAID: usize = 10;

/// What decides about pods.
#[derive(Debug)]
pub struct Admission {
    knowledge: Knowledge,
    settings: Settings,
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
            settings,
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
    /// [`ReviewError`] where it is none that could be answered.
    pub async fn answer(
        &self,
        body: &[u8],
        namespace: NamespaceSettings,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> Result<Vec<u8>, ReviewError> {
        let review = Review::parse(body)?;
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
        review: &Review<'_>,
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
                return self.unreadable(review, peer, requirement, beginning(&reason, Notice::LONGEST));
            }
        };
        let (mut mutation, freshness) = match mutate_without_account(pod, namespace, &self.settings, random) {
            Some(mutation) => (mutation, Freshness::Fresh),
            None => {
                let Answer { associated, account, freshness } =
                    self.knowledge.of(&of, &account, peer, arrived).await;
                let known = Known { associated, account, namespace };
                (mutate(pod, &known, &self.settings, random), freshness)
            }
        };
        self.metrics.reviewed(mutation.outcome.as_str());
        if let Some(cause) = requirement.keeps_out(&mutation, &freshness) {
            return self.refuse(review, pod, peer, requirement, &cause);
        }
        if mutation.outcome == Outcome::Injected {
            self.metrics.injected(&mutation.methods);
            tracing::debug!(
                namespace = &*review.namespace,
                pod = pod.name(),
                account = pod.service_account(),
                methods = ?mutation.methods,
                dry_run = review.dry_run,
                "injected"
            );
        }
        self.say_what_may_be_old(review, pod, &mut mutation, &freshness);
        self.say_what_is_missed(review, pod, peer, &mutation);
        review.allow(&mutation)
    }

    /// Counts a pod that is admitted by earlier data, and logs it within the limit: while the API server is slow that
    /// is every pod. While the watch works, a pod whose service account has no role there lacks nothing. Otherwise
    /// the pod gets a warning.
    fn say_what_may_be_old(
        &self,
        review: &Review<'_>,
        pod: &Pod<'_>,
        mutation: &mut Mutation,
        freshness: &Freshness,
    ) {
        let Some(failure) = freshness.failure() else { return };
        let (outcome, cause) = (mutation.outcome.as_str(), failure.to_string());
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
        if mutation.outcome == Outcome::NoRole {
            let reason = match freshness {
                Freshness::Unknown(_) => Reason::AccountUnknown { cause },
                Freshness::FromWatch(_) => Reason::NotFresh { cause },
                Freshness::Recent(_) | Freshness::Fresh => return,
            };
            mutation.notices.insert(0, Notice { container: None, reason });
        }
    }

    /// Says which containers go without what their account has or may have.
    fn say_what_is_missed(
        &self,
        review: &Review<'_>,
        pod: &Pod<'_>,
        peer: Option<IpAddr>,
        mutation: &Mutation,
    ) {
        let reasons: BTreeSet<_> = mutation.missed().map(|notice| notice.reason.as_str()).collect();
        let Some(&first) = reasons.first() else { return };
        reasons.iter().for_each(|reason| self.metrics.missed(reason));
        if mutation.outcome == Outcome::NoRole {
            return; // logged as admitted by earlier data
        }
        let mut said: Vec<_> = mutation.missed().take(SAID).map(ToString::to_string).collect();
        let more = mutation.missed().skip(SAID).count();
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
        review: &Review<'_>,
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
            return review.allow_unchanged(Some(
                beginning(&format!("pod-identity: {reason}"), Notice::LONGEST).to_owned(),
            ));
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
        review: &Review<'_>,
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
fn account(review: &Review<'_>, pod: &Pod<'_>) -> Result<(Namespace, ServiceAccount), InvalidName> {
    Ok((review.namespace.parse()?, pod.service_account().parse()?))
}

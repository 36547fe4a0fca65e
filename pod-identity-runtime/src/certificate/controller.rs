//! The controller: reads the state, serves the newest settled certificate, and takes the next step.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use pod_identity_core::backoff::random_fraction;
use prometheus_client::registry::Registry;

use super::config::CertificateConfig;
use super::failure::CertificateFailure;
use super::generation::{Generation, Pair};
use super::metrics::{Metrics, StepLabels};
use super::publication::{Bundles, Publication};
use super::rotation::{self, Authority, GenerationStatus, KEPT, Step, Unchanged};
use super::secret::{SecretStore, StoredGenerations};
use crate::admin::Readiness;
use crate::clock::{Clock, rfc3339};
use crate::logs::Fault;
use crate::shutdown::Shutdown;
use crate::tls::ServerTls;

/// The readiness condition.
pub const CONDITION: &str = "certificate";

/// Time between two rounds without a watch event. A watch can hang.
const TICK: Duration = Duration::from_secs(5);

/// Minimum time between two rounds. It slows down a fight with another program over a bundle.
const PAUSE: Duration = Duration::from_millis(200);

/// Maximum delay before a step. All replicas see a step due at the same time. The first to write spares the others a
/// conflict.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Serves and renews the certificate of one replica.
///
/// The replica is ready once clients can verify the served certificate. It stays ready: a bundle that another program
/// overwrites is repaired sooner than a replica could leave its Service and come back.
#[derive(Debug)]
pub struct CertificateController<P> {
    config: CertificateConfig,
    secret: SecretStore,
    publication: P,
    tls: ServerTls,
    readiness: Readiness,
    metrics: Metrics,
    clock: Clock,
    random: fn() -> f64,
    served: Option<Served>,
    unchanged: Unchanged,
    ready: bool,
    fault: Fault,
}

/// The served certificate.
#[derive(Debug)]
struct Served {
    authority: Authority,
    /// Expiry of the certificate and its authority.
    expires: SystemTime,
    /// Time by which it should have been replaced.
    overdue: SystemTime,
}

/// A generation that can be served.
struct Usable<'a> {
    generation: &'a Generation,
    pair: Pair,
}

/// The state that one round has read, and the step that is due.
struct Observation {
    bundles: Bundles,
    stored: StoredGenerations,
    statuses: Vec<GenerationStatus>,
    step: Option<Step>,
}

impl<P: Publication> CertificateController<P> {
    /// Makes a controller that puts certificates into `tls`. It calls the API server in [`run`](Self::run) only. Until the
    /// certificate can be verified, [`CONDITION`] makes the process unready.
    ///
    /// The registry's prefix is that of the metrics: with `registry.sub_registry_with_prefix("pod_identity_webhook")`
    /// they are `pod_identity_webhook_certificate_steps_total` and `pod_identity_webhook_certificate_failures_total`.
    pub fn new(
        config: CertificateConfig,
        client: kube::Client,
        publication: P,
        tls: ServerTls,
        readiness: Readiness,
        registry: &mut Registry,
    ) -> Self {
        readiness.pending(CONDITION, "the API server has not been called yet");
        Self {
            secret: SecretStore::new(client, &config.namespace, &config.secret),
            config,
            publication,
            tls,
            readiness,
            metrics: Metrics::register(registry),
            clock: Clock::default(),
            random: random_fraction,
            served: None,
            unchanged: Unchanged::default(),
            ready: false,
            fault: Fault::default(),
        }
    }

    /// Sets the clock, and the function that returns the fraction of the maximum delay (1 s, or a quarter of the wait)
    /// before each step: for tests.
    #[must_use]
    pub fn with_clock(self, clock: Clock, random: fn() -> f64) -> Self {
        Self { clock, random, ..self }
    }

    /// Serves and renews until the shutdown.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut changes = stream::select(self.secret.changes(), self.publication.changes());
        // Each replica must see the Secret within a wait, calls and delay included.
        let tick = (self.config.wait / 2).clamp(PAUSE, TICK);
        loop {
            let round = async {
                self.round().await;
                self.clock.sleep(PAUSE).await;
                tokio::select! {
                    () = self.clock.sleep(tick - PAUSE) => {}
                    Some(()) = changes.next() => {}
                }
            };
            tokio::select! {
                () = shutdown.asked() => return,
                () = round => {}
            }
        }
    }

    async fn round(&mut self) {
        let failure = self.rotate().await.err();
        let now = self.clock.now();
        // A conflict is not a failure: another replica has taken the step.
        let failure = failure.filter(|error| !matches!(error, CertificateFailure::Conflict));
        let is_overdue = self.served.as_ref().is_some_and(|served| now.wall >= served.overdue);
        let Some(error) = failure.or_else(|| is_overdue.then_some(CertificateFailure::Overdue)) else {
            if self.fault.succeeded() {
                tracing::info!("certificate rotation recovered");
            }
            return;
        };
        self.metrics.failure(&error);
        if !self.ready {
            self.readiness.pending(CONDITION, &error.to_string());
        }
        if let Some(lasted) = self.fault.failed(now.monotonic) {
            let expires = self.served.as_ref().map(|served| rfc3339(served.expires));
            tracing::warn!(%error, expires, failing_seconds = lasted.as_secs(), "certificate rotation is failing");
        }
    }

    async fn rotate(&mut self) -> Result<(), CertificateFailure> {
        let mut observed = self.observe().await?;
        if observed.step.is_none() {
            return Ok(());
        }
        // Without the served authority in a bundle, clients cannot verify this replica.
        if !self.is_served_missing(&observed.bundles) {
            let max_delay = MAX_DELAY.min(self.config.wait / 4);
            self.clock.sleep(max_delay.mul_f64((self.random)())).await;
            observed = self.observe().await?;
        }
        match observed.step {
            Some(step) => self.take(step, observed).await,
            None => Ok(()),
        }
    }

    /// Reads the bundles and then the Secret (the order matters, see `rotation.rs`), and serves the newest settled
    /// certificate.
    async fn observe(&mut self) -> Result<Observation, CertificateFailure> {
        let bundles = self.publication.read().await?;
        let stored = self.secret.read().await?;
        let now = self.clock.now();
        let usable = self.usable(&stored.generations, now.wall);
        let statuses: Vec<_> = usable.iter().map(|one| one.status(now.wall)).collect();
        self.serve(&usable, &statuses, now.wall);
        let authorities: Vec<_> = bundles.bundles.iter().map(|bundle| bundle.authorities.clone()).collect();
        self.update_readiness(&stored, &statuses, &authorities);
        let unchanged = self.unchanged.observe(&statuses, &authorities, now.monotonic);
        let step = rotation::next(&statuses, &authorities, unchanged, self.config.wait);
        Ok(Observation { bundles, stored, statuses, step })
    }

    fn is_served_missing(&self, bundles: &Bundles) -> bool {
        let served = self.served.as_ref().map(|served| &served.authority);
        served.is_some_and(|served| bundles.bundles.iter().any(|bundle| !bundle.authorities.contains(served)))
    }

    async fn take(&self, step: Step, observed: Observation) -> Result<(), CertificateFailure> {
        let Observation { mut bundles, stored, statuses, .. } = observed;
        let (label, result) = match step {
            Step::Make => ("make", self.make(&stored).await),
            Step::Settle => ("settle", self.settle(&stored, &statuses).await),
            Step::Publish => {
                for bundle in &mut bundles.bundles {
                    bundle.authorities = rotation::published(&bundle.authorities, &statuses);
                }
                // The authority of a settled generation was in every bundle before.
                let is_repair = statuses.last().is_some_and(|newest| newest.settled);
                (if is_repair { "repair" } else { "publish" }, self.publication.write(&bundles).await)
            }
            Step::Trim => {
                for bundle in &mut bundles.bundles {
                    bundle.authorities = rotation::trimmed(&bundle.authorities, &statuses);
                }
                ("trim", self.publication.write(&bundles).await)
            }
        };
        let outcome = match &result {
            Ok(()) => "ok",
            Err(CertificateFailure::Conflict) => "conflict",
            Err(_) => "error",
        };
        if result.is_ok() {
            tracing::info!(step = label, "certificate rotation step taken");
        } else {
            // `round` logs a failure once an hour. Steps are tried every few seconds.
            tracing::debug!(step = label, outcome, "certificate rotation step not taken");
        }
        self.metrics.step(StepLabels { step: label, outcome });
        result
    }

    fn usable<'a>(&self, generations: &'a [Generation], now: SystemTime) -> Vec<Usable<'a>> {
        let check = |generation: &'a Generation| match generation.check(&self.config.dns_name, now) {
            Ok(pair) => Some(Usable { generation, pair }),
            Err(error) => {
                tracing::debug!(%error, name = %self.config.dns_name, "a generation of the Secret cannot be served");
                None
            }
        };
        generations.iter().filter_map(check).collect()
    }

    fn serve(&mut self, usable: &[Usable<'_>], statuses: &[GenerationStatus], now: SystemTime) {
        let current = self.served.as_ref().filter(|served| now < served.expires);
        let current = current.map(|served| &served.authority);
        let to_serve = rotation::served(statuses, current).filter(|authority| current != Some(*authority));
        let Some(chosen) = usable.iter().find(|one| Some(&one.pair.authority) == to_serve) else { return };
        let (pair, generation) = (&chosen.pair, chosen.generation);
        match self.tls.replace(vec![pair.certificate.clone()], pair.key.clone_key()) {
            Ok(()) => {
                let (expires, overdue) = (generation.expires(), generation.overdue());
                tracing::info!(name = %self.config.dns_name, expires = rfc3339(expires), "self-managed certificate replaced");
                self.served = Some(Served { authority: pair.authority.clone(), expires, overdue });
            }
            Err(error) => {
                tracing::error!(%error, "self-managed certificate not replaced; the old one stays in use");
            }
        }
    }

    fn update_readiness(
        &mut self,
        stored: &StoredGenerations,
        statuses: &[GenerationStatus],
        bundles: &[Vec<Authority>],
    ) {
        if self.ready {
            return;
        }
        let Some(Served { authority: served, .. }) = &self.served else {
            let reason = format!("no certificate yet in the Secret {}", self.config.secret);
            return self.readiness.pending(CONDITION, &reason);
        };
        let of_secret: Vec<_> = stored.generations.iter().filter_map(Generation::authority).collect();
        if bundles.is_empty() {
            // This does not pass by itself.
            self.readiness.unmet(CONDITION, self.publication.missing());
        } else if rotation::is_trusted(served, statuses, &of_secret, bundles) {
            self.readiness.met(CONDITION);
            self.ready = true;
        } else {
            self.readiness.pending(CONDITION, "clients do not know the certificate's authority yet");
        }
    }

    async fn make(&self, stored: &StoredGenerations) -> Result<(), CertificateFailure> {
        let CertificateConfig { dns_name, common_name, lifetime, .. } = &self.config;
        let now = self.clock.now().wall;
        let made = Generation::make(dns_name, common_name, *lifetime, now);
        let made = made.map_err(|error| CertificateFailure::Make(error.to_string()))?;
        made.check(dns_name, now).map_err(|error| CertificateFailure::Make(error.to_string()))?;
        let mut generations = stored.generations.clone();
        generations.push(made);
        generations.drain(..generations.len().saturating_sub(KEPT));
        self.secret.write(stored, &generations).await
    }

    async fn settle(
        &self,
        stored: &StoredGenerations,
        statuses: &[GenerationStatus],
    ) -> Result<(), CertificateFailure> {
        let newest = statuses.last().map(|newest| &newest.authority);
        let mut generations = stored.generations.clone();
        for generation in &mut generations {
            generation.settled |= generation.authority().as_ref() == newest;
        }
        self.secret.write(stored, &generations).await
    }
}

impl Usable<'_> {
    fn status(&self, now: SystemTime) -> GenerationStatus {
        GenerationStatus {
            authority: self.pair.authority.clone(),
            settled: self.generation.settled,
            due: self.generation.is_due(now),
        }
    }
}

#[cfg(test)]
mod tests;

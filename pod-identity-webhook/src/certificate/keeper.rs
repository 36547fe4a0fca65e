//! The certificate kept: what stands is read, the newest certificate served, the next step done.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::ServerTls;

use super::generation::{Generation, Pair};
use super::metrics::{Ended, Metrics};
use super::rotation::{self, Authority, KEPT, Standing, Step, Unchanged};
use super::store::{Failure, Found, Store};
use super::{CONDITION, Own};
use crate::fault::Fault;
use crate::lease::Leadership;
use crate::text::rfc3339;

/// How often all is read where no watch says that something has changed: a watch can hang.
const TICK: Duration = Duration::from_secs(5);

/// How long it rests after each look, so that a fight with another program over a `caBundle` stays slow.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps the certificate of one replica.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) own: Own,
    /// The name that API servers ask for.
    pub(super) name: String,
    pub(super) tls: ServerTls,
    pub(super) leadership: Leadership,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) known: Known,
}

/// What a replica remembers from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Known {
    served: Option<Served>,
    unchanged: Unchanged,
    ready: bool,
    fault: Fault,
}

/// The served certificate.
#[derive(Debug)]
struct Served {
    authority: Authority,
    /// Time at which the certificate and its authority expire.
    expires: SystemTime,
    /// Time by which it should have been replaced.
    overdue: SystemTime,
}

/// A generation that can be served.
struct Usable<'a> {
    generation: &'a Generation,
    pair: Pair,
}

impl Keeper {
    /// Keeps it until the end.
    pub(super) async fn follow(mut self, mut end: Shutdown) {
        let mut changes = std::pin::pin!(self.store.changes());
        let mut leadership = self.leadership.clone();
        // Within a wait each replica has to see what has become of the Secret.
        let tick = (self.own.wait / 2).clamp(PAUSE, TICK);
        loop {
            let looked = async {
                self.look().await;
                self.clock.sleep(PAUSE).await;
                tokio::select! {
                    () = self.clock.sleep(tick - PAUSE) => {}
                    Some(()) = changes.next() => {}
                    () = leadership.changed() => {}
                }
            };
            tokio::select! {
                () = end.asked() => return,
                () = looked => {}
            }
        }
    }

    async fn look(&mut self) {
        let failure = match self.store.read().await {
            Ok(found) => self.act(&found).await.err(),
            Err(error) => Some(error),
        };
        let now = self.clock.now();
        // A conflict is no failure: another replica has done it.
        let failure = failure.filter(|error| !matches!(error, Failure::Conflict));
        let is_overdue = self.known.served.as_ref().is_some_and(|served| now.wall >= served.overdue);
        let Some(error) = failure.or_else(|| is_overdue.then_some(Failure::Overdue)) else {
            if self.known.fault.succeeded() {
                tracing::info!("the webhook's own certificate is kept again");
            }
            return;
        };
        self.metrics.failed(&error);
        if !self.known.ready {
            self.readiness.pending(CONDITION, &error.to_string());
        }
        if let Some(lasted) = self.known.fault.failed(now.monotonic) {
            let expires = self.known.served.as_ref().map(|served| rfc3339(served.expires));
            let failing_seconds = lasted.as_secs();
            tracing::warn!(%error, expires, failing_seconds, "the webhook's own certificate is not kept");
        }
    }

    /// Serves what is to be served, and does the next step.
    async fn act(&mut self, found: &Found) -> Result<(), Failure> {
        let now = self.clock.now();
        let usable = self.usable(&found.generations, now.wall);
        let standing: Vec<_> = usable.iter().map(|one| one.standing(now.wall)).collect();
        let bundles: Vec<_> = found.entries.iter().map(|entry| entry.bundle.clone()).collect();
        self.serve(&usable, &standing, now.wall);
        self.tell(found, &standing, &bundles);

        let unchanged = self.known.unchanged.look(&standing, &bundles, now.monotonic);
        let leads = self.leadership.holds();
        let step = rotation::next(&standing, &bundles, unchanged, self.own.wait, leads);
        // What all replicas serve was in each caBundle once: somebody has taken it out.
        let repairs = standing.last().is_some_and(|newest| newest.settled);
        let (step, done) = match step {
            Step::Rest => return Ok(()),
            Step::Make => ("make", self.make(found, now.wall).await),
            Step::Settle => ("settle", self.settle(found, &standing).await),
            Step::Publish => {
                let done = self.publish(found, |bundle| rotation::published(bundle, &standing)).await;
                (if repairs { "repair" } else { "publish" }, done)
            }
            Step::Trim => ("trim", self.publish(found, |bundle| rotation::trimmed(bundle, &standing)).await),
        };
        let outcome = match &done {
            Ok(()) => "ok",
            Err(Failure::Conflict) => "conflict",
            Err(_) => "error",
        };
        if done.is_ok() {
            tracing::info!(step, "the webhook's own certificate");
        } else {
            // A failure is logged as a fault, once an hour. Steps are tried every few seconds.
            tracing::debug!(step, outcome, "the webhook's own certificate");
        }
        self.metrics.count(Ended { step, outcome });
        done
    }

    /// The generations that can be served.
    fn usable<'a>(&self, generations: &'a [Generation], now: SystemTime) -> Vec<Usable<'a>> {
        let check = |generation: &'a Generation| match generation.check(&self.name, now) {
            Ok(pair) => Some(Usable { generation, pair }),
            Err(error) => {
                tracing::debug!(%error, name = %self.name, "a certificate of the Secret is not used");
                None
            }
        };
        generations.iter().filter_map(check).collect()
    }

    fn serve(&mut self, usable: &[Usable<'_>], standing: &[Standing], now: SystemTime) {
        let current = self.known.served.as_ref().filter(|served| now < served.expires);
        let current = current.map(|served| &served.authority);
        let to_serve = rotation::served(standing, current).filter(|authority| current != Some(*authority));
        let Some(chosen) = usable.iter().find(|one| Some(&one.pair.authority) == to_serve) else { return };
        let (pair, generation) = (&chosen.pair, chosen.generation);
        match self.tls.replace(vec![pair.certificate.clone()], pair.key.clone_key()) {
            Ok(()) => {
                let (expires, overdue) = (generation.expires(), generation.overdue());
                tracing::info!(name = %self.name, expires = rfc3339(expires), "a new certificate of the webhook's own is served");
                self.known.served = Some(Served { authority: pair.authority.clone(), expires, overdue });
            }
            Err(error) => tracing::error!(%error, "the new certificate cannot be served; the old one stays"),
        }
    }

    /// Ready once the certificate that is served is one that API servers take. It stays so: a `caBundle` that
    /// somebody overwrites is mended sooner than a replica could leave its Service and come back.
    fn tell(&mut self, found: &Found, standing: &[Standing], bundles: &[Vec<Authority>]) {
        if self.known.ready {
            return;
        }
        match self.lacks(found, standing, bundles) {
            // A certificate that nobody asks for is an alarm; one that is on its way is not.
            Some(reason) if self.known.served.is_some() && bundles.is_empty() => {
                self.readiness.unmet(CONDITION, reason);
            }
            Some(reason) => self.readiness.pending(CONDITION, &reason),
            None => {
                self.readiness.met(CONDITION);
                self.known.ready = true;
            }
        }
    }

    fn lacks(&self, found: &Found, standing: &[Standing], bundles: &[Vec<Authority>]) -> Option<String> {
        let Own { secret, service, configuration, .. } = &self.own;
        let Some(Served { authority: served, .. }) = &self.known.served else {
            return Some(format!("no certificate yet in the Secret {secret}"));
        };
        if bundles.is_empty() {
            return Some(format!(
                "no MutatingWebhookConfiguration {configuration} with an entry for the Service {service}; is \
                 --webhook-configuration right?"
            ));
        }
        let of_secret: Vec<_> = found.generations.iter().filter_map(Generation::authority).collect();
        let is_taken = rotation::is_taken(served, standing, &of_secret, bundles);
        (!is_taken).then(|| format!("API servers do not know its authority yet, from {configuration}"))
    }

    async fn make(&self, found: &Found, now: SystemTime) -> Result<(), Failure> {
        let made = Generation::make(&self.name, self.own.lifetime, now);
        let made = made.map_err(|error| Failure::Make(error.to_string()))?;
        made.check(&self.name, now).map_err(|error| Failure::Make(error.to_string()))?;
        let mut generations = found.generations.clone();
        generations.push(made);
        generations.drain(..generations.len().saturating_sub(KEPT));
        self.store.keep(found, &generations).await
    }

    async fn settle(&self, found: &Found, standing: &[Standing]) -> Result<(), Failure> {
        let newest = standing.last().map(|newest| &newest.authority);
        let mut generations = found.generations.clone();
        for generation in &mut generations {
            generation.settled |= generation.authority().as_ref() == newest;
        }
        self.store.keep(found, &generations).await
    }

    async fn publish(
        &self,
        found: &Found,
        bundle: impl Fn(&[Authority]) -> Vec<Authority>,
    ) -> Result<(), Failure> {
        let entries: Vec<_> = found.entries.iter().map(|entry| entry.with(bundle(&entry.bundle))).collect();
        self.store.publish(found, &entries).await
    }
}

impl Usable<'_> {
    fn standing(&self, now: SystemTime) -> Standing {
        Standing {
            authority: self.pair.authority.clone(),
            settled: self.generation.settled,
            due: self.generation.is_due(now),
        }
    }
}

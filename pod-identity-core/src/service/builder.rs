//! The builder of a service.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::upstream::Upstream;
use super::verification::Clusters;
use super::{AssociationLookup, BuildError, Clock, CredentialService, CredentialSource, Handle, Inner};
use super::{PodCheck, ServiceConfig, TokenVerification, renewal};
use crate::cache::{CacheConfig, CredentialCache, Serving};
use crate::cluster::Cluster;
use crate::sync::{AtomicU64, Mutex};

/// Builds a [`CredentialService`].
#[must_use]
pub struct Builder {
    source: Box<dyn CredentialSource>,
    clusters: Vec<(Cluster, TokenVerification)>,
    lookup: Option<Box<dyn AssociationLookup>>,
    pods: Option<Box<dyn PodCheck>>,
    config: ServiceConfig,
    clock: Clock,
}

impl Builder {
    /// Adds a cluster, and the verification of its tokens: with the keys of one or several [issuers](super::Issuer),
    /// or by the upstream. A service with several clusters finds the cluster of a token by its issuer.
    pub fn cluster(mut self, cluster: Cluster, verification: impl Into<TokenVerification>) -> Self {
        self.clusters.push((cluster, verification.into()));
        self
    }

    /// Sets the association lookup. Without it, the source must know the role of each service account.
    pub fn associations(self, lookup: impl AssociationLookup) -> Self {
        Self { lookup: Some(Box::new(lookup)), ..self }
    }

    /// Sets the check of pods. Without it, a pod gets credentials until its token expires.
    pub fn pods(self, check: impl PodCheck) -> Self {
        Self { pods: Some(Box::new(check)), ..self }
    }

    /// Sets durations and limits.
    pub fn config(self, config: ServiceConfig) -> Self {
        Self { config, ..self }
    }

    /// Sets the clock.
    #[doc(hidden)]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Starts the service on the current tokio runtime. That runtime and the runtimes of requests need timers.
    ///
    /// # Errors
    /// [`BuildError`] if a setting is missing or contradicts another one.
    pub fn build(self) -> Result<CredentialService, BuildError> {
        let Self { source, clusters, lookup, pods, config, clock } = self;
        if clusters.is_empty() && lookup.is_none() {
            return Err(BuildError::NoCluster);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let clusters = Clusters::new(clusters, lookup.is_some())?;
        let changes = Arc::new(AtomicU64::new(0));
        clusters.start(&clock, &config, &changes);
        let cache = CredentialCache::new(CacheConfig {
            capacity: config.capacity,
            serving: Serving { margin: config.margin, fresh_percent: config.fresh_percent },
            remember_tokens: config.renew && config.capacity > 0,
        });
        let upstream = Upstream::new(&config, clock.clone());
        let inner = Inner {
            config,
            clock,
            source,
            lookup,
            pods,
            clusters: ArcSwap::from_pointee(clusters),
            cache,
            upstream,
            changes,
            forgotten_at: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
        };
        let (alive, running) = watch::channel(());
        let (inner, tasks) = (Arc::new(inner), Mutex::new(JoinSet::new()));
        let handle = Arc::new(Handle { inner, tasks, runtime, running });
        handle.spawn(renewal::follow(Arc::downgrade(&handle), handle.inner.clock.clone(), alive));
        Ok(CredentialService(handle))
    }
}

impl CredentialService {
    /// Returns a builder of a service with credentials from `source`.
    pub fn builder(source: impl CredentialSource) -> Builder {
        Builder {
            source: Box::new(source),
            clusters: Vec::new(),
            lookup: None,
            pods: None,
            config: ServiceConfig::default(),
            clock: Clock::default(),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("clusters", &self.clusters)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

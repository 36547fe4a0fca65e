//! Verification of pod tokens: with configured keys, with discovered keys, or by the upstream.

mod discovery;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use self::discovery::KeyDiscovery;
use super::{BuildError, Clock, CredentialError, Issuer, ServiceConfig};
use crate::cluster::Cluster;
use crate::error::ErrorCode;
use crate::identity::ClusterName;
use crate::sync::AtomicU64;
use crate::token::{PodToken, TokenError, VerifiedToken};

/// The verification of the pod tokens of a cluster.
///
/// A cluster that changes its issuer has two issuers for a while: tokens of the old one stay valid until they expire
/// (Kubernetes, *Configure Service Accounts for Pods*, service account issuer). A token is verified only with the keys
/// of the issuer in its claims.
///
/// ```
/// use pod_identity_core::service::{Issuer, TokenVerification};
///
/// let old = Issuer::file("https://oidc.example.com/old", "/etc/pod-identity/old.json");
/// let new = Issuer::file("https://oidc.example.com/new", "/etc/pod-identity/new.json");
/// let with_keys = TokenVerification::from(vec![old, new]);
/// let by_upstream = TokenVerification::upstream();
/// ```
#[derive(Debug, Clone)]
pub struct TokenVerification(Mode);

#[derive(Debug, Clone)]
enum Mode {
    Issuers(Vec<Issuer>),
    Discovered(Arc<KeyDiscovery>),
    Upstream,
}

impl TokenVerification {
    /// The upstream verifies tokens. A token that it has not accepted yet shares no call and no credentials with other
    /// tokens. The [`CredentialSource`](super::CredentialSource) must verify each token.
    pub fn upstream() -> Self {
        Self(Mode::Upstream)
    }

    /// The upstream verifies tokens, and the service discovers the issuer's keys from the first token that the
    /// upstream accepts. Discovered keys save calls. They refuse only tokens that they disprove, because the upstream
    /// may know more keys. `issuer` makes the issuer of an `iss` claim, or returns `None` if its keys cannot be
    /// fetched safely: it must accept https URLs only.
    pub fn discovered(issuer: impl Fn(&str) -> Option<Issuer> + Send + Sync + 'static) -> Self {
        Self(Mode::Discovered(Arc::new(KeyDiscovery::new(Box::new(issuer)))))
    }

    /// The keys of an issuer verify its tokens, and the upstream verifies all other tokens: those of another issuer, of
    /// an unknown key, and all tokens while there are no keys. A token that the keys disprove is refused.
    pub fn issuer_or_upstream(issuer: Issuer) -> Self {
        Self(Mode::Discovered(Arc::new(KeyDiscovery::of(issuer))))
    }

    /// Returns whether the service has keys to verify tokens with.
    pub fn has_keys(&self) -> bool {
        match &self.0 {
            Mode::Issuers(issuers) => issuers.iter().any(|issuer| issuer.keys().is_some()),
            Mode::Discovered(discovery) => {
                discovery.confirmed_issuer().is_some_and(|issuer| issuer.keys().is_some())
            }
            Mode::Upstream => false,
        }
    }
}

impl From<Issuer> for TokenVerification {
    fn from(issuer: Issuer) -> Self {
        vec![issuer].into()
    }
}

impl From<Vec<Issuer>> for TokenVerification {
    fn from(issuers: Vec<Issuer>) -> Self {
        Self(Mode::Issuers(issuers))
    }
}

/// A cluster and its verification.
#[derive(Debug)]
pub(super) struct VerifiedCluster {
    pub(super) cluster: Arc<Cluster>,
    verification: TokenVerification,
}

/// All clusters of a service.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    clusters: Vec<VerifiedCluster>,
    by_name: HashMap<ClusterName, usize>,
}

impl Clusters {
    pub(super) fn new(
        clusters: Vec<(Cluster, TokenVerification)>,
        has_associations: bool,
    ) -> Result<Self, BuildError> {
        let (mut built, several) = (Self::default(), clusters.len() > 1);
        for (cluster, verification) in clusters {
            if has_associations && !matches!(verification.0, Mode::Issuers(_)) {
                return Err(BuildError::AssociationsWithoutKeys(cluster.name));
            }
            // The tokens of several clusters are told apart by their issuers.
            if several && !matches!(verification.0, Mode::Issuers(_)) {
                return Err(BuildError::ClusterWithoutIssuer(cluster.name));
            }
            if built.by_name.insert(cluster.name.clone(), built.clusters.len()).is_some() {
                return Err(BuildError::ClusterTwice(cluster.name));
            }
            built.clusters.push(VerifiedCluster { cluster: Arc::new(cluster), verification });
        }
        Ok(built)
    }

    /// Starts to fetch keys.
    pub(super) fn start(&self, clock: &Clock, config: &ServiceConfig, changes: &Arc<AtomicU64>) {
        for cluster in &self.clusters {
            match &cluster.verification.0 {
                Mode::Issuers(issuers) => {
                    issuers.iter().for_each(|issuer| issuer.start(clock, config, changes, true));
                }
                Mode::Discovered(discovery) => discovery.start(clock, config, changes),
                Mode::Upstream => {}
            }
        }
    }

    /// Returns a cluster by its name and properties, or `None` if it was removed or changed.
    pub(super) fn find(&self, cluster: &Cluster) -> Option<&VerifiedCluster> {
        self.named(&cluster.name).ok().filter(|found| *found.cluster == *cluster)
    }

    /// Returns a cluster by its name.
    pub(super) fn named(&self, name: &ClusterName) -> Result<&VerifiedCluster, CredentialError> {
        self.by_name.get(name).and_then(|index| self.clusters.get(*index)).ok_or_else(|| {
            CredentialError::new(ErrorCode::ClusterUnknown, format!("no cluster named {name} is configured"))
        })
    }

    /// Returns the one cluster that accepts the issuer of a token.
    pub(super) fn of(&self, token: &PodToken) -> Result<&VerifiedCluster, CredentialError> {
        if let [only] = &*self.clusters {
            return Ok(only);
        }
        let issuer = token.unverified_issuer();
        let mut accepting = self.clusters.iter().filter(|cluster| cluster.verification.accepts(issuer));
        match (accepting.next(), accepting.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(CredentialError::new(
                ErrorCode::TokenIssuerWrong,
                format!("several clusters accept the issuer {issuer:?}: the request must name the cluster"),
            )),
            (None, _) if self.clusters.is_empty() => {
                Err(CredentialError::new(ErrorCode::ClusterUnknown, "no cluster is configured"))
            }
            (None, _) => {
                let expected = self.clusters.iter().flat_map(|cluster| cluster.verification.issuers());
                let expected = expected.map(|issuer| issuer.url().to_owned()).collect();
                Err(TokenError::IssuerWrong { issuer: issuer.to_owned(), expected }.into())
            }
        }
    }
}

impl VerifiedCluster {
    /// Verifies a token of the cluster's issuers. `None` means that the upstream must verify it.
    pub(super) async fn verify(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<VerifiedToken>, TokenError> {
        match &self.verification.0 {
            Mode::Issuers(issuers) => Ok(Some(of(issuers, token)?.verify(token, audience, now).await?)),
            Mode::Discovered(_) | Mode::Upstream => self.verify_now(token, audience, now),
        }
    }

    /// Verifies a token with the current keys.
    pub(super) fn verify_now(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<VerifiedToken>, TokenError> {
        match &self.verification.0 {
            Mode::Issuers(issuers) => of(issuers, token)?.verify_now(token, audience, now).map(Some),
            // A token without a pod is refused without an upstream call.
            Mode::Discovered(discovery) => {
                token.unverified_identity()?;
                discovery.verify(token, audience, now)
            }
            Mode::Upstream => token.unverified_identity().map(|_| None),
        }
    }

    /// Discovers keys with a token that the upstream has accepted.
    pub(super) fn accepted(&self, token: &PodToken, audience: &str, now: SystemTime) {
        if let Mode::Discovered(discovery) = &self.verification.0 {
            discovery.accepted(token, audience, now);
        }
    }
}

impl TokenVerification {
    fn issuers(&self) -> &[Issuer] {
        match &self.0 {
            Mode::Issuers(issuers) => issuers,
            Mode::Discovered(_) | Mode::Upstream => &[],
        }
    }

    fn accepts(&self, issuer: &str) -> bool {
        self.issuers().iter().any(|accepted| accepted.url() == issuer)
    }
}

/// Returns the issuer of the token, from a list of issuers.
fn of<'a>(issuers: &'a [Issuer], token: &PodToken) -> Result<&'a Issuer, TokenError> {
    if let [only] = issuers {
        return Ok(only);
    }
    let issuer = token.unverified_issuer();
    issuers.iter().find(|accepted| accepted.url() == issuer).ok_or_else(|| TokenError::IssuerWrong {
        issuer: issuer.to_owned(),
        expected: issuers.iter().map(|accepted| accepted.url().to_owned()).collect(),
    })
}

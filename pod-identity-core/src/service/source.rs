//! The two traits that an embedder implements.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::CredentialError;
use crate::association::{Association, AssociationTable};
use crate::cluster::Cluster;
use crate::credentials::SessionCredentials;
use crate::identity::{Node, WorkloadIdentity};
use crate::token::{PodToken, TokenError};

/// A boxed future.
#[doc(hidden)]
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The future of [`CredentialSource::issue`]. Make it with `Box::pin(async move { ... })`.
pub type IssueFuture<'a> = BoxFuture<'a, Result<SessionCredentials, CredentialError>>;

/// The future of [`AssociationLookup::association`]. Make it with `Box::pin(async move { ... })`.
pub type LookupFuture<'a> = BoxFuture<'a, Result<Option<Arc<Association>>, CredentialError>>;

/// A source of credentials: EKS Auth, STS, or a vendor's own service.
///
/// The service calls it within [`ServiceConfig::fetch_deadline`](super::ServiceConfig::fetch_deadline), in a separate
/// task, once for all concurrent requests of a pod.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use pod_identity_core::credentials::SessionCredentials;
/// use pod_identity_core::service::{CredentialError, CredentialRequest, CredentialSource, IssueFuture};
///
/// struct Vault;
///
/// impl CredentialSource for Vault {
///     fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
///         Box::pin(async move {
///             // With an association lookup each request has an association.
///             let role = request.association().map(|association| association.role.as_str());
///             if role.is_some_and(|role| role.ends_with("/sealed")) {
///                 return Err(CredentialError::unavailable("the vault is sealed"));
///             }
///             let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
///             Ok(SessionCredentials::new("ASIAEXAMPLE", "secret", "token", in_an_hour))
///         })
///     }
/// }
/// ```
pub trait CredentialSource: Send + Sync + 'static {
    /// Issues credentials for a pod.
    ///
    /// # Errors
    /// [`CredentialError`], whose code decides whether cached credentials stay in use.
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a>;
}

/// A lookup of the role of a service account.
///
/// The service calls it at each request of a pod, so a change takes effect at the next request. Associations are
/// compared by value, so each call may return a new [`Arc`]. [`AssociationTable`] implements it for associations in
/// memory.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, RwLock};
///
/// use pod_identity_core::{arn::RoleArn, association::Association, cluster::Cluster, identity::WorkloadIdentity};
/// use pod_identity_core::service::{AssociationLookup, LookupFuture};
///
/// /// Roles by namespace and service account. They can change at any time.
/// struct Roles(RwLock<HashMap<(String, String), RoleArn>>);
///
/// impl AssociationLookup for Roles {
///     fn association<'a>(&'a self, _: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a> {
///         let key = (pod.namespace.to_string(), pod.service_account.to_string());
///         let role = self.0.read().ok().and_then(|roles| roles.get(&key).cloned());
///         Box::pin(async move { Ok(role.map(|role| Arc::new(Association::for_pod(pod, role)))) })
///     }
/// }
/// ```
pub trait AssociationLookup: Send + Sync + 'static {
    /// Returns the association of the pod's service account, or `None` if it has no role. The result depends only on
    /// the cluster, the namespace and the service account.
    ///
    /// # Errors
    /// [`CredentialError`] if the store cannot be read. The service refuses the request, because the pod may have lost
    /// its role. Cached credentials stay for later requests.
    fn association<'a>(&'a self, cluster: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a>;
}

/// A check whether a pod may still have credentials, for example whether it exists.
///
/// The service calls it for each request of a verified pod that the cache does not serve at once, and before each
/// renewal. If the upstream verifies tokens, the service calls it after the upstream has accepted a token. It never
/// calls it for a token that nobody has verified. After a pod was deleted, call
/// [`CredentialService::retain_pods`](super::CredentialService::retain_pods), which drops its credentials.
pub trait PodCheck: Send + Sync + 'static {
    /// Checks a pod. `node` is the node in the token. It is `None` if the token has none, and for a token that was
    /// checked before.
    ///
    /// # Errors
    /// [`CredentialError`] if the pod gets no credentials. Its cached credentials are dropped.
    fn check<'a>(
        &'a self,
        pod: &'a WorkloadIdentity,
        node: Option<&'a Node>,
    ) -> BoxFuture<'a, Result<(), CredentialError>>;
}

impl<T: PodCheck + ?Sized> PodCheck for Arc<T> {
    fn check<'a>(
        &'a self,
        pod: &'a WorkloadIdentity,
        node: Option<&'a Node>,
    ) -> BoxFuture<'a, Result<(), CredentialError>> {
        (**self).check(pod, node)
    }
}

impl AssociationLookup for AssociationTable {
    fn association<'a>(&'a self, cluster: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a> {
        let found = self.lookup(&cluster.name, &pod.namespace, &pod.service_account);
        Box::pin(std::future::ready(Ok(found.ok().map(|(_, association)| association.clone()))))
    }
}

impl<T: CredentialSource + ?Sized> CredentialSource for Arc<T> {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        (**self).issue(request)
    }
}

impl<T: AssociationLookup + ?Sized> AssociationLookup for Arc<T> {
    fn association<'a>(&'a self, cluster: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a> {
        (**self).association(cluster, pod)
    }
}

/// A request for the credentials of a pod.
#[derive(Debug, Clone)]
pub struct CredentialRequest {
    pub(super) token: PodToken,
    pub(super) identity: Arc<WorkloadIdentity>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) association: Option<Arc<Association>>,
}

impl CredentialRequest {
    /// Makes a request, to test a source.
    ///
    /// # Errors
    /// [`TokenError`] if the token is not bound to a pod.
    pub fn new(
        token: PodToken,
        cluster: Cluster,
        association: Option<Arc<Association>>,
    ) -> Result<Self, TokenError> {
        let identity = token.unverified_identity()?.0.clone();
        Ok(Self { token, identity, cluster: Arc::new(cluster), association })
    }

    /// Returns the pod token.
    pub fn token(&self) -> &PodToken {
        &self.token
    }

    /// Returns the pod. If the upstream verifies the tokens of the cluster
    /// ([`TokenVerification::upstream`](super::TokenVerification::upstream)), these are unverified claims of the
    /// token. Then the source must verify the token before it issues credentials.
    pub fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.identity
    }

    /// Returns the cluster of the pod.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Returns the association of the pod's service account. It is `None` if the service has no [`AssociationLookup`].
    pub fn association(&self) -> Option<&Arc<Association>> {
        self.association.as_ref()
    }
}

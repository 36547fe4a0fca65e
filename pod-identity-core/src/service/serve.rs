//! The requests for credentials.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::SystemTime;

use super::credentials::Cached;
use super::key::SessionKey;
use super::{CredentialError, CredentialRequest, CredentialService, Credentials, Inner, Origin, Peer};
use crate::association::Association;
use crate::cache::{Begin, Issued, Leader, Waited, Waiter};
use crate::cluster::Cluster;
use crate::credentials::SessionCredentials;
use crate::error::ErrorCode;
use crate::identity::{Node, WorkloadIdentity};
use crate::token::{POD_IDENTITY_AUDIENCE, PodToken, TokenDigest};

/// Maximum number of attempts of a request. Each failed attempt excludes one invalid token of the identity for a
/// moment. So this is the number of outdated tokens that a pod may have during a key rotation.
pub(super) const ATTEMPTS: usize = 8;

pub(super) type ServiceLeader = Leader<SessionKey, Cached, CredentialError>;

impl CredentialService {
    /// Returns the credentials of the pod of a token. The token's only audience must be [`POD_IDENTITY_AUDIENCE`].
    /// `peer` is the address of the client, whose limits apply to unverified tokens.
    ///
    /// Dropping the future cancels nothing: the upstream call goes on and serves the next request.
    ///
    /// # Errors
    /// [`CredentialError`]. All requests that waited for the same call get the same error.
    pub async fn credentials(
        &self,
        token: &str,
        peer: impl Into<Peer>,
    ) -> Result<Credentials, CredentialError> {
        let inner = &self.0.inner;
        inner.forget_tokens_of_old_keys();
        // A known token was parsed and verified before, so its digest is enough.
        if inner.lookup.is_none()
            && let Some(entry) = inner.cache.hit(&TokenDigest::of_text(token.as_bytes()), inner.clock.now())
        {
            return Ok(Credentials { entry, origin: Origin::Cached });
        }
        if token.is_empty() {
            let message = "the request has no Authorization header";
            return Err(CredentialError::new(ErrorCode::AuthorizationMissing, message));
        }
        let token = PodToken::parse(token)?;
        let serving = tokio::time::timeout(inner.config.request_deadline, self.serve(&token, peer.into()));
        serving.await.unwrap_or_else(|_| Err(inner.upstream.not_yet(inner.config.request_deadline)))
    }

    async fn serve(&self, token: &PodToken, peer: Peer) -> Result<Credentials, CredentialError> {
        let (inner, digest) = (&self.0.inner, token.digest());
        for _ in 0..ATTEMPTS {
            // A refused token is no longer known, so it costs no verification.
            if let Some(error) = inner.cache.refusal(&digest, inner.clock.now()) {
                return Err((*error).clone());
            }
            // Read before the verification, which is valid for the keys and clusters of this moment.
            inner.forget_tokens_of_old_keys();
            let (generation, clusters) = (inner.cache.generation(), inner.clusters.load_full());
            let known = match inner.cache.known(&digest, inner.clock.now()) {
                Some(known) => {
                    inner.check_pod(&known.0, None).await?;
                    Some(known)
                }
                None => inner.verify(token).await?,
            };
            let verified = match known {
                Some((key, expires_at)) => Some((inner.current(key).await?, expires_at)),
                None => None,
            };
            // Checks whether the clusters were replaced meanwhile: a token of old keys gets no role of the new
            // associations.
            if !Arc::ptr_eq(&clusters, &inner.clusters.load()) {
                continue;
            }
            let by_upstream = verified.is_none();
            let Some(served) = self.attempt(token, verified, generation, peer).await else { continue };
            if by_upstream && let Ok(credentials) = &served {
                // The upstream has accepted the token, so its claims are true.
                let key =
                    inner.key(clusters.of(token)?.cluster.clone(), credentials.identity().clone(), None);
                inner.check_pod(&key, token.unverified_node()?.as_ref()).await?;
            }
            return served;
        }
        Err(cancelled_repeatedly())
    }

    /// Serves from the cache, waits for a flight, or leads one. `None` means that the request must begin again.
    pub(super) async fn attempt(
        &self,
        token: &PodToken,
        verified: Option<(SessionKey, SystemTime)>,
        generation: u64,
        peer: Peer,
    ) -> Option<Result<Credentials, CredentialError>> {
        let inner = &self.0.inner;
        let key = verified.as_ref().map(|(key, _)| key.clone());
        let served = |entry, origin| Some(Ok(Credentials { entry, origin }));
        let (waiter, origin) = match inner.cache.begin(token, verified, generation, inner.clock.now()) {
            Begin::Hit(entry) => return served(entry, Origin::Cached),
            Begin::Stale(entry) => return served(entry, Origin::Stale),
            Begin::Refused(error) => return Some(Err((*error).clone())),
            Begin::Wait(waiter) => (waiter, Origin::Shared),
            Begin::Lead(leader, waiter) => {
                self.fetch(leader, peer).await;
                (waiter, Origin::Fetched)
            }
        };
        match inner.wait(waiter, key.as_ref()).await {
            Waited::Value(entry) => served(entry, origin),
            Waited::Stale(entry) => served(entry, Origin::Stale),
            Waited::Refused(error) => Some(Err((*error).clone())),
            Waited::Again => None,
        }
    }

    /// Starts the upstream call as a separate task, so that a client that hangs up does not cancel it. Without a cache
    /// no other request shares the call, so it ends with its request.
    async fn fetch(&self, leader: ServiceLeader, peer: Peer) {
        let inner = self.0.inner.clone();
        let request = match inner.request(&leader) {
            Ok(request) => request,
            Err(error) => return drop(leader.complete(inner.clock.now(), Err(error))),
        };
        let queued = match inner.upstream.enqueue(peer, leader.identity().is_some()) {
            Ok(queued) => queued,
            Err(error) => return drop(leader.complete(inner.clock.now(), Err(error))),
        };
        let without_cache = inner.config.capacity == 0;
        if without_cache && let Some(key) = leader.identity() {
            inner.cache.forget(key);
        }
        let begun = inner.invalidations();
        let call = {
            let inner = inner.clone();
            async move {
                let (issued, credit_hold) = inner.upstream.call(queued, || inner.issue(&request)).await;
                inner.complete(leader, &request, begun, issued);
                credit_hold
            }
        };
        if !without_cache {
            return self.0.spawn(async move { inner.upstream.hold_credit(call.await).await });
        }
        let credit_hold = call.await;
        if credit_hold.is_some() {
            self.0.spawn(async move { inner.upstream.hold_credit(credit_hold).await });
        }
    }
}

impl Inner {
    /// Forgets all known tokens after a change of keys, because a token of a withdrawn key must not stay known.
    fn forget_tokens_of_old_keys(&self) {
        let changes = self.changes.load(Ordering::Acquire);
        if self.forgotten_at.load(Ordering::Acquire) < changes {
            // Concurrent requests may forget the tokens at the same time. Each waits until the tokens are forgotten.
            self.cache.forget_tokens();
            self.forgotten_at.fetch_max(changes, Ordering::AcqRel);
        }
    }

    /// Calls the source. A panic of the source becomes an error, because the source is the embedder's code.
    pub(super) async fn issue(
        &self,
        request: &CredentialRequest,
    ) -> Result<SessionCredentials, CredentialError> {
        let mut call = pin!(async { self.source.issue(request).await });
        poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))).unwrap_or_else(|_| {
                let pod = request.identity();
                tracing::error!(pod = %pod.pod.name, namespace = %pod.namespace, "credential source panicked");
                Poll::Ready(Err(CredentialError::new(ErrorCode::Internal, "the credential source panicked")))
            })
        })
        .await
    }

    /// Waits for a lookup, with the deadline of a request.
    pub(super) async fn in_time<T>(
        &self,
        looking_up: impl Future<Output = Result<T, CredentialError>>,
    ) -> Result<T, CredentialError> {
        let deadline = self.config.request_deadline;
        tokio::time::timeout(deadline, looking_up).await.unwrap_or_else(|_| {
            let seconds = deadline.as_secs_f32();
            Err(CredentialError::unavailable(format!("the association lookup took longer than {seconds} s")))
        })
    }

    /// Returns the number of calls of `invalidate`.
    pub(super) fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Acquire)
    }

    /// Verifies a token. `None` means that the upstream verifies it.
    async fn verify(&self, token: &PodToken) -> Result<Option<(SessionKey, SystemTime)>, CredentialError> {
        let clusters = self.clusters.load_full();
        let cluster = clusters.of(token)?;
        let verified = cluster.verify(token, POD_IDENTITY_AUDIENCE, self.clock.now().wall).await?;
        let Some(token) = verified else { return Ok(None) };
        let key = self.key(cluster.cluster.clone(), token.identity, None);
        self.check_pod(&key, token.node.as_ref()).await?;
        Ok(Some((key, token.expires_at)))
    }

    /// Checks a verified pod. Drops the credentials of a pod that is refused.
    pub(super) async fn check_pod(
        &self,
        key: &SessionKey,
        node: Option<&Node>,
    ) -> Result<(), CredentialError> {
        let Some(pods) = &self.pods else { return Ok(()) };
        let checked = pods.check(key.identity(), node).await;
        if checked.is_err() {
            self.cache.forget(key);
        }
        checked
    }

    pub(super) fn key(
        &self,
        cluster: Arc<Cluster>,
        identity: Arc<WorkloadIdentity>,
        association: Option<Arc<Association>>,
    ) -> SessionKey {
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let serial = if self.config.capacity == 0 { SERIAL.fetch_add(1, Ordering::Relaxed) } else { 0 };
        SessionKey::new(cluster, identity, association, serial)
    }

    /// Returns the key with the current association. Drops credentials of another association.
    pub(super) async fn current(&self, key: SessionKey) -> Result<SessionKey, CredentialError> {
        let current = self.with_association(&key).await;
        let gone = match &current {
            Ok(current) => *current != key,
            Err(error) => error.code() == ErrorCode::AssociationNotFound,
        };
        if gone {
            self.cache.forget(&key);
        }
        current
    }

    /// Returns the key with the current association.
    pub(super) async fn with_association(&self, key: &SessionKey) -> Result<SessionKey, CredentialError> {
        let association = self.association(key.cluster(), key.identity()).await?;
        if association.as_ref() == key.association() {
            return Ok(key.clone());
        }
        Ok(self.key(key.cluster().clone(), key.identity().clone(), association))
    }

    /// Finds the association of a pod. Returns `None` if the service has no lookup.
    pub(super) async fn association(
        &self,
        cluster: &Cluster,
        identity: &WorkloadIdentity,
    ) -> Result<Option<Arc<Association>>, CredentialError> {
        let Some(lookup) = &self.lookup else { return Ok(None) };
        match lookup.association(cluster, identity).await? {
            Some(association) => Ok(Some(association)),
            None => {
                let (cluster, namespace, service_account) =
                    (&cluster.name, &identity.namespace, &identity.service_account);
                let message = format!(
                    "cluster {cluster} has no association for service account {service_account} in namespace {namespace}"
                );
                Err(CredentialError::new(ErrorCode::AssociationNotFound, message))
            }
        }
    }

    /// Waits for a flight. A request with stale credentials in the cache waits only
    /// [`ServiceConfig::stale_after`](super::ServiceConfig::stale_after).
    async fn wait(
        &self,
        waiter: Waiter<Cached, CredentialError>,
        key: Option<&SessionKey>,
    ) -> Waited<Cached, CredentialError> {
        let mut waiting = pin!(waiter.wait());
        if let Ok(waited) = tokio::time::timeout(self.config.stale_after, &mut waiting).await {
            return waited;
        }
        // Read after the wait: if the upstream has refused meanwhile, the refusal is the result.
        match key.and_then(|key| self.cache.read(key, self.clock.now())) {
            Some(entry) => Waited::Stale(entry),
            None => waiting.await,
        }
    }

    /// Returns the request for the source.
    pub(super) fn request(&self, leader: &ServiceLeader) -> Result<CredentialRequest, CredentialError> {
        let token = leader.token().clone();
        if let Some(key) = leader.identity() {
            let (identity, cluster) = (key.identity().clone(), key.cluster().clone());
            return Ok(CredentialRequest {
                token,
                identity,
                cluster,
                association: key.association().cloned(),
            });
        }
        let cluster = self.clusters.load().of(&token)?.cluster.clone();
        let (identity, _) = token.unverified_identity()?;
        let identity = identity.clone();
        Ok(CredentialRequest { token, identity, cluster, association: None })
    }

    /// Completes a flight with the response of the source. Returns the error for the waiters. `begun` is the number of
    /// invalidations at the start of the call.
    pub(super) fn complete(
        &self,
        leader: ServiceLeader,
        request: &CredentialRequest,
        begun: u64,
        issued: Result<SessionCredentials, CredentialError>,
    ) -> Option<Arc<CredentialError>> {
        let (now, accepted) = (self.clock.now(), issued.is_ok());
        let unverified = leader.identity().is_none();
        let response = issued.and_then(|credentials| {
            // The token's claims are true, because keys verified it before or the upstream has accepted it now.
            let (identity, token_expires_at) = request.token.unverified_identity()?;
            if let Err(missing) = credentials.check() {
                let message = format!("the upstream issued incomplete credentials: {missing}");
                return Err(CredentialError::new(ErrorCode::Internal, message));
            }
            if !credentials.is_writable() {
                let message = "the upstream issued credentials that expire after the year 9999";
                return Err(CredentialError::new(ErrorCode::Internal, message));
            }
            let owner = identity.clone();
            let identity = match leader.identity() {
                Some(key) if key.identity() == identity => key.clone(),
                _ => self.key(request.cluster.clone(), identity.clone(), request.association.clone()),
            };
            Ok(Issued { identity, token_expires_at, value: Cached::new(credentials, owner) })
        });
        // The upstream may not know the key yet that verified the token here.
        let response = response.map_err(|error| match error.code() {
            ErrorCode::TokenKeyUnknown if leader.identity().is_some() => error.keeps_credentials(),
            _ => error,
        });
        let identity = response.as_ref().ok().map(|issued| issued.identity.clone());
        let error = leader.complete(now, response);
        // The flight of an unverified token has no identity, so an invalidation meanwhile did not find it.
        if let Some(identity) = identity.filter(|_| unverified && begun != self.invalidations()) {
            self.cache.forget(&identity);
        }
        if accepted && let Some(cluster) = self.clusters.load().find(&request.cluster) {
            cluster.accepted(&request.token, POD_IDENTITY_AUDIENCE, now.wall);
        }
        error
    }
}

pub(super) fn cancelled_repeatedly() -> CredentialError {
    CredentialError::unavailable("the upstream call was cancelled several times")
}

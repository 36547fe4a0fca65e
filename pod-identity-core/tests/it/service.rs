//! The credential service with an embedder's view: real tasks and tokens, a manual clock, no network.
//!
//! tokio's time is paused: it advances to the next timer when every task waits. So a test of hours takes a moment.

mod associations;
mod calls;
mod clusters;
mod discovered;
mod errors;
mod keys;
mod lifecycle;
mod limits;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pod_identity_core::association::Association;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::{
    BoxFuture, Builder, Clock, ClockControl, CredentialError, CredentialRequest, CredentialService,
    CredentialSource, Credentials, Issuer, Origin, Peer,
};
use pod_identity_core::token::KeySet;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::signing::{Key, jwks};

const ISSUER: &str = "https://oidc.pod-identity.test/demo";
const NOW: u64 = 1_795_327_200;
const SECRET: &str = "c2VjcmV0LWFjY2Vzcy1rZXk";
const SESSION: &str = "c2Vzc2lvbi10b2tlbg";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

type Issued = Result<SessionCredentials, CredentialError>;

/// The response of the upstream to a call.
#[derive(Clone)]
enum Upstream {
    Issues,
    Fails(CredentialError),
    /// Issues credentials when the test adds a permit.
    Waits(Arc<Semaphore>),
    Panics,
}

/// A source that counts calls.
struct Source {
    clock: Clock,
    upstream: Mutex<Upstream>,
    lifetime: Mutex<Duration>,
    calls: Mutex<Vec<CredentialRequest>>,
    /// Number of calls in progress.
    in_progress: Arc<AtomicUsize>,
}

struct InProgress(Arc<AtomicUsize>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CredentialSource for Source {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> BoxFuture<'a, Issued> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(request.clone());
            calls.len()
        };
        self.in_progress.fetch_add(1, Ordering::SeqCst);
        let guard = InProgress(self.in_progress.clone());
        let (upstream, lifetime) = (self.upstream.lock().unwrap().clone(), *self.lifetime.lock().unwrap());
        Box::pin(async move {
            let _ends = guard;
            match upstream {
                Upstream::Issues => {}
                Upstream::Fails(error) => return Err(error),
                Upstream::Waits(permits) => drop(permits.acquire().await.unwrap()),
                Upstream::Panics => panic!("the source panics for this test"),
            }
            let expires_at = self.clock.now().wall + lifetime;
            Ok(SessionCredentials::new(format!("ASIA{number}"), SECRET, SESSION, expires_at))
        })
    }
}

/// A clock, a cluster's key and an upstream.
struct World {
    control: ClockControl,
    clock: Clock,
    key: Key,
    source: Arc<Source>,
}

impl World {
    fn new() -> Self {
        let (control, clock) = Clock::manual(at(NOW));
        let source = Source {
            clock: clock.clone(),
            upstream: Mutex::new(Upstream::Issues),
            lifetime: Mutex::new(HOUR),
            calls: Mutex::default(),
            in_progress: Arc::default(),
        };
        Self { control, clock, key: Key::p256("a"), source: Arc::new(source) }
    }

    /// Returns a builder with the source and the clock.
    fn builder(&self) -> Builder {
        CredentialService::builder(self.source.clone()).clock(self.clock.clone())
    }

    fn issuer(&self) -> Issuer {
        Issuer::fixed(ISSUER, key_set(&[&self.key]))
    }

    /// Returns a service that verifies tokens with the key.
    fn service(&self) -> CredentialService {
        self.builder().cluster(cluster("demo"), self.issuer()).build().unwrap()
    }

    fn upstream(&self, upstream: Upstream) {
        *self.source.upstream.lock().unwrap() = upstream;
    }

    /// Makes the upstream wait.
    fn block(&self) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        self.upstream(Upstream::Waits(permits.clone()));
        permits
    }

    fn calls(&self) -> usize {
        self.source.calls.lock().unwrap().len()
    }

    fn call(&self, index: usize) -> CredentialRequest {
        self.source.calls.lock().unwrap()[index].clone()
    }

    /// Makes a token of a pod. A pod has many tokens, one for each number.
    fn token(&self, pod: u32, number: u32) -> String {
        token(&self.key, ISSUER, pod, number)
    }

    /// Advances the time, one second at a time, and runs the tasks of each second.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.control.advance(Duration::from_secs(1));
            settle().await;
        }
    }

    /// Advances the time in one step, as on a machine that slept.
    async fn jump(&self, time: Duration) {
        self.control.advance(time);
        settle().await;
    }
}

/// Lets every task run until it waits.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn cluster(name: &str) -> Cluster {
    Cluster::new(name.parse().unwrap())
}

fn key_set(keys: &[&Key]) -> KeySet {
    KeySet::from_jwks(&document(keys)).unwrap()
}

/// Returns a JSON Web Key Set.
fn document(keys: &[&Key]) -> Vec<u8> {
    jwks(&keys.iter().map(|key| key.jwk()).collect::<Vec<_>>())
}

/// Makes a token of pod `cart-<pod>` of service account `cart` in namespace `shop`, for a day.
fn token(key: &Key, issuer: &str, pod: u32, number: u32) -> String {
    token_for(key, issuer, "pods.eks.amazonaws.com", pod, number)
}

fn token_for(key: &Key, issuer: &str, audience: &str, pod: u32, number: u32) -> String {
    let claims = json!({
        "aud": [audience],
        "exp": NOW + 86_400,
        "iat": NOW,
        "iss": issuer,
        "jti": format!("token-{number}"),
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "5b7d3f5e-0000-4000-8000-000000000003"},
            "pod": {"name": format!("cart-{pod}"), "uid": format!("9e3a3f5e-{pod}")},
            "serviceaccount": {"name": "cart", "uid": "2f1c3f5e-0000-4000-8000-000000000001"},
        },
        "nbf": NOW,
        "sub": "system:serviceaccount:shop:cart",
    });
    key.sign(&key.header(), &claims)
}

fn association(role: &str) -> Arc<Association> {
    let role = format!("arn:aws:iam::111122223333:role/{role}").parse().unwrap();
    let id = "a-0123456789abcdefg".parse().unwrap();
    Arc::new(Association::new(id, "shop".parse().unwrap(), "cart".parse().unwrap(), role))
}

fn pod(number: u8) -> Peer {
    std::net::IpAddr::from([192, 0, 2, number]).into()
}

/// Returns the number of the call that issued the credentials, and their origin.
fn served(credentials: Result<Credentials, CredentialError>) -> (String, Origin) {
    let credentials = credentials.unwrap();
    (credentials.session().access_key_id().to_owned(), credentials.origin())
}

fn code(credentials: Result<Credentials, CredentialError>) -> ErrorCode {
    credentials.unwrap_err().code()
}

//! The credential service as an embedder uses it: real tasks and tokens, a clock moved by hand, no network.
//!
//! tokio's time is paused: it jumps to the next timer when every task waits. So a test of hours takes a moment.

mod associations;
mod calls;
mod clusters;
mod errors;
mod keys;
mod learned;
mod life;
mod limits;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pod_identity_core::association::Association;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::{
    BoxFuture, Builder, Clock, CredentialError, CredentialRequest, CredentialService, CredentialSource,
    Credentials, Hand, Issuer, Origin, Peer,
};
use pod_identity_core::token::KeySet;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::minting::{Key, jwks};

const ISSUER: &str = "https://oidc.pod-identity.test/demo";
const NOW: u64 = 1_795_327_200;
const SECRET: &str = "c2VjcmV0LWFjY2Vzcy1rZXk";
const SESSION: &str = "c2Vzc2lvbi10b2tlbg";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

type Issued = Result<SessionCredentials, CredentialError>;

/// What the upstream does with a call.
#[derive(Clone)]
enum Upstream {
    Issues,
    Fails(CredentialError),
    /// Issues once somebody adds a permit.
    Waits(Arc<Semaphore>),
    Panics,
}

/// A source that counts.
struct Source {
    clock: Clock,
    upstream: Mutex<Upstream>,
    life: Mutex<Duration>,
    calls: Mutex<Vec<CredentialRequest>>,
    /// Calls that have not ended.
    under_way: Arc<AtomicUsize>,
}

struct Ends(Arc<AtomicUsize>);

impl Drop for Ends {
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
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let ends = Ends(self.under_way.clone());
        let (upstream, life) = (self.upstream.lock().unwrap().clone(), *self.life.lock().unwrap());
        Box::pin(async move {
            let _ends = ends;
            match upstream {
                Upstream::Issues => {}
                Upstream::Fails(error) => return Err(error),
                Upstream::Waits(gate) => drop(gate.acquire().await.unwrap()),
                Upstream::Panics => panic!("the source of a test panics, as it should"),
            }
            let expires_at = self.clock.now().wall + life;
            Ok(SessionCredentials::new(format!("ASIA{number}"), SECRET, SESSION, expires_at))
        })
    }
}

/// A clock, a cluster's key and an upstream.
struct World {
    hand: Hand,
    clock: Clock,
    key: Key,
    source: Arc<Source>,
}

impl World {
    fn new() -> Self {
        let (hand, clock) = Clock::by_hand(at(NOW));
        let source = Source {
            clock: clock.clone(),
            upstream: Mutex::new(Upstream::Issues),
            life: Mutex::new(HOUR),
            calls: Mutex::default(),
            under_way: Arc::default(),
        };
        Self { hand, clock, key: Key::p256("a"), source: Arc::new(source) }
    }

    /// A builder with the source and the clock.
    fn builder(&self) -> Builder {
        CredentialService::builder(self.source.clone()).clock(self.clock.clone())
    }

    fn issuer(&self) -> Issuer {
        Issuer::fixed(ISSUER, key_set(&[&self.key]))
    }

    /// A service whose tokens are verified with the key.
    fn service(&self) -> CredentialService {
        self.builder().cluster(cluster("demo"), self.issuer()).build().unwrap()
    }

    fn upstream(&self, upstream: Upstream) {
        *self.source.upstream.lock().unwrap() = upstream;
    }

    /// Makes the upstream wait.
    fn gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.upstream(Upstream::Waits(gate.clone()));
        gate
    }

    fn calls(&self) -> usize {
        self.source.calls.lock().unwrap().len()
    }

    fn call(&self, index: usize) -> CredentialRequest {
        self.source.calls.lock().unwrap()[index].clone()
    }

    /// A token of a pod; tokens of other numbers are other tokens of the same pod.
    fn token(&self, pod: u32, number: u32) -> String {
        token(&self.key, ISSUER, pod, number)
    }

    /// Lets time pass, a second at a time, and the tasks of each second run.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.hand.advance(Duration::from_secs(1));
            settle().await;
        }
    }

    /// Lets time pass in one step, as for a machine that slept.
    async fn jump(&self, time: Duration) {
        self.hand.advance(time);
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

/// A JSON Web Key Set.
fn document(keys: &[&Key]) -> Vec<u8> {
    jwks(&keys.iter().map(|key| key.jwk()).collect::<Vec<_>>())
}

/// A token of pod `cart-<pod>` of service account `cart` in namespace `shop`, for a day.
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

/// What a request got: the number of the call that issued it, and how it was obtained.
fn served(credentials: Result<Credentials, CredentialError>) -> (String, Origin) {
    let credentials = credentials.unwrap();
    (credentials.session().access_key_id().to_owned(), credentials.origin())
}

fn code(credentials: Result<Credentials, CredentialError>) -> ErrorCode {
    credentials.unwrap_err().code()
}

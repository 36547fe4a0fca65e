//! An agent in this process, and a fake EKS Auth with configurable behaviour.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig};
use pod_identity_local::fixture::Fixture;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload};
use pod_identity_runtime::clock;
use pod_identity_runtime::http::answer;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::json;
use testing::wire::{Answer, ask};
use tokio::sync::Notify;

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl FakeEksAuth {
    /// Returns the number of calls.
    pub(crate) fn calls(&self) -> usize {
        self.authorization.lock().unwrap().len()
    }
}

/// The behaviour of a fake EKS Auth.
pub(crate) enum Behaviour {
    /// Never responds.
    Hangs,
    /// Responds with this status, this error type and this body.
    Responds(u16, &'static str, String),
    /// Responds with credentials after its release.
    WaitsForRelease,
    /// Responds like `Responds` after its release.
    RespondsAfterRelease(u16, &'static str, String),
    /// Responds as pod-identity-auth with this status, this error type and this code, and requests a pause of seven
    /// seconds.
    RespondsAsPodIdentityAuth(u16, &'static str, &'static str),
    /// Responds first with this status and this `Retry-After`, then with status 200 and this body.
    RespondsFirstWith(u16, &'static str, String),
}

/// A fake EKS Auth.
pub(crate) struct FakeEksAuth {
    pub(crate) address: SocketAddr,
    pub(crate) arrived: Arc<Notify>,
    pub(crate) release: Arc<Notify>,
    pub(crate) authorization: Arc<Mutex<Vec<String>>>,
}

struct FakeEksAuthHandler {
    behaviour: Behaviour,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
    authorization: Arc<Mutex<Vec<String>>>,
}

impl Handler for FakeEksAuthHandler {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let sent = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let calls = {
            let mut authorization = self.authorization.lock().unwrap();
            authorization.extend(sent);
            authorization.len()
        };
        self.arrived.notify_one();
        let mut headers = Vec::new();
        let (status, kind, body) = match &self.behaviour {
            Behaviour::Hangs => std::future::pending().await,
            Behaviour::Responds(status, kind, body) => (*status, *kind, body.clone()),
            Behaviour::WaitsForRelease => {
                self.release.notified().await;
                (200, "", granted("default", "app"))
            }
            Behaviour::RespondsAfterRelease(status, kind, body) => {
                self.release.notified().await;
                (*status, *kind, body.clone())
            }
            Behaviour::RespondsAsPodIdentityAuth(status, kind, code) => {
                headers.extend([("x-pod-identity-error", *code), ("retry-after", "7")]);
                (
                    *status,
                    *kind,
                    json!({"message": format!("message of pod-identity-auth [{code}]")}).to_string(),
                )
            }
            Behaviour::RespondsFirstWith(status, retry_after, _) if calls == 1 => {
                headers.push(("retry-after", *retry_after));
                (*status, "", "{}".to_owned())
            }
            Behaviour::RespondsFirstWith(_, _, body) => (200, "", body.clone()),
        };
        let mut response = answer(StatusCode::from_u16(status).unwrap(), "application/json", body.into());
        if !kind.is_empty() {
            response.headers_mut().insert("x-amzn-errortype", kind.parse().unwrap());
        }
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }
}

pub(crate) async fn fake_eks_auth(behaviour: Behaviour) -> FakeEksAuth {
    let listener = Listener::bind(SocketAddr::new(LOOPBACK, 0)).await.unwrap();
    let address = listener.address().unwrap();
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let authorization = Arc::new(Mutex::new(vec![]));
    let fake = FakeEksAuth {
        address,
        arrived: arrived.clone(),
        release: release.clone(),
        authorization: authorization.clone(),
    };
    let handler = FakeEksAuthHandler { behaviour, arrived, release, authorization };
    tokio::spawn(listener.serve(Arc::new(handler), Shutdown::never()));
    fake
}

/// Returns a successful response of EKS Auth for a service account.
pub(crate) fn granted(namespace: &str, service_account: &str) -> String {
    json!({
        "subject": {"namespace": namespace, "serviceAccount": service_account},
        "audience": "pods.eks.amazonaws.com",
        "podIdentityAssociation": {"associationArn": "arn:aws:eks:::a", "associationId": "a-1"},
        "assumedRoleUser": {
            "arn": "arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app",
            "assumeRoleId": "AROA:eks-laptop-app",
        },
        "credentials": {
            "accessKeyId": "ASIAFAKE", "secretAccessKey": "fake-secret", "sessionToken": "fake-session",
            "expiration": 4_102_444_800_u64,
        },
    })
    .to_string()
}

/// Binds an agent with token authentication at this EKS Auth. It needs no AWS configuration.
pub(crate) async fn agent(eks_auth: SocketAddr, hosts: &[IpAddr]) -> App {
    App::bind(config(eks_auth, hosts)).await.unwrap()
}

/// Returns the configuration of an agent with token authentication at this EKS Auth.
pub(crate) fn config(eks_auth: SocketAddr, hosts: &[IpAddr]) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "agents.own.token").unwrap();
    let eks_auth = EksAuthConfig {
        endpoint: Some(format!("http://{eks_auth}")),
        agent_auth: AgentAuth::Token { file: file.into_temp_path().keep().unwrap() },
        outbound: Outbound::default(),
        sdk_config: None,
    };
    let listen = hosts.iter().map(|host| SocketAddr::new(*host, 0)).collect();
    Config {
        admin: vec![SocketAddr::new(LOOPBACK, 0)],
        ..Config::new("laptop".parse().unwrap(), listen, eks_auth)
    }
}

/// Starts an agent on 127.0.0.1. Returns its address.
pub(crate) async fn serving(eks_auth: SocketAddr) -> SocketAddr {
    let agent = agent(eks_auth, &[LOOPBACK]).await;
    let address = agent.addresses()[0];
    tokio::spawn(agent.run(Shutdown::never()));
    address
}

/// Minimum time between two fetches of an issuer's keys.
pub(crate) fn refetch_interval() -> std::time::Duration {
    pod_identity_core::service::ServiceConfig::default().key_refetch
}

pub(crate) async fn services() -> LocalServices {
    LocalServices::start(Fixture::from_yaml(SAMPLE).unwrap(), LocalConfig::default()).await.unwrap()
}

/// Returns the address of the local services' agent.
pub(crate) fn address(services: &LocalServices) -> SocketAddr {
    services.credentials_url().parse::<http::Uri>().unwrap().authority().unwrap().as_str().parse().unwrap()
}

pub(crate) fn pod() -> Workload {
    Workload::new("default".parse().unwrap(), "app".parse().unwrap(), "app-1".parse().unwrap()).unwrap()
}

/// Returns a token of default/app by an unknown issuer, for tests with a fake EKS Auth.
pub(crate) fn token() -> String {
    let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
    let minute = std::time::Duration::from_secs(60);
    issuer.mint(&pod().token_request(clock::now(), minute)).unwrap()
}

pub(crate) async fn credentials(agent: SocketAddr, token: &str) -> Answer {
    ask(agent, "GET /v1/credentials", &[("Authorization", token)], b"").await.unwrap()
}

/// Asserts the members and headers that SDKs read from an error response. Returns its code.
pub(crate) fn check_error(answer: &Answer) -> String {
    let body = answer.json();
    let text = |member: &str| body[member].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    assert_eq!((text("code"), text("message")), (text("Code"), text("Message")));
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let code: pod_identity_core::error::ErrorCode = text("code").parse().unwrap();
    assert_eq!(answer.header("retry-after").is_some(), code.is_retryable(), "{answer:?}");
    assert!(text("message").ends_with(&format!("[{code}]")), "{body}");
    text("code")
}

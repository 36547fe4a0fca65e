//! An auth service in this process, with the issuer and the STS of `pod-identity-local`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_auth::app::App;
use pod_identity_auth::config::{AgentAuthConfig, Certificate, Config, SessionNaming, default_service};
use pod_identity_core::service::ServiceConfig;
use pod_identity_local::fixture::Fixture;
use pod_identity_local::issuer::TokenRequest;
use pod_identity_local::services::{AuthPrincipal, LocalConfig, LocalServices, Workload, write_private};
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tls::CertificateFiles;
use serde_json::json;
use testing::wire::{Answer, ask};

pub(crate) const FIXTURE: &str = include_str!("fixture.yaml");
pub(crate) const AUTH_ROLE: (&str, &str) = ("ASIABROKER0000000000", "broker-secret-broker-secret");
pub(crate) const USER: (&str, &str) = ("AKIAUSER000000000000", "user-secret-user-secret");
pub(crate) const TAGGED: (&str, &str) = ("ASIATAGGED0000000000", "tagged-secret-tagged-secret");
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Options of [`start_auth`].
pub(crate) struct Options {
    pub(crate) principal: (&'static str, &'static str),
    pub(crate) agent_auth: Option<AgentAuthConfig>,
    pub(crate) naming: SessionNaming,
    pub(crate) tls: Option<CertificateFiles>,
    pub(crate) sts_url: Option<String>,
    pub(crate) service: ServiceConfig,
    /// The association file. It is written if it does not exist.
    pub(crate) associations: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            principal: AUTH_ROLE,
            agent_auth: None,
            naming: SessionNaming::Random,
            tls: None,
            sts_url: None,
            service: default_service(),
            associations: None,
        }
    }
}

pub(crate) struct TestAuth {
    pub(crate) services: LocalServices,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) directory: tempfile::TempDir,
    _ender: Ender,
}

pub(crate) fn sdk(endpoint: &str, key: (&str, &str)) -> SdkConfig {
    let sleep = aws_sdk_sts::config::SharedAsyncSleep::new(Sleep);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .http_client(Outbound::default().sdk_client(Some("http://127.0.0.1")).unwrap())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            key.0, key.1, None, None, "test",
        )))
        .sleep_impl(sleep)
        .build()
}

#[derive(Debug)]
struct Sleep;

impl aws_sdk_sts::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_sts::config::Sleep {
        aws_sdk_sts::config::Sleep::new(tokio::time::sleep(duration))
    }
}

/// Returns the default settings with another capacity.
pub(crate) fn with_capacity(capacity: usize) -> ServiceConfig {
    let mut service = default_service();
    service.capacity = capacity;
    service
}

pub(crate) async fn services() -> LocalServices {
    let config = LocalConfig { principal: AuthPrincipal::IamRole, ..LocalConfig::default() };
    LocalServices::start(Fixture::from_yaml(FIXTURE).unwrap(), config).await.unwrap()
}

pub(crate) async fn start_auth(options: Options) -> TestAuth {
    start_auth_with(services().await, options).await
}

pub(crate) async fn start_auth_with(services: LocalServices, options: Options) -> TestAuth {
    testing::logs::capture();
    let directory = tempfile::tempdir().unwrap();
    let associations = options.associations.unwrap_or_else(|| directory.path().join("associations.yaml"));
    if !associations.exists() {
        write_private(&associations, &serde_json::to_string(services.associations()).unwrap()).unwrap();
    }
    let config = Config {
        admin: Some(LOOPBACK),
        agent_auth: options.agent_auth,
        tls: options.tls.map(Certificate::Files),
        session_naming: options.naming,
        service: options.service,
        ..Config::new(LOOPBACK, associations)
    };
    let sts_url = options.sts_url.unwrap_or_else(|| services.sts_url());
    let sts = pod_identity_auth::sts::client(&sdk(&sts_url, options.principal));
    let app = App::bind(config, sts).await.unwrap();
    let (ender, shutdown) = Shutdown::manual();
    let (address, admin) = (app.address().unwrap(), app.admin_address().unwrap());
    tokio::spawn(app.run(shutdown));
    TestAuth { services, address, admin, directory, _ender: ender }
}

pub(crate) fn pod(service_account: &str) -> Workload {
    let name = format!("{service_account}-1").parse().unwrap();
    Workload::new("shop".parse().unwrap(), service_account.parse().unwrap(), name).unwrap()
}

pub(crate) fn request(pod: &Workload) -> TokenRequest {
    pod.token_request(clock::now(), Duration::from_secs(600))
}

/// Returns the token request of an agent on a pod's node.
pub(crate) fn agent_request(pod: &Workload) -> TokenRequest {
    let mut agent = self::pod("eks-pod-identity-agent");
    agent.namespace = "kube-system".parse().unwrap();
    agent.node = pod.node.clone();
    TokenRequest { audiences: vec!["pod-identity-auth".to_owned()], ..request(&agent) }
}

pub(crate) fn token_mode() -> Option<AgentAuthConfig> {
    Some(AgentAuthConfig::token(["kube-system/eks-pod-identity-agent"].into_iter()).unwrap())
}

impl TestAuth {
    pub(crate) fn token(&self, pod: &Workload) -> String {
        self.services.issuer().mint(&request(pod)).unwrap()
    }

    pub(crate) async fn exchange_in(&self, cluster: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
        let line = format!("POST /clusters/{cluster}/assume-role-for-pod-identity");
        let body = json!({ "token": token }).to_string();
        ask(self.address, &line, headers, body.as_bytes()).await.unwrap()
    }

    pub(crate) async fn exchange(&self, token: &str) -> Answer {
        self.exchange_in("demo", token, &[]).await
    }

    /// Returns the session of a response as recorded by STS.
    pub(crate) fn session(&self, answer: &Answer) -> pod_identity_local::sts::SessionView {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        self.services.sts().inspect(body["credentials"]["accessKeyId"].as_str().unwrap()).unwrap()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("associations.yaml")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        ask(self.admin, &format!("GET {path}"), &[], b"").await.unwrap()
    }

    /// Waits until `/readyz` has this status. Returns its body.
    pub(crate) async fn readiness(&self, status: u16) -> String {
        testing::eventually::eventually(&format!("/readyz answers {status}"), || async {
            let answer = self.get("/readyz").await;
            (answer.status == status).then(|| answer.text())
        })
        .await
    }
}

/// Returns the error code of a response, or `ok`. Asserts that headers and body agree.
pub(crate) fn code(answer: &Answer) -> String {
    let Some(code) = answer.header("x-pod-identity-error") else { return "ok".to_owned() };
    let body = answer.json();
    assert_eq!(body["__type"].as_str(), answer.header("x-amzn-errortype"), "{answer:?}");
    assert!(body["message"].as_str().unwrap().ends_with(&format!("[{code}]")), "{body}");
    assert!(body["credentials"].is_null());
    code.to_owned()
}

/// Replaces a file atomically.
pub(crate) fn write(path: &Path, text: &str) {
    write_private(path, text).unwrap();
}

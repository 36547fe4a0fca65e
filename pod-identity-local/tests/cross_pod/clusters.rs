//! Three clusters of pods with the same names, and an agent for each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig, TokenKeys};
use pod_identity_local::fixture::Fixture;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::services::{LocalConfig, LocalServices, Workload, write_private};
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use serde_json::{Value, json};

use super::random::Random;

/// The first two have the same issuer, as with kubeadm's default.
const CLUSTERS: [(&str, &str); 3] = [
    ("east", "https://kubernetes.default.svc.cluster.local"),
    ("west", "https://kubernetes.default.svc.cluster.local"),
    ("north", "https://oidc.pod-identity.test/north"),
];
const NAMESPACES: [&str; 3] = ["shop", "bank", "kube-system"];
const SERVICE_ACCOUNTS: [&str; 3] = ["cart", "default", "shop"];
/// Lifetime of a session. An agent serves it for two seconds, because it stops 15 s before the expiry.
pub(crate) const SESSION: Duration = Duration::from_secs(17);
const LIFETIME: Duration = Duration::from_secs(3600);

/// Number of valid tokens of each pod: a client may use an older token than the newest.
const KEPT_TOKENS: usize = 16;

/// A pod with its cluster and role.
#[derive(Debug, Clone)]
pub(crate) struct TestPod {
    pub(crate) number: usize,
    pub(crate) cluster: usize,
    pub(crate) role: String,
    pub(crate) workload: Workload,
}

/// A token and the generation of the key that signed it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) generation: u64,
}

pub(crate) struct TestClusters {
    pub(crate) services: LocalServices,
    pub(crate) agents: Vec<SocketAddr>,
    pub(crate) pods: Vec<TestPod>,
    /// The last valid tokens of each pod.
    tokens: Vec<Mutex<Vec<Token>>>,
    generation: AtomicU64,
    _agents: Ender,
}

fn role(cluster: usize, namespace: &str, service_account: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{}.{namespace}.{service_account}", CLUSTERS[cluster].0)
}

fn fixture() -> Fixture {
    let trust = json!({"Statement": {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"]}});
    let mut file = json!({
        "accounts": ["111122223333"],
        "callers": [{"accessKeyId": "AKIAEKS000000000", "principal": {"service": "pods.eks.amazonaws.com"}}],
        "roles": [], "clusters": [], "associations": [],
    });
    let push = |file: &mut Value, list: &str, entry: Value| file[list].as_array_mut().unwrap().push(entry);
    for (index, (name, issuer)) in CLUSTERS.iter().enumerate() {
        push(&mut file, "clusters", json!({"name": name, "issuer": issuer}));
        for namespace in NAMESPACES {
            for service_account in SERVICE_ACCOUNTS {
                let role = role(index, namespace, service_account);
                push(&mut file, "roles", json!({"arn": role, "trust": trust}));
                push(
                    &mut file,
                    "associations",
                    json!({"clusterName": name, "namespace": namespace, "serviceAccount": service_account, "roleArn": role}),
                );
            }
        }
    }
    Fixture::from_yaml(&file.to_string()).unwrap()
}

/// Returns the same pods for every cluster. Two pods share a name, as a pod of a StatefulSet and its replacement.
fn pods() -> Vec<TestPod> {
    let mut pods = Vec::new();
    for cluster in 0..CLUSTERS.len() {
        for namespace in NAMESPACES {
            for service_account in SERVICE_ACCOUNTS {
                for name in ["web-0", "web-0", "web-1"] {
                    let workload = Workload::new(
                        namespace.parse().unwrap(),
                        service_account.parse().unwrap(),
                        name.parse().unwrap(),
                    );
                    let (number, role) = (pods.len(), role(cluster, namespace, service_account));
                    pods.push(TestPod { number, cluster, role, workload: workload.unwrap() });
                }
            }
        }
    }
    pods
}

/// Returns an SDK configuration with the key of the local agent.
fn agent_sdk(services: &LocalServices) -> SdkConfig {
    let file = std::fs::read(services.directory().join("agent-keys.yaml")).unwrap();
    let keys: Value = serde_json::from_slice(&file).unwrap();
    let text = |member: &str| keys[0][member].as_str().unwrap();
    let key = Credentials::new(text("accessKeyId"), text("secretAccessKey"), None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .http_client(Outbound::default().sdk_client(Some("http://127.0.0.1")).unwrap())
        .credentials_provider(SharedCredentialsProvider::new(key))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .build()
}

impl TestClusters {
    pub(crate) async fn build() -> Self {
        let config = LocalConfig { expire_after: Some(SESSION), ..LocalConfig::default() };
        let services = LocalServices::start(fixture(), config).await.unwrap();
        let sdk = agent_sdk(&services);
        let (ender, shutdown) = Shutdown::manual();
        let mut agents = Vec::new();
        for (number, (name, _)) in CLUSTERS.into_iter().enumerate() {
            let cluster = name.parse().unwrap();
            // Every second agent verifies tokens itself. EKS Auth verifies those of the others.
            let issuer = services.issuer_of(&cluster).unwrap();
            let keys = match number % 2 {
                0 => TokenKeys::None,
                _ => TokenKeys::Configured(vec![IssuerConfig {
                    issuer: issuer.issuer().to_owned(),
                    keys: KeyLocation::Url(issuer.jwks_uri()),
                    bearer_token_file: None,
                    outbound: Outbound::default(),
                }]),
            };
            let eks_auth = EksAuthConfig {
                endpoint: Some(services.auth_url()),
                agent_auth: AgentAuth::SigV4,
                outbound: Outbound::default(),
                sdk_config: Some(sdk.clone()),
            };
            let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
            let mut config =
                Config { keys, limits: Limits::ONE_MACHINE, ..Config::new(cluster, listen, eks_auth) };
            // Every pod and every forger has the address 127.0.0.1 and shares its permits.
            config.service.limits.hold = Duration::ZERO;
            let agent = App::bind(config).await.unwrap();
            agents.push(agent.addresses()[0]);
            tokio::spawn(agent.run(shutdown.clone()));
        }
        let pods = pods();
        let tokens = pods.iter().map(|_| Mutex::default()).collect();
        Self { services, agents, pods, tokens, generation: AtomicU64::new(0), _agents: ender }
    }

    pub(crate) fn issuer(&self, cluster: usize) -> &Issuer {
        self.services.issuer_of(&CLUSTERS[cluster].0.parse().unwrap()).unwrap()
    }

    pub(crate) fn cluster_name(&self, pod: &TestPod) -> &'static str {
        CLUSTERS[pod.cluster].0
    }

    /// Returns a new token, signed with the newest key.
    pub(crate) fn new_token(&self, pod: &TestPod) -> Token {
        // The generation is read first, so that a concurrent rotation can only make the key newer.
        let generation = self.generation.load(Ordering::SeqCst);
        let request = pod.workload.token_request(clock::now(), LIFETIME);
        Token { text: self.issuer(pod.cluster).mint(&request).unwrap(), generation }
    }

    /// Returns a token that the pod has or, one time in `new`, a new one.
    pub(crate) fn token(&self, pod: &TestPod, new: usize, random: &mut Random) -> Token {
        let mut tokens = self.tokens[pod.number].lock().unwrap();
        if tokens.is_empty() || random.one_in(new) {
            tokens.push(self.new_token(pod));
            if tokens.len() > KEPT_TOKENS {
                tokens.remove(0);
            }
        }
        random.one_of(&tokens).clone()
    }

    pub(crate) fn expired_token(&self, pod: &TestPod) -> Token {
        let now: SystemTime = clock::now();
        let request = pod.workload.token_request(now - LIFETIME, LIFETIME - Duration::from_secs(1));
        Token { text: self.issuer(pod.cluster).mint(&request).unwrap(), generation: 0 }
    }

    /// Adds a key to every issuer and withdraws the oldest of four. A change of the file makes the auth service fetch
    /// the keys now; otherwise it fetches them every 30 s.
    pub(crate) fn rotate_keys(&self) {
        let mut associations = self.services.associations().clone();
        let next = self.generation.load(Ordering::SeqCst) + 1;
        for (index, cluster) in associations.clusters.iter_mut().enumerate() {
            let issuer = self.issuer(index);
            issuer.rotate(KeyAlgorithm::Es256).unwrap();
            if let [oldest, _, _, _] = &issuer.published_keys()[..] {
                assert!(issuer.withdraw(oldest.kid()));
            }
            cluster.keys.jwks_url = Some(format!("{}?generation={next}", issuer.jwks_uri()));
        }
        self.generation.store(next, Ordering::SeqCst);
        write_private(&self.services.associations_file(), &serde_json::to_string(&associations).unwrap())
            .unwrap();
    }

    /// Returns the expected session tags of a pod.
    pub(crate) fn tags_of(&self, pod: &TestPod) -> [(&'static str, String); 5] {
        let workload = &pod.workload;
        [
            ("eks-cluster-name", self.cluster_name(pod).to_owned()),
            ("kubernetes-namespace", workload.namespace.to_string()),
            ("kubernetes-service-account", workload.service_account.to_string()),
            ("kubernetes-pod-name", workload.pod.name.to_string()),
            ("kubernetes-pod-uid", workload.pod.uid.to_string()),
        ]
    }
}

//! Three clusters full of pods with the same names, and an agent for each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, Destination, TokenKeys};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::laptop::{Laptop, Setup, Workload, write_private};
use pod_identity_local::world::World;
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use serde_json::{Value, json};

use super::random::Random;

/// The first two have one issuer, as clusters have that were set up with kubeadm's default.
const CLUSTERS: [(&str, &str); 3] = [
    ("east", "https://kubernetes.default.svc.cluster.local"),
    ("west", "https://kubernetes.default.svc.cluster.local"),
    ("north", "https://oidc.pod-identity.test/north"),
];
const NAMESPACES: [&str; 3] = ["shop", "bank", "kube-system"];
const ACCOUNTS: [&str; 3] = ["cart", "default", "shop"];
/// An agent serves a session until 15 s before its end: each of these for two seconds.
pub(crate) const SESSION: Duration = Duration::from_secs(17);
const LIFETIME: Duration = Duration::from_secs(3600);

/// A pod may be handed an older token than the newest: by a client that has not read the file again.
const KEPT_TOKENS: usize = 16;

/// A pod, and where it lives.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) number: usize,
    pub(crate) cluster: usize,
    pub(crate) role: String,
    pub(crate) workload: Workload,
}

/// A token, and the key that signed it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) generation: u64,
}

pub(crate) struct Town {
    pub(crate) laptop: Laptop,
    pub(crate) agents: Vec<SocketAddr>,
    pub(crate) pods: Vec<Resident>,
    /// The last tokens that each pod has been given, all of them valid still.
    tokens: Vec<Mutex<Vec<Token>>>,
    generation: AtomicU64,
    _agents: Ender,
}

fn role(cluster: usize, namespace: &str, account: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{}.{namespace}.{account}", CLUSTERS[cluster].0)
}

fn world() -> World {
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
            for account in ACCOUNTS {
                let role = role(index, namespace, account);
                push(&mut file, "roles", json!({"arn": role, "trust": trust}));
                push(
                    &mut file,
                    "associations",
                    json!({"clusterName": name, "namespace": namespace, "serviceAccount": account, "roleArn": role}),
                );
            }
        }
    }
    World::from_yaml(&file.to_string()).unwrap()
}

/// In every cluster the same names; of each name two pods, as of a StatefulSet's pod and the one that
/// took its place.
fn pods() -> Vec<Resident> {
    let mut pods = Vec::new();
    for cluster in 0..CLUSTERS.len() {
        for namespace in NAMESPACES {
            for account in ACCOUNTS {
                for name in ["web-0", "web-0", "web-1"] {
                    let workload = Workload::new(
                        namespace.parse().unwrap(),
                        account.parse().unwrap(),
                        name.parse().unwrap(),
                    );
                    let (number, role) = (pods.len(), role(cluster, namespace, account));
                    pods.push(Resident { number, cluster, role, workload: workload.unwrap() });
                }
            }
        }
    }
    pods
}

/// What signs for the auth service: the key of the laptop's own agent.
fn agent_sdk(laptop: &Laptop) -> SdkConfig {
    let file = std::fs::read(laptop.directory().join("agent-keys.yaml")).unwrap();
    let keys: Value = serde_json::from_slice(&file).unwrap();
    let text = |member: &str| keys[0][member].as_str().unwrap();
    let key = Credentials::new(text("accessKeyId"), text("secretAccessKey"), None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .http_client(Outbound::default().sdk_client().unwrap())
        .credentials_provider(SharedCredentialsProvider::new(key))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .build()
}

impl Town {
    pub(crate) async fn build() -> Self {
        let setup = Setup { expire_after: Some(SESSION), ..Setup::default() };
        let laptop = Laptop::start(world(), setup).await.unwrap();
        let sdk = agent_sdk(&laptop);
        let (ender, shutdown) = Shutdown::manual();
        let mut agents = Vec::new();
        for (number, (name, _)) in CLUSTERS.into_iter().enumerate() {
            let cluster = name.parse().unwrap();
            // Every other agent verifies tokens itself; the others hear from EKS Auth which are good.
            let issuer = laptop.issuer_of(&cluster).unwrap();
            let keys = match number % 2 {
                0 => TokenKeys::None,
                _ => TokenKeys::Configured(vec![IssuerConfig {
                    issuer: issuer.issuer().to_owned(),
                    keys: KeyLocation::Url(issuer.jwks_uri()),
                    bearer_token_file: None,
                    outbound: Outbound::default(),
                }]),
            };
            let eks_auth = Destination {
                endpoint: Some(laptop.auth_url()),
                agent_auth: AgentAuth::SigV4,
                outbound: Outbound::default(),
                sdk_config: Some(sdk.clone()),
            };
            let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
            let mut config =
                Config { keys, limits: Limits::ONE_MACHINE, ..Config::new(cluster, listen, eks_auth) };
            // Every pod and every forger has the address 127.0.0.1, and they share its credits.
            config.service.limits.hold = Duration::ZERO;
            let agent = App::bind(config).await.unwrap();
            agents.push(agent.addresses()[0]);
            tokio::spawn(agent.run(shutdown.clone()));
        }
        let pods = pods();
        let tokens = pods.iter().map(|_| Mutex::default()).collect();
        Self { laptop, agents, pods, tokens, generation: AtomicU64::new(0), _agents: ender }
    }

    pub(crate) fn issuer(&self, cluster: usize) -> &Issuer {
        self.laptop.issuer_of(&CLUSTERS[cluster].0.parse().unwrap()).unwrap()
    }

    pub(crate) fn cluster_name(&self, pod: &Resident) -> &'static str {
        CLUSTERS[pod.cluster].0
    }

    /// A new token, signed by the newest key.
    pub(crate) fn new_token(&self, pod: &Resident) -> Token {
        // The generation first: a rotation in between makes the key newer than it is said to be.
        let generation = self.generation.load(Ordering::SeqCst);
        let request = pod.workload.token_request(clock::now(), LIFETIME);
        Token { text: self.issuer(pod.cluster).mint(&request).unwrap(), generation }
    }

    /// One that the pod has, or, one time in so many, a new one, as kubelet replaces them.
    pub(crate) fn token(&self, pod: &Resident, new: usize, random: &mut Random) -> Token {
        let mut tokens = self.tokens[pod.number].lock().unwrap();
        if tokens.is_empty() || random.one_in(new) {
            tokens.push(self.new_token(pod));
            if tokens.len() > KEPT_TOKENS {
                tokens.remove(0);
            }
        }
        random.one_of(&tokens).clone()
    }

    pub(crate) fn expired_token(&self, pod: &Resident) -> Token {
        let now: SystemTime = clock::now();
        let request = pod.workload.token_request(now - LIFETIME, LIFETIME - Duration::from_secs(1));
        Token { text: self.issuer(pod.cluster).mint(&request).unwrap(), generation: 0 }
    }

    /// Gives every issuer a new key, takes the oldest of four away, and lets the auth service
    /// know by a change of the file: it would look by itself, but only every 30 s.
    pub(crate) fn rotate_keys(&self) {
        let mut associations = self.laptop.associations().clone();
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
        write_private(&self.laptop.associations_file(), &serde_json::to_string(&associations).unwrap())
            .unwrap();
    }

    /// The tags that the sessions of a pod must have.
    pub(crate) fn tags_of(&self, pod: &Resident) -> [(&'static str, String); 5] {
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

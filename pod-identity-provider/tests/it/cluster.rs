//! A local cluster with one pod that is configured for both methods, and an agent that can be killed.

use std::net::SocketAddr;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig};
use pod_identity_local::fixture::Fixture;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload, write_private};
use pod_identity_provider::{Environment, PodIdentityCredentialsProvider};
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use testing::eventually::eventually;
use tokio::task::JoinHandle;

const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The audience of IRSA's tokens.
pub(crate) const STS_AUDIENCE: &str = "sts.amazonaws.com";

pub(crate) struct Cluster {
    pub(crate) laptop: LocalServices,
    pub(crate) pod: Workload,
}

impl Cluster {
    /// Starts the cluster. Sessions expire after `session_life`, if it is given.
    pub(crate) async fn start(session_life: Option<Duration>) -> Self {
        let fixture = Fixture::from_yaml(include_str!("world.yaml")).unwrap();
        let setup = LocalConfig { expire_after: session_life, ..LocalConfig::default() };
        let laptop = LocalServices::start(fixture, setup).await.unwrap();
        let [namespace, account, pod] = ["default", "app", "app-1"];
        let pod = Workload::new(namespace.parse().unwrap(), account.parse().unwrap(), pod.parse().unwrap())
            .unwrap();
        Self { laptop, pod }
    }

    /// Returns the variables that Pod Identity's webhook sets, with this URL of the agent.
    pub(crate) fn pod_identity(&self, credentials_url: &str) -> Vec<(&'static str, String)> {
        let token = self.laptop.token(&self.pod, clock::now(), TOKEN_LIFE).unwrap();
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials_url.to_owned()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self.file("pod-identity-token", &token)),
        ]
    }

    /// Returns the variables that IRSA's webhook and kubelet set.
    pub(crate) fn irsa(&self, role: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ROLE_ARN", format!("arn:aws:iam::111122223333:role/{role}")),
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                self.file("irsa-token", &self.token_for(STS_AUDIENCE, TOKEN_LIFE)),
            ),
            ("AWS_DEFAULT_REGION", self.laptop.region().to_owned()),
            ("AWS_ENDPOINT_URL_STS", self.laptop.sts_url()),
            ("HOSTNAME", self.pod.pod.name.to_string()),
        ]
    }

    /// Returns a new token of the pod.
    pub(crate) fn token_for(&self, audience: &str, lifetime: Duration) -> String {
        let mut request = self.pod.token_request(clock::now(), lifetime);
        request.audiences = vec![audience.to_owned()];
        self.laptop.issuer().mint(&request).unwrap()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let file = self.laptop.directory().join(name);
        write_private(&file, content).unwrap();
        file.display().to_string()
    }

    /// Returns a client of STS with this provider and without retries.
    pub(crate) fn client(&self, provider: &PodIdentityCredentialsProvider) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.laptop.region().to_owned()))
            .endpoint_url(self.laptop.sts_url())
            .retry_config(RetryConfig::disabled())
            .credentials_provider(provider.clone())
            .identity_cache(provider.identity_cache())
            .build();
        aws_sdk_sts::Client::from_conf(config)
    }

    /// Returns the ARN of the role session of this provider.
    pub(crate) async fn caller_arn(&self, provider: &PodIdentityCredentialsProvider) -> String {
        arn(&self.client(provider)).await
    }
}

/// Returns the ARN of the role session of this client.
pub(crate) async fn arn(client: &aws_sdk_sts::Client) -> String {
    client.get_caller_identity().send().await.unwrap().arn.unwrap()
}

pub(crate) fn environment(variables: Vec<(&'static str, String)>) -> Environment {
    variables.into_iter().collect()
}

/// A second agent of the cluster.
pub(crate) struct Agent {
    config: Config,
    running: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts the agent. It has the same address after a restart.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let outbound = Outbound::default();
        let sdk_config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(cluster.laptop.region().to_owned()))
            .http_client(outbound.sdk_client(None).unwrap())
            .credentials_provider(SharedCredentialsProvider::new(cluster.laptop.agent_key().clone()))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .build();
        let eks_auth = EksAuthConfig {
            endpoint: Some(cluster.laptop.auth_url()),
            agent_auth: AgentAuth::SigV4,
            outbound,
            sdk_config: Some(sdk_config),
        };
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config::new(cluster.laptop.cluster().clone(), vec![any_port], eks_auth);
        let mut agent = Self { config, running: None };
        agent.restart().await;
        agent
    }

    pub(crate) async fn restart(&mut self) {
        // The runtime may not have closed the previous socket yet.
        let app =
            eventually("the agent's port is free", async || App::bind(self.config.clone()).await.ok()).await;
        self.config.listen = app.addresses();
        self.running = Some(tokio::spawn(async move {
            app.run(Shutdown::never()).await.unwrap();
        }));
    }

    /// Kills the agent without draining: open requests get no response, and nothing listens.
    pub(crate) async fn kill(&mut self) {
        let Some(task) = self.running.take() else { return };
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/credentials", self.config.listen[0])
    }
}

//! The whole path on loopback: issuer, STS, auth service and agent, each behind a socket of its own.
//!
//! Auth service and agent are the production ones, through the same entry points that their binaries
//! use; what AWS and the API server would be is played by [`crate::sts`] and [`crate::issuer`].

mod handlers;
mod workload;

pub use workload::Workload;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_auth::config::{AgentAuthConfig, SessionNaming};
use pod_identity_auth::store::{AssociationFile, ClusterEntry};
use pod_identity_core::identity::ClusterName;
use pod_identity_core::token::KeySet;
use pod_identity_core::trust::Caller;
use pod_identity_runtime::listener::{Handler, Listener};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::handlers::{Inspection, IssuerDocuments, StsEndpoint};
use crate::issuer::{Issuer, KeyAlgorithm};
use crate::sts::Sts;
use crate::world::{KnownCaller, World};

/// The access key id with which the agent signs for the auth service; its secret is made up anew by
/// each process.
const AGENT_KEY_ID: &str = "AKIALOCALAGENT000001";

/// As whom the auth service asks STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthPrincipal {
    /// As EKS itself: `pods.eks.amazonaws.com`. So trust policies written for EKS can be tried.
    #[default]
    EksService,
    /// As an IAM role, which is what there is off EKS.
    IamRole,
}

/// How a laptop is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// As whom the auth service asks STS.
    pub principal: AuthPrincipal,
    /// The algorithm of the issuers' first keys.
    pub algorithm: KeyAlgorithm,
    /// How sessions are named.
    pub naming: SessionNaming,
    /// The longest life of a session; as AWS gives it, if `None`.
    pub expire_after: Option<Duration>,
    /// The cluster whose agent runs; the world's first, if `None`.
    pub cluster: Option<ClusterName>,
}

/// Everything, running. It ends when this is dropped.
#[derive(Debug)]
pub struct Laptop {
    cluster: ClusterName,
    region: String,
    principal: Caller,
    issuers: BTreeMap<ClusterName, Arc<Issuer>>,
    associations: AssociationFile,
    sts: Arc<Sts>,
    sts_address: SocketAddr,
    inspection_address: SocketAddr,
    auth_address: SocketAddr,
    agent_address: SocketAddr,
    agent_key: Credentials,
    directory: TempDir,
    ender: Ender,
    tasks: JoinSet<()>,
}

/// Why a laptop does not start.
#[derive(Debug, thiserror::Error)]
pub enum LaptopError {
    /// The world has no cluster, or not that one.
    #[error("{0}")]
    Cluster(String),
    /// The world has no caller for the auth service.
    #[error("no caller of the file acts as {0}: the auth service needs one (callers: - principal: ...)")]
    NoPrincipal(&'static str),
    /// An issuer could not be made.
    #[error(transparent)]
    Issuer(#[from] crate::issuer::IssuerError),
    /// A file or a socket could not be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The auth service did not start.
    #[error("the auth service: {0}")]
    Auth(#[from] pod_identity_auth::app::StartError),
    /// The agent did not start.
    #[error("the agent: {0}")]
    Agent(#[from] pod_identity_agent::app::StartError),
    /// A client could not be made.
    #[error(transparent)]
    Outbound(#[from] pod_identity_runtime::outbound::OutboundError),
    /// The associations could not be written.
    #[error("the associations could not be written: {0}")]
    Associations(String),
}

impl Laptop {
    /// Starts everything, each part once the one that it asks is bound.
    ///
    /// # Errors
    /// [`LaptopError`] with the part that did not start.
    pub async fn start(world: World, setup: Setup) -> Result<Self, LaptopError> {
        let directory = tempfile::Builder::new().prefix("pod-identity-local-").tempdir()?;
        let (ender, shutdown) = Shutdown::manual();
        let mut tasks = JoinSet::new();
        let mut associations = world.associations.clone();
        let (cluster, region) = {
            let chosen = chosen_cluster(&associations, setup.cluster.as_ref())?;
            (chosen.name.clone(), chosen.region.clone().unwrap_or_else(|| "us-east-1".to_owned()))
        };
        let known = known_caller(&world, setup.principal)?;
        let principal = known.caller.clone();

        let issuer_listener = loopback().await?;
        let issuers = issuers(&mut associations, issuer_listener.address()?, setup.algorithm)?;
        serve(&mut tasks, issuer_listener, IssuerDocuments(issuers.values().cloned().collect()), &shutdown);

        let sts_listener = loopback().await?;
        let sts_address = sts_listener.address()?;
        let (auth_sdk, agent_sdk) = sdk_configs(&region, sts_address, &credentials(known))?;
        let sts = Arc::new(sts(world, &issuers, setup.expire_after));
        serve(&mut tasks, sts_listener, StsEndpoint(sts.clone()), &shutdown);
        let inspection = loopback().await?;
        let inspection_address = inspection.address()?;
        serve(&mut tasks, inspection, Inspection(sts.clone()), &shutdown);

        let auth = auth(directory.path(), &associations, setup.naming, &agent_sdk, &auth_sdk).await?;
        let auth_address = auth.address()?;
        tasks.spawn(auth.run(shutdown.clone()));

        let AgentSdk { config, key: agent_key } = agent_sdk;
        let agent = agent(&cluster, auth_address, config).await?;
        let agent_address = agent.addresses()[0];
        tasks.spawn(agent.run(shutdown));

        Ok(Self {
            cluster,
            region,
            principal,
            issuers,
            associations,
            sts,
            sts_address,
            inspection_address,
            auth_address,
            agent_address,
            agent_key,
            directory,
            ender,
            tasks,
        })
    }

    /// The cluster whose agent runs.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The region of that cluster, for SDKs.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// As whom the auth service asks STS: a service, or a role by its ARN.
    pub fn principal(&self) -> String {
        self.principal.principal_arn().unwrap_or_else(|| self.principal.to_string())
    }

    /// The issuer of that cluster.
    pub fn issuer(&self) -> &Issuer {
        &self.issuers[&self.cluster]
    }

    /// The issuer of any cluster.
    pub fn issuer_of(&self, cluster: &ClusterName) -> Option<&Arc<Issuer>> {
        self.issuers.get(cluster)
    }

    /// Clusters and associations, as the auth service has them.
    pub fn associations(&self) -> &AssociationFile {
        &self.associations
    }

    /// The STS, to look into.
    pub fn sts(&self) -> &Sts {
        &self.sts
    }

    /// `AWS_ENDPOINT_URL_STS`.
    pub fn sts_url(&self) -> String {
        format!("http://{}", self.sts_address)
    }

    /// Where sessions and denials can be looked at: `/sessions`, `/sessions/{accessKeyId}`, `/denials`.
    pub fn inspection_url(&self) -> String {
        format!("http://{}", self.inspection_address)
    }

    /// Where EKS Auth is.
    pub fn auth_url(&self) -> String {
        format!("http://{}", self.auth_address)
    }

    /// The key that the agent signs with there. It prints without its secret.
    pub fn agent_key(&self) -> &Credentials {
        &self.agent_key
    }

    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn credentials_url(&self) -> String {
        format!("http://{}{}", self.agent_address, pod_identity_agent::server::CREDENTIALS_PATH)
    }

    /// The file that the auth service reads its associations from: rewriting it changes them.
    pub fn associations_file(&self) -> PathBuf {
        self.directory.path().join(ASSOCIATIONS)
    }

    /// A directory that goes with the laptop, for a pod's token and the like.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends everything, in order.
    pub async fn stop(mut self) {
        self.ender.end();
        while self.tasks.join_next().await.is_some() {}
    }
}

const ASSOCIATIONS: &str = "associations.yaml";

async fn loopback() -> std::io::Result<Listener> {
    Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

fn serve(tasks: &mut JoinSet<()>, listener: Listener, handler: impl Handler, shutdown: &Shutdown) {
    tasks.spawn(listener.serve(Arc::new(handler), shutdown.clone()));
}

/// The cluster of that name, or the file's first.
pub(crate) fn chosen_cluster<'a>(
    file: &'a AssociationFile,
    wanted: Option<&ClusterName>,
) -> Result<&'a ClusterEntry, LaptopError> {
    let found = match wanted {
        Some(name) => file.clusters.iter().find(|cluster| cluster.name == *name),
        None => file.clusters.first(),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = file.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        LaptopError::Cluster(match wanted {
            Some(name) if !names.is_empty() => {
                format!("the file declares no cluster {name} (it has: {})", names.join(", "))
            }
            _ => "the file declares no cluster (clusters: - name: ...)".to_owned(),
        })
    })
}

fn known_caller(world: &World, wanted: AuthPrincipal) -> Result<&KnownCaller, LaptopError> {
    let fits = |known: &&KnownCaller| match (wanted, &known.caller) {
        (AuthPrincipal::EksService, Caller::Service { name }) => name == "pods.eks.amazonaws.com",
        (AuthPrincipal::IamRole, Caller::Session { .. }) => true,
        _ => false,
    };
    world.callers().find(fits).ok_or(LaptopError::NoPrincipal(match wanted {
        AuthPrincipal::EksService => "the service pods.eks.amazonaws.com",
        AuthPrincipal::IamRole => "an IAM role",
    }))
}

fn credentials(known: &KnownCaller) -> Credentials {
    let session_token = known.session_token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(
        &known.access_key_id,
        known.secret_access_key.expose(),
        session_token,
        None,
        "pod-identity-local",
    )
}

/// One issuer for each cluster. Their key sets are served here, whatever issuer the tokens name.
fn issuers(
    file: &mut AssociationFile,
    address: SocketAddr,
    algorithm: KeyAlgorithm,
) -> Result<BTreeMap<ClusterName, Arc<Issuer>>, LaptopError> {
    let mut issuers = BTreeMap::new();
    for cluster in &mut file.clusters {
        let issuer = Issuer::new(&cluster.issuer, &format!("http://{address}/{}", cluster.name), algorithm)?;
        cluster.jwks_url = Some(issuer.jwks_uri());
        (cluster.jwks_file, cluster.ca_file, cluster.bearer_token_file) = (None, None, None);
        issuers.insert(cluster.name.clone(), Arc::new(issuer));
    }
    Ok(issuers)
}

fn sts(world: World, issuers: &BTreeMap<ClusterName, Arc<Issuer>>, expire_after: Option<Duration>) -> Sts {
    let issuers: Vec<Arc<Issuer>> = issuers.values().cloned().collect();
    let sts = Sts::new(world).issuer_keys(move |url| {
        let issuer = issuers.iter().find(|issuer| issuer.issuer() == url)?;
        KeySet::from_jwks(&issuer.jwks()).ok().map(Arc::new)
    });
    match expire_after {
        Some(limit) => sts.expire_after(limit),
        None => sts,
    }
}

/// The agent's side: a configuration, and the key that it signs with.
struct AgentSdk {
    config: SdkConfig,
    key: Credentials,
}

fn sdk_configs(
    region: &str,
    sts: SocketAddr,
    principal: &Credentials,
) -> Result<(SdkConfig, AgentSdk), LaptopError> {
    let outbound = Outbound::default();
    let client = outbound.sdk_client()?;
    let config = |credentials: Credentials| {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .http_client(client.clone())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
                aws_smithy_async::rt::sleep::TokioSleep::new(),
            ))
    };
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let key = Credentials::new(AGENT_KEY_ID, secret, None, None, "pod-identity-local");
    let auth = config(principal.clone()).endpoint_url(format!("http://{sts}")).build();
    Ok((auth, AgentSdk { config: config(key.clone()).build(), key }))
}

async fn auth(
    directory: &Path,
    associations: &AssociationFile,
    session_naming: SessionNaming,
    agent: &AgentSdk,
    sdk: &SdkConfig,
) -> Result<pod_identity_auth::app::App, LaptopError> {
    let file = directory.join(ASSOCIATIONS);
    let yaml = serde_saphyr::to_string(associations)
        .map_err(|error| LaptopError::Associations(error.to_string()))?;
    write_private(&file, &yaml)?;
    let keys_file = directory.join("agent-keys.yaml");
    let keys = json!([{ "accessKeyId": AGENT_KEY_ID, "secretAccessKey": agent.key.secret_access_key() }]);
    write_private(&keys_file, &keys.to_string())?;
    let config = pod_identity_auth::config::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        admin: None,
        associations: file,
        cluster: None,
        agent_auth: Some(AgentAuthConfig::SigV4 { keys_file }),
        tls: None,
        session_naming,
        outbound: Outbound::default(),
    };
    Ok(pod_identity_auth::app::App::bind(config, pod_identity_auth::sts::client(sdk)).await?)
}

async fn agent(
    cluster: &ClusterName,
    auth: SocketAddr,
    sdk_config: SdkConfig,
) -> Result<pod_identity_agent::app::App, LaptopError> {
    let eks_auth = pod_identity_agent::config::Destination {
        endpoint: Some(format!("http://{auth}")),
        agent_auth: pod_identity_agent::config::AgentAuth::SigV4,
        outbound: Outbound::default(),
        sdk_config: Some(sdk_config),
    };
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let config = pod_identity_agent::config::Config::new(cluster.clone(), listen, eks_auth);
    Ok(pod_identity_agent::app::App::bind(config).await?)
}

/// Writes a file that only its owner may read, and puts it in place whole.
///
/// # Errors
/// Where it cannot be written.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(new, path)
}

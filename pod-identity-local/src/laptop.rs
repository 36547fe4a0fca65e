//! The whole path on loopback: issuer, STS, auth service and agent, each behind a socket of its own.
//!
//! Auth service and agent are the production ones, through the same entry points that their binaries
//! use; what AWS and the API server would be is played by [`crate::sts`] and [`crate::issuer`].

mod parts;
mod handlers;
mod private_file;
mod workload;

pub(crate) use parts::chosen_cluster;
pub use private_file::write_private;
pub use workload::Workload;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use pod_identity_auth::config::SessionNaming;
use pod_identity_auth::store::AssociationFile;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::trust::Caller;
use pod_identity_runtime::listener::{Connections, Handler, Limits, Listener};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::handlers::{Inspection, IssuerDocuments, StsEndpoint};
use self::parts::{AgentSdk, agent, auth, credentials, issuers, known_caller, sdk_configs, sts};
use crate::issuer::{Issuer, KeyAlgorithm};
use crate::sts::Sts;
use crate::world::World;

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
        let shutdown_of_auth = shutdown.clone();
        tasks.spawn(async move {
            // A failure is in the log.
            let _ = auth.run(shutdown_of_auth).await;
        });

        let AgentSdk { config, key: agent_key } = agent_sdk;
        let agent = agent(&cluster, auth_address, config).await?;
        let agent_address = agent.addresses()[0];
        tasks.spawn(async move {
            let _ = agent.run(shutdown).await;
        });

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
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    Ok(listener.with_connections(Connections::new(Limits::ONE_MACHINE)))
}

fn serve(tasks: &mut JoinSet<()>, listener: Listener, handler: impl Handler, shutdown: &Shutdown) {
    tasks.spawn(listener.serve(Arc::new(handler), shutdown.clone()));
}

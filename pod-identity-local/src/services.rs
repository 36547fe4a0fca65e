//! Issuer, STS, auth service and agent on loopback, each with its own listener.
//!
//! The auth service and the agent are the production code, started through the entry points of their binaries.
//! [`crate::sts`] stands in for AWS, and [`crate::issuer`] for the API server.

mod build;
mod handlers;
mod private_file;
mod workload;

pub(crate) use build::select_cluster;
pub(crate) use handlers::StsEndpoint;
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

use self::build::{AgentSdkConfig, agent, auth, auth_caller, credentials, issuers, sdk_configs, sts};
use self::handlers::{Inspection, IssuerDocuments};
use crate::fixture::Fixture;
use crate::issuer::{Issuer, KeyAlgorithm};
use crate::sts::Sts;

/// The principal of the auth service's calls to STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthPrincipal {
    /// The service principal of EKS, `pods.eks.amazonaws.com`: for trust policies written for EKS.
    #[default]
    EksService,
    /// An IAM role, as on clusters that are not EKS.
    IamRole,
}

/// Configuration of [`LocalServices`].
#[derive(Debug, Clone, Default)]
pub struct LocalConfig {
    /// The principal of the auth service's calls to STS.
    pub principal: AuthPrincipal,
    /// The algorithm of the first key of each issuer.
    pub algorithm: KeyAlgorithm,
    /// The names of sessions.
    pub naming: SessionNaming,
    /// Maximum lifetime of a session. `None`: the limits of AWS.
    pub expire_after: Option<Duration>,
    /// The agent's cluster. `None`: the fixture's first cluster.
    pub cluster: Option<ClusterName>,
}

/// The running services. Drop stops them.
#[derive(Debug)]
pub struct LocalServices {
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

/// Why the services do not start.
#[derive(Debug, thiserror::Error)]
pub enum LocalServicesError {
    /// The fixture lacks the requested cluster, or has no cluster.
    #[error("{0}")]
    Cluster(String),
    /// The fixture has no caller for the auth service.
    #[error("no caller of the file is {0}, and the auth service needs one: add it to callers")]
    NoPrincipal(&'static str),
    /// An issuer cannot be created.
    #[error(transparent)]
    Issuer(#[from] crate::issuer::IssuerError),
    /// A file or a listener cannot be opened.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The auth service does not start.
    #[error("the auth service: {0}")]
    Auth(#[from] pod_identity_auth::app::StartError),
    /// The agent does not start.
    #[error("the agent: {0}")]
    Agent(#[from] pod_identity_agent::app::StartError),
    /// An HTTP client cannot be created.
    #[error(transparent)]
    Outbound(#[from] pod_identity_runtime::outbound::OutboundError),
    /// The associations cannot be serialized.
    #[error("the associations cannot be written as YAML: {0}")]
    Associations(String),
}

impl LocalServices {
    /// Starts the services. Each starts after its upstream is bound.
    ///
    /// # Errors
    /// [`LocalServicesError`] names the service that does not start.
    pub async fn start(fixture: Fixture, config: LocalConfig) -> Result<Self, LocalServicesError> {
        let directory = tempfile::Builder::new().prefix("pod-identity-local-").tempdir()?;
        let (ender, shutdown) = Shutdown::manual();
        let mut tasks = JoinSet::new();
        let mut associations = fixture.associations.clone();
        let (cluster, region) = {
            let chosen = select_cluster(&associations, config.cluster.as_ref())?;
            (chosen.name.clone(), chosen.region.clone().unwrap_or_else(|| "us-east-1".to_owned()))
        };
        let known = auth_caller(&fixture, config.principal)?;
        let principal = known.caller.clone();

        let issuer_listener = loopback().await?;
        let issuers = issuers(&mut associations, issuer_listener.address()?, config.algorithm)?;
        serve(&mut tasks, issuer_listener, IssuerDocuments(issuers.values().cloned().collect()), &shutdown);

        let sts_listener = loopback().await?;
        let sts_address = sts_listener.address()?;
        let (auth_sdk, agent_sdk) = sdk_configs(&region, sts_address, &credentials(known))?;
        let sts = Arc::new(sts(fixture, &issuers, config.expire_after));
        serve(&mut tasks, sts_listener, StsEndpoint(sts.clone()), &shutdown);
        let inspection = loopback().await?;
        let inspection_address = inspection.address()?;
        serve(&mut tasks, inspection, Inspection(sts.clone()), &shutdown);

        let auth = auth(directory.path(), &associations, config.naming, &agent_sdk, &auth_sdk).await?;
        let auth_address = auth.address()?;
        let shutdown_of_auth = shutdown.clone();
        tasks.spawn(async move {
            // The service logs its own failure.
            let _ = auth.run(shutdown_of_auth).await;
        });

        let AgentSdkConfig { config, key: agent_key } = agent_sdk;
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

    /// Returns the agent's cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Returns the region of the agent's cluster, for SDKs.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the principal of the auth service's calls to STS: a service name or a role's ARN.
    pub fn principal(&self) -> String {
        self.principal.principal_arn().unwrap_or_else(|| self.principal.to_string())
    }

    /// Returns the issuer of the agent's cluster.
    pub fn issuer(&self) -> &Issuer {
        &self.issuers[&self.cluster]
    }

    /// Returns the issuer of a cluster.
    pub fn issuer_of(&self, cluster: &ClusterName) -> Option<&Arc<Issuer>> {
        self.issuers.get(cluster)
    }

    /// Returns the clusters and associations that the auth service reads at its start.
    pub fn associations(&self) -> &AssociationFile {
        &self.associations
    }

    /// Returns the STS, for inspection.
    pub fn sts(&self) -> &Sts {
        &self.sts
    }

    /// Returns the value of `AWS_ENDPOINT_URL_STS`.
    pub fn sts_url(&self) -> String {
        format!("http://{}", self.sts_address)
    }

    /// Returns the URL that serves `/sessions`, `/sessions/{accessKeyId}` and `/denials`.
    pub fn inspection_url(&self) -> String {
        format!("http://{}", self.inspection_address)
    }

    /// Returns the URL of the auth service.
    pub fn auth_url(&self) -> String {
        format!("http://{}", self.auth_address)
    }

    /// Returns the key that the agent signs calls to the auth service with. `Debug` omits its secret.
    pub fn agent_key(&self) -> &Credentials {
        &self.agent_key
    }

    /// Returns the value of `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn credentials_url(&self) -> String {
        format!("http://{}{}", self.agent_address, pod_identity_agent::server::CREDENTIALS_PATH)
    }

    /// Returns the association file of the auth service. The service reads it again after a change.
    pub fn associations_file(&self) -> PathBuf {
        self.directory.path().join(ASSOCIATIONS)
    }

    /// Returns a temporary directory, for example for a pod token. It is deleted with the services.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the services and waits for their end.
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

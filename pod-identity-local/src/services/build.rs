//! Construction of each local service.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_auth::config::{AgentAuthConfig, SessionNaming};
use pod_identity_auth::store::{AssociationFile, ClusterEntry, KeysEntry};
use pod_identity_core::identity::ClusterName;
use pod_identity_core::token::KeySet;
use pod_identity_core::trust::Caller;
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::Outbound;
use serde_json::json;

use super::private_file::write_private;
use super::{ASSOCIATIONS, AuthPrincipal, LocalServicesError};
use crate::fixture::{Fixture, FixtureCaller};
use crate::issuer::{Issuer, KeyAlgorithm};
use crate::sts::Sts;

/// The access key id that the agent signs calls to the auth service with. Each process generates a new secret.
const AGENT_KEY_ID: &str = "AKIALOCALAGENT000001";

/// Returns the cluster of that name, or the first cluster of the file.
pub(crate) fn select_cluster<'a>(
    file: &'a AssociationFile,
    wanted: Option<&ClusterName>,
) -> Result<&'a ClusterEntry, LocalServicesError> {
    let found = match wanted {
        Some(name) => file.clusters.iter().find(|cluster| cluster.name == *name),
        None => file.clusters.first(),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = file.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        LocalServicesError::Cluster(match wanted {
            Some(name) if !names.is_empty() => {
                format!("the file declares no cluster {name} (it has: {})", names.join(", "))
            }
            _ => "the file declares no cluster: add one to clusters".to_owned(),
        })
    })
}

pub(super) fn auth_caller(
    fixture: &Fixture,
    wanted: AuthPrincipal,
) -> Result<&FixtureCaller, LocalServicesError> {
    let fits = |known: &&FixtureCaller| match (wanted, &known.caller) {
        (AuthPrincipal::EksService, Caller::Service { name }) => name == "pods.eks.amazonaws.com",
        (AuthPrincipal::IamRole, Caller::Session { .. }) => true,
        _ => false,
    };
    fixture.callers().find(fits).ok_or(LocalServicesError::NoPrincipal(match wanted {
        AuthPrincipal::EksService => "the service pods.eks.amazonaws.com",
        AuthPrincipal::IamRole => "an IAM role",
    }))
}

pub(super) fn credentials(known: &FixtureCaller) -> Credentials {
    let session_token = known.session_token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(
        &known.access_key_id,
        known.secret_access_key.expose(),
        session_token,
        None,
        "pod-identity-local",
    )
}

/// Creates one issuer for each cluster and makes the cluster's entry refer to its key set.
pub(super) fn issuers(
    file: &mut AssociationFile,
    address: SocketAddr,
    algorithm: KeyAlgorithm,
) -> Result<BTreeMap<ClusterName, Arc<Issuer>>, LocalServicesError> {
    let mut issuers = BTreeMap::new();
    for cluster in &mut file.clusters {
        // The first issuer signs, as at the API server. All issuers of a cluster share its keys.
        let first = cluster.issuers.first().map_or("", |entry| &entry.issuer);
        let issuer = Issuer::new(first, &format!("http://{address}/{}", cluster.name), algorithm)?;
        cluster.keys = KeysEntry { jwks_url: Some(issuer.jwks_uri()), ..KeysEntry::default() };
        cluster.issuers.iter_mut().for_each(|entry| entry.keys = KeysEntry::default());
        issuers.insert(cluster.name.clone(), Arc::new(issuer));
    }
    Ok(issuers)
}

pub(super) fn sts(
    fixture: Fixture,
    issuers: &BTreeMap<ClusterName, Arc<Issuer>>,
    expire_after: Option<Duration>,
) -> Sts {
    let issuers: Vec<Arc<Issuer>> = issuers.values().cloned().collect();
    let sts = Sts::new(fixture).issuer_keys(move |url| {
        let issuer = issuers.iter().find(|issuer| issuer.issuer() == url)?;
        KeySet::from_jwks(&issuer.jwks()).ok().map(Arc::new)
    });
    match expire_after {
        Some(limit) => sts.expire_after(limit),
        None => sts,
    }
}

/// The agent's SDK configuration and the key in it.
pub(super) struct AgentSdkConfig {
    pub(super) config: SdkConfig,
    pub(super) key: Credentials,
}

pub(super) fn sdk_configs(
    region: &str,
    sts: SocketAddr,
    principal: &Credentials,
) -> Result<(SdkConfig, AgentSdkConfig), LocalServicesError> {
    let outbound = Outbound::default();
    let client = outbound.sdk_client(Some("http://127.0.0.1"))?;
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
    Ok((auth, AgentSdkConfig { config: config(key.clone()).build(), key }))
}

pub(super) async fn auth(
    directory: &Path,
    associations: &AssociationFile,
    session_naming: SessionNaming,
    agent: &AgentSdkConfig,
    sdk: &SdkConfig,
) -> Result<pod_identity_auth::app::App, LocalServicesError> {
    let file = directory.join(ASSOCIATIONS);
    let yaml = serde_saphyr::to_string(associations)
        .map_err(|error| LocalServicesError::Associations(error.to_string()))?;
    write_private(&file, &yaml)?;
    let keys_file = directory.join("agent-keys.yaml");
    let keys = json!([{ "accessKeyId": AGENT_KEY_ID, "secretAccessKey": agent.key.secret_access_key() }]);
    write_private(&keys_file, &keys.to_string())?;
    let config = pod_identity_auth::config::Config {
        agent_auth: Some(AgentAuthConfig::SigV4 { keys_file }),
        session_naming,
        limits: Limits::ONE_MACHINE,
        ..pod_identity_auth::config::Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), file)
    };
    Ok(pod_identity_auth::app::App::bind(config, pod_identity_auth::sts::client(sdk)).await?)
}

pub(super) async fn agent(
    cluster: &ClusterName,
    auth: SocketAddr,
    sdk_config: SdkConfig,
) -> Result<pod_identity_agent::app::App, LocalServicesError> {
    let eks_auth = pod_identity_agent::config::EksAuthConfig {
        endpoint: Some(format!("http://{auth}")),
        agent_auth: pod_identity_agent::config::AgentAuth::SigV4,
        outbound: Outbound::default(),
        sdk_config: Some(sdk_config),
    };
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let config = pod_identity_agent::config::Config {
        limits: Limits::ONE_MACHINE,
        ..pod_identity_agent::config::Config::new(cluster.clone(), listen, eks_auth)
    };
    Ok(pod_identity_agent::app::App::bind(config).await?)
}

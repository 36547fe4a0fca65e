//! EKS Auth: exchanges a pod's token for credentials, by one call.

mod bearer;
mod error;

pub use error::ExchangeError;

use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_eksauth::Client;
use aws_sdk_eksauth::config::retry::RetryConfig;
use aws_sdk_eksauth::config::timeout::TimeoutConfig;
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityOutput;
use pod_identity_core::arn::AssumedRoleArn;
use pod_identity_core::cache::UnusableAnswer;
use pod_identity_core::credentials::{MissingMember, SessionCredentials};
use pod_identity_core::identity::ClusterName;
use pod_identity_core::source::{CredentialSource, SubjectCredentials};
use pod_identity_core::token::{BearerToken, claimed_identity};
use pod_identity_runtime::outbound::OutboundError;

use self::bearer::AgentTokenFile;
use crate::config::{AgentAuth, Destination};

/// How long one call may take, its answer's body with it. A connection whose other end is gone without a
/// word must leave time for the next attempt, on another one. Where `pod-identity-auth` takes longer, it goes
/// on with the fetch that it has begun, and the next attempt waits for that one.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(3);

/// EKS Auth, for the pods of one cluster.
#[derive(Debug)]
pub struct EksAuth {
    client: Client,
    cluster: ClusterName,
    /// The agent's own token, with token authentication.
    own_token: Option<AgentTokenFile>,
}

/// Why there is no EKS Auth client.
#[derive(Debug, thiserror::Error)]
pub enum EksAuthSetupError {
    /// Connections cannot be made.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// EKS Auth has an endpoint in each region.
    #[error("no AWS region is configured: set AWS_REGION to the cluster's region")]
    NoRegion,
}

impl EksAuth {
    /// A client for a destination. It reads the environment where the destination leaves that open.
    ///
    /// # Errors
    /// [`EksAuthSetupError`] where the CA file cannot be read or no region is configured.
    pub async fn new(cluster: ClusterName, destination: Destination) -> Result<Self, EksAuthSetupError> {
        let sdk_config = match destination.sdk_config {
            Some(config) => config,
            None => environment(&destination).await?,
        };
        if sdk_config.region().is_none() {
            return Err(EksAuthSetupError::NoRegion);
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(1500))
            .operation_attempt_timeout(ATTEMPT_DEADLINE)
            .build();
        // One call is one attempt, whatever AWS_MAX_ATTEMPTS says: `upstream` repeats, and nobody else.
        let mut config = aws_sdk_eksauth::config::Builder::from(&sdk_config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        config.set_endpoint_url(destination.endpoint);
        let own_token = match destination.agent_auth {
            AgentAuth::SigV4 => None,
            AgentAuth::Token { file } => {
                config = config.allow_no_auth();
                Some(AgentTokenFile::new(file).await)
            }
        };
        Ok(Self { client: Client::from_conf(config.build()), cluster, own_token })
    }
}

async fn environment(destination: &Destination) -> Result<SdkConfig, EksAuthSetupError> {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(destination.outbound.toward(destination.endpoint.as_deref()).sdk_client()?);
    let loader = match destination.agent_auth {
        AgentAuth::SigV4 => loader,
        // A region is part of every SDK configuration, though no signature depends on it here.
        AgentAuth::Token { .. } => loader.no_credentials().region(aws_config::Region::new("us-east-1")),
    };
    Ok(loader.load().await)
}

impl CredentialSource for EksAuth {
    type Error = ExchangeError;

    async fn exchange(&self, token: &BearerToken) -> Result<SubjectCredentials, ExchangeError> {
        let (claimed, _) = claimed_identity(token)?;
        let request = self
            .client
            .assume_role_for_pod_identity()
            .cluster_name(self.cluster.as_str())
            .token(token.expose());
        let mut request = request.customize();
        if let Some(file) = &self.own_token {
            request = request.interceptor(file.read().await?);
        }
        let issued = issued(request.send().await?)?;
        // Whatever went wrong between here and there: never one pod's credentials for another.
        if (&claimed.namespace, &claimed.service_account) != (&issued.namespace, &issued.service_account) {
            let issued = format!("service account {}/{}", issued.namespace, issued.service_account);
            return Err(UnusableAnswer::OtherIdentity { wanted: claimed.to_string(), issued }.into());
        }
        Ok(issued)
    }
}

fn issued(answer: AssumeRoleForPodIdentityOutput) -> Result<SubjectCredentials, ExchangeError> {
    let subject = answer.subject.ok_or(ExchangeError::Incomplete("subject"))?;
    let credentials = answer.credentials.ok_or(ExchangeError::Incomplete("credentials"))?;
    let user = answer.assumed_role_user.ok_or(ExchangeError::Incomplete("assumedRoleUser"))?;
    // No pod needs the account to call AWS: an ARN of another form does not cost it its credentials.
    let session: Option<AssumedRoleArn> = user.arn.parse().ok();
    let credentials = SessionCredentials::of_answer(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        SystemTime::try_from(credentials.expiration).ok(),
        session.as_ref(),
    )
    .map_err(|MissingMember(name)| ExchangeError::Incomplete(name))?;
    Ok(SubjectCredentials {
        namespace: subject
            .namespace
            .try_into()
            .map_err(|_| ExchangeError::Incomplete("subject.namespace"))?,
        service_account: subject
            .service_account
            .try_into()
            .map_err(|_| ExchangeError::Incomplete("subject.serviceAccount"))?,
        credentials,
    })
}

//! Calls to EKS Auth. One call exchanges a pod token for credentials.

mod bearer;
mod error;
pub(crate) mod readiness;
mod rotated_file;

pub use error::ExchangeError;

use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_eksauth::Client;
use aws_sdk_eksauth::config::retry::RetryConfig;
use aws_sdk_eksauth::config::timeout::TimeoutConfig;
use aws_sdk_eksauth::operation::assume_role_for_pod_identity::AssumeRoleForPodIdentityOutput;
use pod_identity_core::arn::AssumedRoleArn;
use pod_identity_core::credentials::{AssumedRole, MissingField, SessionCredentials};
use pod_identity_core::identity::{Namespace, ServiceAccount, WorkloadIdentity};
use pod_identity_core::service::{CredentialError, CredentialRequest, CredentialSource, IssueFuture};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::outbound::OutboundError;

use self::bearer::AgentTokenFile;
use crate::config::{AgentAuth, EksAuthConfig};
use crate::metrics::CallCounter;

/// Maximum time of one call, including the body of its response. After a dead connection there must be time for the
/// next attempt on another connection. If `pod-identity-auth` takes longer, it continues its call to STS, and the next
/// attempt waits for that call.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(3);

/// The EKS Auth client.
#[derive(Debug)]
pub struct EksAuth {
    client: Client,
    /// The agent's own token, with token authentication.
    own_token: Option<AgentTokenFile>,
    calls: CallCounter,
    readiness: Readiness,
}

/// Why the EKS Auth client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum EksAuthSetupError {
    /// The CA file or the proxy settings cannot be used.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The endpoint of EKS Auth depends on the region.
    #[error("no AWS region is configured: set AWS_REGION to the cluster's region")]
    NoRegion,
}

impl EksAuth {
    /// Creates a client. The environment provides region and credentials if the configuration has none. `calls` counts
    /// the calls. `readiness` is updated with each response.
    ///
    /// # Errors
    /// [`EksAuthSetupError`] if the CA file cannot be read, or if no region is configured.
    pub async fn new(
        destination: EksAuthConfig,
        calls: CallCounter,
        readiness: Readiness,
    ) -> Result<Self, EksAuthSetupError> {
        let sdk_config = match destination.sdk_config {
            Some(config) => config,
            None => environment_config(&destination).await?,
        };
        if sdk_config.region().is_none() {
            return Err(EksAuthSetupError::NoRegion);
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(1500))
            .operation_attempt_timeout(ATTEMPT_DEADLINE)
            .build();
        // The SDK must not repeat a call, also with AWS_MAX_ATTEMPTS: the credential service does.
        let mut config = aws_sdk_eksauth::config::Builder::from(&sdk_config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        config.set_endpoint_url(destination.endpoint);
        let own_token = match destination.agent_auth {
            AgentAuth::SigV4 | AgentAuth::SigV4RotatedFile => None,
            AgentAuth::Token { file } => {
                config = config.allow_no_auth();
                Some(AgentTokenFile::new(file).await)
            }
        };
        Ok(Self { client: Client::from_conf(config.build()), own_token, calls, readiness })
    }
}

async fn environment_config(destination: &EksAuthConfig) -> Result<SdkConfig, EksAuthSetupError> {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(destination.outbound.sdk_client_with_late_ca(destination.endpoint.as_deref())?);
    let loader = match destination.agent_auth {
        AgentAuth::SigV4 => loader,
        AgentAuth::SigV4RotatedFile => loader.credentials_provider(rotated_file::chain().await),
        // The SDK requires a region. Without a signature its value has no effect.
        AgentAuth::Token { .. } => loader.no_credentials().region(aws_config::Region::new("us-east-1")),
    };
    Ok(loader.load().await)
}

impl CredentialSource for EksAuth {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            let call = self.calls.call();
            let issued = self.exchange(request).await;
            readiness::update(&self.readiness, issued.as_ref().err());
            let issued = issued.map_err(CredentialError::from);
            call.ended(issued.as_ref().err());
            issued
        })
    }
}

impl EksAuth {
    async fn exchange(&self, request: &CredentialRequest) -> Result<SessionCredentials, ExchangeError> {
        let call = self
            .client
            .assume_role_for_pod_identity()
            .cluster_name(request.cluster().name.as_str())
            .token(request.token().bearer().expose());
        let mut call = call.customize();
        if let Some(file) = &self.own_token {
            call = call.interceptor(file.read().await?);
        }
        let credentials = issued(call.send().await?, request.identity())?;
        tracing::debug!(
            namespace = %request.identity().namespace,
            service_account = %request.identity().service_account,
            pod = %request.identity().pod.name,
            access_key_id = credentials.access_key_id(),
            "credentials fetched"
        );
        Ok(credentials)
    }
}

/// Reads a response for a pod. Credentials of another service account are an error.
fn issued(
    response: AssumeRoleForPodIdentityOutput,
    pod: &WorkloadIdentity,
) -> Result<SessionCredentials, ExchangeError> {
    let subject = response.subject.ok_or(ExchangeError::Incomplete("subject"))?;
    let credentials = response.credentials.ok_or(ExchangeError::Incomplete("credentials"))?;
    let user = response.assumed_role_user.ok_or(ExchangeError::Incomplete("assumedRoleUser"))?;
    let namespace: Namespace =
        subject.namespace.parse().map_err(|_| ExchangeError::Incomplete("subject.namespace"))?;
    let service_account: ServiceAccount =
        subject.service_account.parse().map_err(|_| ExchangeError::Incomplete("subject.serviceAccount"))?;
    if (&namespace, &service_account) != (&pod.namespace, &pod.service_account) {
        let issued = format!("{namespace}/{service_account}");
        return Err(ExchangeError::OtherSubject { wanted: pod.to_string(), issued });
    }
    let credentials = SessionCredentials::from_response(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        SystemTime::try_from(credentials.expiration).ok(),
    )
    .map_err(|MissingField(name)| ExchangeError::Incomplete(name))?;
    // The ARN is optional for pods, so an ARN in another form is not an error.
    Ok(match user.arn.parse::<AssumedRoleArn>() {
        Ok(arn) => credentials.with_assumed_role(AssumedRole { arn, id: user.assume_role_id }),
        Err(_) => credentials,
    })
}

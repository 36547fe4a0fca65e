//! Calls to STS: assumes the roles of a session plan with the service's own principal.

mod error;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::IdentityCache;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::operation::assume_role::AssumeRoleOutput;
use aws_sdk_sts::types::Tag;
use pod_identity_core::arn::AssumedRoleArn;
use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::backoff::{Backoff, random_fraction};
use pod_identity_core::credentials::{AssumedRole, MissingField, SessionCredentials};
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::CredentialError;
use pod_identity_core::session::{RoleSession, SessionPlan, SessionTag};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The readiness condition that STS has answered.
pub(crate) const STS_CONDITION: &str = "sts";

/// Maximum time of a call with its repetitions. The agent of this project waits 10 s.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(9);

/// Pauses between attempts to get the caller identity.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));

/// Calls STS with the service's own principal.
#[derive(Debug)]
pub struct StsClient {
    client: Client,
    /// Whether the service's principal is a role session, so that its sessions are chained. Set after STS has named it.
    chained: OnceLock<bool>,
    readiness: Readiness,
    seconds: Histogram,
    calls: Family<CallLabels, Counter>,
}

/// Labels of a call: its error code, or `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    code: &'static str,
}

/// Makes a client with the credentials, region and endpoint of the environment.
///
/// # Errors
/// [`StsSetupError`] if the CA file cannot be read, if there is no CA certificate for https, or if no region is configured.
pub async fn client_from_environment(outbound: &Outbound) -> Result<Client, StsSetupError> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_STS").ok();
    let http_client = outbound.sdk_client(endpoint.as_deref())?;
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client).load().await;
    if config.region().is_none() {
        return Err(StsSetupError::NoRegion);
    }
    Ok(client(&config))
}

/// Maximum pause before the first repetition. Later pauses double. Some SDKs in pods wait only a second for a response,
/// as long as the default of this pause.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Makes a client whose calls end before the agent stops waiting.
pub fn client(config: &SdkConfig) -> Client {
    let timeouts = aws_sdk_sts::config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(CALL_DEADLINE)
        .build();
    let retries = config.retry_config().cloned().unwrap_or_else(RetryConfig::standard);
    let config = aws_sdk_sts::config::Builder::from(config)
        .timeout_config(timeouts)
        .retry_config(retries.with_initial_backoff(FIRST_BACKOFF));
    Client::from_conf(config.build())
}

/// Why an STS client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StsSetupError {
    /// The CA file or the proxy settings cannot be used.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// Calls to STS need a region.
    #[error("no AWS region is configured: set AWS_REGION to the region of the STS to call")]
    NoRegion,
}

impl StsClient {
    /// Makes a client for calls through `client`. Registers `pod_identity_sts_seconds` and
    /// `pod_identity_sts_calls_total`.
    pub fn new(client: Client, readiness: Readiness, registry: &mut Registry) -> Self {
        let seconds = Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        registry.register(
            "pod_identity_sts_seconds",
            "Time of an AssumeRole call, in seconds",
            seconds.clone(),
        );
        let calls = Family::default();
        registry.register("pod_identity_sts_calls", "AssumeRole calls, by error code or ok", calls.clone());
        Self { client, chained: OnceLock::new(), readiness, seconds, calls }
    }

    /// Creates the session of a plan with one call, or with two for a target role.
    ///
    /// # Errors
    /// [`CredentialError`] of the call that failed.
    pub async fn assume(&self, plan: &SessionPlan) -> Result<SessionCredentials, CredentialError> {
        let first = self.assume_role(plan, &plan.role, None).await;
        self.update_readiness(&first);
        match &plan.target {
            None => first,
            Some(target) => self.assume_role(plan, target, Some(first?)).await.map_err(error::of_target),
        }
    }

    /// Updates the condition `sts`. Only calls with the service's own credentials count: STS may throttle the AWS
    /// account of the first role for other reasons.
    fn update_readiness(&self, issued: &Result<SessionCredentials, CredentialError>) {
        match issued {
            Err(error) => match error.code() {
                ErrorCode::UpstreamUnavailable | ErrorCode::OwnCredentials | ErrorCode::Throttled => {
                    self.readiness.unmet(STS_CONDITION, error.message());
                }
                ErrorCode::Internal | ErrorCode::SubjectMismatch => {}
                _ => self.readiness.met(STS_CONDITION),
            },
            Ok(_) => self.readiness.met(STS_CONDITION),
        }
    }

    /// Calls `GetCallerIdentity` until STS responds, and warns about sessions that will be shorter than configured.
    pub async fn identify(&self, associations: &AssociationTable, mut shutdown: Shutdown) {
        for failures in 1.. {
            match self.client.get_caller_identity().send().await {
                Ok(response) => {
                    let arn = response.arn.unwrap_or_default();
                    let role_session = *self.chained.get_or_init(|| arn.contains(":assumed-role/"));
                    tracing::info!(arn, role_session, "service principal identified");
                    self.warn_of_long_sessions(associations);
                    return self.readiness.met(STS_CONDITION);
                }
                Err(error) => self.readiness.unmet(STS_CONDITION, chain(&error)),
            }
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(PAUSES.around(failures, random_fraction())) => {}
            }
        }
    }

    /// Warns about each association whose sessions will be shorter than configured.
    pub fn warn_of_long_sessions(&self, associations: &AssociationTable) {
        if self.chained.get() != Some(&true) {
            return;
        }
        for (cluster, association) in associations.iter() {
            if association.duration.is_some_and(|duration| duration > Association::DEFAULT_DURATION) {
                tracing::warn!(
                    cluster = %cluster.name,
                    association = %association.id,
                    "durationSeconds is limited to 3600: the principal of this service is a role session, and chained \
                    sessions last an hour at most"
                );
            }
        }
    }

    async fn assume_role(
        &self,
        plan: &SessionPlan,
        session: &RoleSession,
        with: Option<SessionCredentials>,
    ) -> Result<SessionCredentials, CredentialError> {
        let tag = |tag: &SessionTag| {
            Tag::builder().key(tag.key).value(&tag.value).build().map_err(error::unbuildable)
        };
        let tags = session.tags.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<String> = session.tags.iter().map(|tag| tag.key.to_owned()).collect();
        let request = self
            .client
            .assume_role()
            .role_arn(session.role.as_str())
            .role_session_name(session.name.as_str())
            .duration_seconds(self.duration(session))
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()))
            .set_transitive_tag_keys(Some(keys).filter(|keys| !keys.is_empty()))
            .set_policy(session.policy.clone())
            .set_external_id(session.external_id.clone());
        let started = clock::monotonic();
        let response = match with {
            None => request.send().await,
            Some(credentials) => {
                // These credentials are for one call, so an identity cache is useless.
                let config = aws_sdk_sts::config::Builder::new()
                    .credentials_provider(sdk_credentials(&credentials))
                    .identity_cache(IdentityCache::no_cache());
                request.customize().config_override(config).send().await
            }
        };
        self.seconds.observe(started.elapsed().as_secs_f64());
        let issued = response
            .map_err(|error| error::of_call(plan, session, &error))
            .and_then(|response| credentials(response, session));
        let code = issued.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        self.calls.get_or_create(&CallLabels { code }).inc();
        issued
    }

    /// Returns the duration to request, in seconds. It is an hour at most unless STS has named a principal that is not
    /// a role session (IAM user guide, *Role chaining*).
    fn duration(&self, session: &RoleSession) -> i32 {
        let chained = *self.chained.get().unwrap_or(&true);
        let longest = if chained { Association::DEFAULT_DURATION } else { Duration::MAX };
        i32::try_from(session.duration.min(longest).as_secs()).unwrap_or(i32::MAX)
    }
}

fn sdk_credentials(credentials: &SessionCredentials) -> Credentials {
    Credentials::new(
        credentials.access_key_id(),
        credentials.secret_access_key(),
        Some(credentials.session_token().to_owned()),
        Some(credentials.expires_at()),
        "pod-identity-auth",
    )
}

/// Reads a response. A session other than the requested one is an error.
fn credentials(
    response: AssumeRoleOutput,
    session: &RoleSession,
) -> Result<SessionCredentials, CredentialError> {
    let credentials = response.credentials.ok_or_else(|| error::incomplete("Credentials"))?;
    let user = response.assumed_role_user.ok_or_else(|| error::incomplete("AssumedRoleUser"))?;
    let arn: AssumedRoleArn = user.arn.parse().map_err(|_| error::incomplete("AssumedRoleUser.Arn"))?;
    let requested = session.role.session(session.name.as_str());
    if arn.as_str() != requested {
        let message = format!("STS issued the session {arn}, but {requested} was requested");
        return Err(CredentialError::new(ErrorCode::SubjectMismatch, message));
    }
    let credentials = SessionCredentials::from_response(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        SystemTime::try_from(credentials.expiration).ok(),
    )
    .map_err(|MissingField(name)| error::incomplete(name))?;
    Ok(credentials.with_assumed_role(AssumedRole { arn, id: user.assumed_role_id }))
}

//! STS: assumes the roles of a session plan with the service's own principal.

mod principal;
mod error;

pub use error::StsError;
pub use principal::CallerIdentity;
pub(crate) use principal::STS_CONDITION;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::IdentityCache;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::operation::assume_role::AssumeRoleOutput;
use aws_sdk_sts::types::Tag;
use pod_identity_core::arn::AssumedRoleArn;
use pod_identity_core::association::Association;
use pod_identity_core::cache::Expires;
use pod_identity_core::credentials::{MissingMember, SessionCredentials};
use pod_identity_core::error::ErrorCode;
use pod_identity_core::session::{RoleSession, SessionPlan};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What STS gave for a pod.
#[derive(Debug, Clone)]
pub struct RoleSessionCredentials {
    /// The credentials.
    pub credentials: SessionCredentials,
    /// The ARN that the session acts under.
    pub assumed_role_arn: AssumedRoleArn,
    /// `<role id>:<session>`.
    pub assumed_role_id: String,
}

impl Expires for RoleSessionCredentials {
    fn expires_at(&self) -> SystemTime {
        self.credentials.expires_at
    }
}

/// STS, and who the service is there.
#[derive(Debug)]
pub struct Sts {
    client: Client,
    caller: ArcSwapOption<CallerIdentity>,
    readiness: Readiness,
    seconds: Histogram,
    calls: Family<Call, Counter>,
}

/// Labels of a call: its error code, or `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    code: &'static str,
}

/// A client with the credentials, region and endpoint of the environment.
///
/// # Errors
/// Where the CA file cannot be read, or no region is configured.
pub async fn client_from_environment(outbound: &Outbound) -> Result<Client, StsSetupError> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_STS").ok();
    let http_client = outbound.toward(endpoint.as_deref()).sdk_client()?;
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client).load().await;
    if config.region().is_none() {
        return Err(StsSetupError::NoRegion);
    }
    Ok(client(&config))
}

/// The longest pause before the first repetition; it doubles. The SDK's own second would be as long as
/// some pods wait in all.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// A client that gives up before the agent that waits for it does (10 s).
pub fn client(config: &SdkConfig) -> Client {
    let timeouts = aws_sdk_sts::config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(9))
        .build();
    let retries = config.retry_config().cloned().unwrap_or_else(RetryConfig::standard);
    let config = aws_sdk_sts::config::Builder::from(config)
        .timeout_config(timeouts)
        .retry_config(retries.with_initial_backoff(FIRST_BACKOFF));
    Client::from_conf(config.build())
}

/// Why there is no STS client.
#[derive(Debug, thiserror::Error)]
pub enum StsSetupError {
    /// Connections cannot be made.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// STS is asked in a region.
    #[error("no AWS region is configured: set AWS_REGION to the region whose STS is to be asked")]
    NoRegion,
}

impl Sts {
    /// Calls STS through this client. Registers `pod_identity_sts_seconds` and `pod_identity_sts_calls_total`.
    pub fn new(client: Client, readiness: Readiness, registry: &mut Registry) -> Self {
        let seconds = Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        registry.register(
            "pod_identity_sts_seconds",
            "Time of an AssumeRole call, in seconds",
            seconds.clone(),
        );
        let calls = Family::default();
        registry.register("pod_identity_sts_calls", "AssumeRole calls, by error code or ok", calls.clone());
        Self { client, caller: ArcSwapOption::empty(), readiness, seconds, calls }
    }

    /// Who the service is, once STS has said so.
    pub fn caller(&self) -> Option<Arc<CallerIdentity>> {
        self.caller.load_full()
    }

    /// Makes the session of a plan: one call, or two with a target role.
    ///
    /// # Errors
    /// [`StsError`] for the call that failed.
    pub async fn assume(&self, plan: &SessionPlan) -> Result<RoleSessionCredentials, StsError> {
        let explained = |error: StsError| error.with_size(plan.packed_size());
        let first = self.assume_role(&plan.role, None).await;
        self.observe(&first);
        let first = first.map_err(explained)?;
        match &plan.target {
            None => Ok(first),
            Some(target) => {
                let answer = self.assume_role(target, Some(first.credentials)).await;
                answer.map_err(|error| explained(error.of_target_call()))
            }
        }
    }

    /// Updates the condition `sts`. Only a call with the service's own credentials counts: the AWS account of a
    /// target role may throttle for other reasons.
    fn observe(&self, answer: &Result<RoleSessionCredentials, StsError>) {
        match answer {
            Err(error) => match error.code() {
                ErrorCode::UpstreamUnavailable | ErrorCode::OwnCredentials | ErrorCode::Throttled => {
                    self.readiness.unmet(STS_CONDITION, error.to_string());
                }
                ErrorCode::Internal => {}
                _ => self.readiness.met(STS_CONDITION),
            },
            Ok(_) => self.readiness.met(STS_CONDITION),
        }
    }

    async fn assume_role(
        &self,
        session: &RoleSession,
        with: Option<SessionCredentials>,
    ) -> Result<RoleSessionCredentials, StsError> {
        let tag = |tag: &pod_identity_core::session::SessionTag| {
            Tag::builder().key(tag.key).value(&tag.value).build().map_err(StsError::unbuildable)
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
        let answer = match with {
            None => request.send().await,
            Some(credentials) => {
                // One call, one set of credentials: nothing to keep in an identity cache.
                let config = aws_sdk_sts::config::Builder::new()
                    .credentials_provider(sdk_credentials(&credentials))
                    .identity_cache(IdentityCache::no_cache());
                request.customize().config_override(config).send().await
            }
        };
        self.seconds.observe(started.elapsed().as_secs_f64());
        let answer =
            answer.map_err(|error| StsError::assume_role(&session.role, &error)).and_then(role_session);
        let code = answer.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        self.calls.get_or_create(&Call { code }).inc();
        answer
    }

    /// What to ask for: no more than an hour, unless it is known that the caller is no role session
    /// itself (STS, *Role chaining*: at most one hour).
    fn duration(&self, session: &RoleSession) -> i32 {
        let chained = self.caller.load().as_ref().is_none_or(|caller| caller.is_role_session());
        let longest = if chained { Association::DEFAULT_DURATION } else { Duration::MAX };
        i32::try_from(session.duration.min(longest).as_secs()).unwrap_or(i32::MAX)
    }
}

fn sdk_credentials(credentials: &SessionCredentials) -> Credentials {
    Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key.as_str(),
        Some(credentials.session_token.as_str().to_owned()),
        Some(credentials.expires_at),
        "pod-identity-auth",
    )
}

fn role_session(answer: AssumeRoleOutput) -> Result<RoleSessionCredentials, StsError> {
    let credentials = answer.credentials.ok_or(StsError::Incomplete("Credentials"))?;
    let user = answer.assumed_role_user.ok_or(StsError::Incomplete("AssumedRoleUser"))?;
    let assumed_role_arn: AssumedRoleArn =
        user.arn.parse().map_err(|_| StsError::Incomplete("AssumedRoleUser.Arn"))?;
    let credentials = SessionCredentials::of_answer(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        SystemTime::try_from(credentials.expiration).ok(),
        Some(&assumed_role_arn),
    )
    .map_err(|MissingMember(name)| StsError::Incomplete(name))?;
    Ok(RoleSessionCredentials { credentials, assumed_role_arn, assumed_role_id: user.assumed_role_id })
}

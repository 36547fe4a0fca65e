//! Web identity (IRSA): STS exchanges the pod's token.

mod attempts;
mod endpoint;
mod proxy;

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sts::Client;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentityError, AssumeRoleWithWebIdentityOutput,
};
use pod_identity_core::arn::AssumedRoleArn;
use pod_identity_core::credentials::{MissingField, SessionCredentials};

use crate::environment::{self as env, Environment};
use crate::error::{Error, StsError, StsFailure, chain, one_line};
use crate::token_file;
use crate::transport::Transport;

use attempts::Attempts;

/// The provider name in the credentials.
const PROVIDER_NAME: &str = "WebIdentity";
/// The length of a session name (STS API reference, *AssumeRoleWithWebIdentity*: 2 to 64 of `[\w+=,.@-]`).
const SESSION_NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=64;
/// The longest token that STS accepts (STS API reference, *AssumeRoleWithWebIdentity*, `WebIdentityToken`).
const MAX_TOKEN_LENGTH: usize = 20_000;
/// The session name if the pod's name is unknown.
const DEFAULT_SESSION_NAME: &str = "pod-identity-provider";

/// The source of credentials for IRSA: calls of STS.
#[derive(Debug)]
pub(crate) struct WebIdentityCredentials {
    sts: Result<Client, Error>,
    transport: Transport,
    role: String,
    session_name: String,
    token_file: String,
}

impl WebIdentityCredentials {
    /// Returns a source for the role and the token of the environment. The first request reports an invalid environment.
    pub(crate) fn new(environment: &Environment, transport: Transport) -> Self {
        let variable = |name| environment.get(name).unwrap_or_default().to_owned();
        Self {
            sts: endpoint::client(environment, &transport),
            role: variable(env::ROLE_ARN),
            session_name: session_name(environment),
            token_file: variable(env::WEB_IDENTITY_TOKEN_FILE),
            transport,
        }
    }

    async fn fetch(&self) -> Result<Credentials, Error> {
        let sts = self.sts.as_ref().map_err(Clone::clone)?;
        self.transport.check_runtime()?;
        // Each fetch reads the token, because kubelet replaces it before it expires.
        let token = token_file::read(env::WEB_IDENTITY_TOKEN_FILE, &self.token_file, MAX_TOKEN_LENGTH)?;
        let call = sts
            .assume_role_with_web_identity()
            .role_arn(&self.role)
            .role_session_name(&self.session_name)
            .web_identity_token(token.as_str());
        let attempts = Attempts::default();
        let response = call.customize().interceptor(attempts.clone()).send().await;
        let session = response.map_err(|error| failure(&error, &attempts, &token)).and_then(credentials);
        session.map_err(|failure| Error::Sts(StsError { role: self.role.clone(), failure }))
    }
}

impl ProvideCredentials for WebIdentityCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.fetch().await.map_err(CredentialsError::from) })
    }
}

/// Returns the session name. All sessions of a pod have the same name, so that CloudTrail shows one name per pod.
fn session_name(environment: &Environment) -> String {
    if let Some(name) = environment.get(env::ROLE_SESSION_NAME) {
        return name.to_owned();
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let host = environment.get(env::CONTAINER_HOST_NAME).unwrap_or_default();
    let name: String =
        host.chars().take(*SESSION_NAME_LENGTH.end()).map(|c| if allowed(c) { c } else { '-' }).collect();
    if SESSION_NAME_LENGTH.contains(&name.len()) { name } else { DEFAULT_SESSION_NAME.to_owned() }
}

/// Classifies a failed call.
fn failure<R: std::fmt::Debug + 'static>(
    error: &SdkError<AssumeRoleWithWebIdentityError, R>,
    attempts: &Attempts,
    token: &str,
) -> StsFailure {
    let printable = |text: &str| one_line(&token_file::redact(token, text));
    let refusal = match error {
        // The deadline ended this attempt early, so the previous refusal is more useful.
        SdkError::ServiceError(_) | SdkError::TimeoutError(_) => attempts.refusal(),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return StsFailure::Refused { code: printable(&refusal.code), message: printable(&refusal.message) };
    }
    let reason = printable(&chain(error));
    match error {
        SdkError::TimeoutError(_) => StsFailure::NoResponse { reason },
        _ if attempts.any_sent() => StsFailure::NoResponse { reason },
        _ => StsFailure::NotSent { reason },
    }
}

fn credentials(response: AssumeRoleWithWebIdentityOutput) -> Result<Credentials, StsFailure> {
    session(response)
        .map_err(|missing| StsFailure::Malformed { reason: missing.to_string() })
        .map(|session| sdk_credentials(&session))
}

fn session(response: AssumeRoleWithWebIdentityOutput) -> Result<SessionCredentials, MissingField> {
    let role = response.assumed_role_user.and_then(|user| user.arn.parse::<AssumedRoleArn>().ok());
    let credentials = response.credentials.ok_or(MissingField("credentials"))?;
    let session = SessionCredentials::from_response(
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        credentials.expiration.try_into().ok(),
    )?;
    Ok(match role {
        Some(role) => session.with_account(role.account().clone()),
        None => session,
    })
}

/// Converts a session to SDK credentials. Sets the features that the SDK reports to AWS in its user agent.
fn sdk_credentials(session: &SessionCredentials) -> Credentials {
    let mut credentials = Credentials::builder()
        .access_key_id(session.access_key_id())
        .secret_access_key(session.secret_access_key())
        .session_token(session.session_token())
        .expiry(session.expires_at())
        .provider_name(PROVIDER_NAME);
    credentials.set_account_id(session.account().map(|account_id| account_id.as_str().into()));
    let mut credentials = credentials.build();
    let features = credentials.get_property_mut_or_default::<Vec<AwsCredentialFeature>>();
    features.push(AwsCredentialFeature::CredentialsEnvVarsStsWebIdToken);
    features.push(AwsCredentialFeature::CredentialsStsAssumeRoleWebId);
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_name_of(variables: &[(&str, &str)]) -> String {
        session_name(&variables.iter().copied().collect())
    }

    #[test]
    fn session_name_is_the_variable_or_the_pods_name() {
        let pod = (env::CONTAINER_HOST_NAME, "shop-5d8f7c-x2x4z");
        assert_eq!(session_name_of(&[(env::ROLE_SESSION_NAME, "told"), pod]), "told");
        assert_eq!(session_name_of(&[pod]), "shop-5d8f7c-x2x4z");
        assert_eq!(session_name_of(&[]), DEFAULT_SESSION_NAME);
    }

    #[test]
    fn invalid_characters_of_the_host_name_are_replaced() {
        let host = |name: &str| session_name_of(&[(env::CONTAINER_HOST_NAME, name)]);
        assert_eq!(host("a"), DEFAULT_SESSION_NAME);
        assert_eq!(host("my host/ä"), "my-host--");
        assert_eq!(host(&"x".repeat(100)), "x".repeat(64));
        assert_eq!(host(&"ä".repeat(100)), "-".repeat(64));
    }
}

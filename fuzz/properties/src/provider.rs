//! Responses of an agent to the provider.

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials as _;
use pod_identity_provider::{Environment, PodIdentityCredentialsProvider, Refresh};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::input::{CannedResponse, Server, runtime};

thread_local! {
    static RUNTIME: Runtime = runtime();
}

/// The input is an HTTP response. Credentials come only from a response with status 200 that contains them, and equal
/// those in the response. No error and no `Debug` output contains its secrets.
pub fn provider(input: &[u8]) {
    let Some(response) = CannedResponse::parse(input) else { return };
    let server = Server::new(response.clone());
    let provider = PodIdentityCredentialsProvider::builder()
        .environment(
            Environment::default()
                .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
                .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a.b.c"),
        )
        .http_client(server.client())
        .refresh(Refresh::OnRequest)
        .deadline(Duration::from_millis(20)) // usually one attempt, because each response is the same
        .build();
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let member = |name: &str| body.as_ref().and_then(|body| body[name].as_str());
    match RUNTIME.with(|runtime| runtime.block_on(provider.provide_credentials())) {
        Ok(credentials) => {
            assert_eq!(response.status, 200);
            assert_eq!(member("AccessKeyId"), Some(credentials.access_key_id()));
            assert_eq!(member("SecretAccessKey"), Some(credentials.secret_access_key()));
            assert_eq!(member("Token"), credentials.session_token());
            assert!(credentials.expiry().is_some() && credentials.session_token().is_some());
            assert!(!credentials.access_key_id().is_empty() && !credentials.secret_access_key().is_empty());
            assert_keeps(&response, &member, &format!("{provider:?}"));
        }
        Err(error) => {
            let mut text = format!("{error:?} {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&error.to_string());
                cause = error.source();
            }
            assert_keeps(&response, &member, &text);
        }
    }
}

/// Checks that the text contains no secret of the response. A value that occurs twice in the response may be in its
/// message, too, so it does not count.
fn assert_keeps<'a>(response: &CannedResponse, member: &impl Fn(&str) -> Option<&'a str>, text: &str) {
    for name in ["SecretAccessKey", "Token"] {
        let Some(secret) = member(name).filter(|secret| secret.len() >= 16) else { continue };
        let once = String::from_utf8_lossy(&response.body).matches(secret).count() == 1;
        assert!(!once || !text.contains(secret), "{name} is in {text}");
    }
}

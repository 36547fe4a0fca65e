//! Requests outside a tokio runtime.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider as Provider};

use crate::script::ScriptedClient;

/// An endpoint that needs no token.
const AGENT: (&str, &str) = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.2/v1/credentials");

/// A sleep implementation without a runtime. Its sleeps never end.
#[derive(Debug)]
struct PendingSleep;

impl AsyncSleep for PendingSleep {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

/// Polls a request once and returns its result. Panics if the request waits.
fn poll_once(provider: &Provider) -> Result<Credentials, Error> {
    let credentials = pin!(provider.credentials());
    match credentials.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the request waits"),
    }
}

fn assert_needs_a_runtime(provider: &Provider) {
    let error = poll_once(provider).unwrap_err();
    assert!(matches!(error, Error::Runtime(_)) && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("sleep_impl"), "{error}");
}

fn agent() -> ScriptedClient {
    let body = r#"{"AccessKeyId":"ASIAAGENT","SecretAccessKey":"secret","Token":"token",
                   "Expiration":"2999-01-01T00:00:00Z"}"#;
    ScriptedClient::new([(200, body.to_owned())])
}

#[test]
fn default_client_needs_a_runtime() {
    assert_needs_a_runtime(&Provider::builder().environment([AGENT].into_iter().collect()).build());
    let builder = Provider::builder().environment([AGENT].into_iter().collect()).sleep_impl(PendingSleep);
    assert_needs_a_runtime(&builder.build());
}

#[test]
fn custom_client_outside_a_runtime_needs_a_custom_sleep_implementation() {
    let script = agent();
    let builder =
        || Provider::builder().environment([AGENT].into_iter().collect()).http_client(script.clone());
    assert_needs_a_runtime(&builder().build());
    assert!(script.requested_urls().is_empty());
    assert_eq!(poll_once(&builder().sleep_impl(PendingSleep).build()).unwrap().access_key_id(), "ASIAAGENT");
}

#[test]
fn fallback_is_called_outside_a_runtime() {
    let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
    let provider = Provider::builder().environment(Environment::default()).or_else("own", own).build();
    assert_eq!(poll_once(&provider).unwrap().access_key_id(), "AKIADEVELOPER");
}

#[cfg(feature = "irsa")]
#[test]
fn sts_is_called_outside_a_runtime_with_a_custom_client_and_sleep_implementation() {
    use pod_identity_provider::Method;

    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let sts = ScriptedClient::new([(200, crate::script::session("secret"))]);
    let builder = || {
        Provider::builder()
            .environment(crate::script::irsa(token.path()).into_iter().collect())
            .methods([Method::WebIdentity])
            .http_client(sts.clone())
    };
    assert_needs_a_runtime(&builder().build());
    assert_eq!(
        poll_once(&builder().sleep_impl(PendingSleep).build()).unwrap().access_key_id(),
        "ASIAFETCHED"
    );
}

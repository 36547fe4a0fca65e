//! Requests outside a tokio runtime: what works without one, and what is said where it does not.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider as Provider};

use crate::script::Script;

const AGENT: (&str, &str) = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");

/// A sleep of no runtime, in which no time passes.
#[derive(Debug)]
struct Still;

impl AsyncSleep for Still {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

/// What comes of a request whose every step is done at once.
fn ask(provider: &Provider) -> Result<Credentials, CredentialsError> {
    let credentials = pin!(provider.credentials());
    match credentials.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for a runtime, or for credentials"),
    }
}

fn lacks_a_runtime(provider: &Provider) {
    let error = ask(provider).unwrap_err();
    let error = Error::of(&error).unwrap();
    assert!(matches!(error, Error::NoRuntime), "{error:?}");
    assert!(error.to_string().contains("sleep_impl"), "{error}");
}

fn agent() -> Script {
    let body = r#"{"AccessKeyId":"ASIAAGENT","SecretAccessKey":"secret","Token":"token",
                   "Expiration":"2999-01-01T00:00:00Z"}"#;
    Script::new([(200, body.to_owned())])
}

#[test]
fn the_sdks_own_client_wants_a_runtime() {
    lacks_a_runtime(&Provider::builder().environment([AGENT].into_iter().collect()).build());
    let sleeps = Provider::builder().environment([AGENT].into_iter().collect()).sleep_impl(Still);
    lacks_a_runtime(&sleeps.build());
}

#[test]
fn a_client_that_needs_none_wants_a_sleep_that_needs_none() {
    let script = agent();
    let builder =
        || Provider::builder().environment([AGENT].into_iter().collect()).http_client(script.clone());
    lacks_a_runtime(&builder().build());
    assert!(script.asked().is_empty());
    assert_eq!(ask(&builder().sleep_impl(Still).build()).unwrap().access_key_id(), "ASIAAGENT");
}

#[test]
fn another_provider_is_asked_without_timers_where_there_are_none() {
    let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
    let provider = Provider::builder().environment(Environment::default()).or_else("own", own).build();
    assert_eq!(ask(&provider).unwrap().access_key_id(), "AKIADEVELOPER");
}

#[cfg(feature = "irsa")]
#[test]
fn sts_is_asked_without_a_runtime_by_a_client_and_a_sleep_that_need_none() {
    use pod_identity_provider::Method;

    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "the-pods-token").unwrap();
    let sts = Script::new([(200, crate::script::session("secret"))]);
    let builder = || {
        Provider::builder()
            .environment(crate::script::irsa(token.path()).into_iter().collect())
            .methods([Method::WebIdentity])
            .http_client(sts.clone())
    };
    lacks_a_runtime(&builder().build());
    assert_eq!(ask(&builder().sleep_impl(Still).build()).unwrap().access_key_id(), "ASIAFETCHED");
}

//! Requests outside a tokio runtime.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider as Provider};

use crate::script::Script;

/// Of a container without a token.
const AGENT: (&str, &str) = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.2/v1/credentials");

/// A sleep without a runtime, in which no time passes.
#[derive(Debug)]
struct Still;

impl AsyncSleep for Still {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::pending())
    }
}

/// Returns the result of a request that never waits.
fn ask(provider: &Provider) -> Result<Credentials, Error> {
    let credentials = pin!(provider.credentials());
    match credentials.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for a runtime, or for credentials"),
    }
}

fn lacks_a_runtime(provider: &Provider) {
    let error = ask(provider).unwrap_err();
    assert!(matches!(error, Error::Runtime(_)) && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("sleep_impl"), "{error}");
}

fn agent() -> Script {
    let body = r#"{"AccessKeyId":"ASIAAGENT","SecretAccessKey":"secret","Token":"token",
                   "Expiration":"2999-01-01T00:00:00Z"}"#;
    Script::new([(200, body.to_owned())])
}

#[test]
fn the_sdks_own_client_needs_a_runtime() {
    lacks_a_runtime(&Provider::builder().environment([AGENT].into_iter().collect()).build());
    let sleeps = Provider::builder().environment([AGENT].into_iter().collect()).sleep_impl(Still);
    lacks_a_runtime(&sleeps.build());
}

#[test]
fn a_client_without_a_runtime_needs_a_sleep_without_one() {
    let script = agent();
    let builder =
        || Provider::builder().environment([AGENT].into_iter().collect()).http_client(script.clone());
    lacks_a_runtime(&builder().build());
    assert!(script.asked().is_empty());
    assert_eq!(ask(&builder().sleep_impl(Still).build()).unwrap().access_key_id(), "ASIAAGENT");
}

#[test]
fn the_fallback_is_called_without_a_deadline_where_there_are_no_timers() {
    let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
    let provider = Provider::builder().environment(Environment::default()).or_else("own", own).build();
    assert_eq!(ask(&provider).unwrap().access_key_id(), "AKIADEVELOPER");
}

#[cfg(feature = "irsa")]
#[test]
fn sts_is_called_without_a_runtime_by_a_client_and_a_sleep_that_need_none() {
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

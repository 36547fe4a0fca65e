//! Errors that programs print, and warnings at start.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};
use pod_identity_runtime::clock;

use crate::log::Log;

const DEADLINE: Duration = Duration::from_secs(2);
/// Tolerance for a busy machine.
const TOLERANCE: Duration = Duration::from_millis(900);

/// Returns a provider that calls an agent at this address.
fn provider(agent: SocketAddr) -> PodIdentityCredentialsProvider {
    let uri = format!("http://{agent}/v1/credentials");
    let environment = Environment::default()
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-pods-token");
    PodIdentityCredentialsProvider::builder().environment(environment).deadline(DEADLINE).build()
}

/// The program of README.md, which calls STS with the SDK's default retries. `checks_first` enables its first statement,
/// the call of `credentials`.
async fn program(
    provider: PodIdentityCredentialsProvider,
    checks_first: bool,
) -> Result<(), Box<dyn StdError>> {
    if checks_first {
        provider.credentials().await?;
    }
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(provider.clone())
        .identity_cache(provider.identity_cache())
        .load()
        .await;
    aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
    Ok(())
}

/// Asserts that the program fails within the deadline and prints cause and fix.
async fn assert_program_prints(agent: SocketAddr, cause: &str, fix: &str) {
    for checks_first in [true, false] {
        let begun = clock::monotonic();
        let error = program(provider(agent), checks_first).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took < DEADLINE + TOLERANCE, "after {took:?}: {error:?}");
        // The output of a `main` that returns the error.
        let printed = format!("Error: {error:?}");
        assert!(printed.contains(cause) && printed.contains(fix), "{printed}");
        assert!(!printed.contains('\n') && !printed.contains("the-pods-token"), "{printed}");
        let own = Error::of(&*error).unwrap();
        assert!(printed.contains(&own.to_string()), "{printed}");
        // `{}` of the SDK's errors prints no cause.
        let display = error.to_string();
        assert_eq!(display, if checks_first { own.to_string() } else { "dispatch failure".to_owned() });
    }
}

#[tokio::test]
async fn prints_cause_and_fix_within_the_deadline_while_the_agent_is_down() {
    // A bound port without a listener.
    let unused_port = tokio::net::TcpSocket::new_v4().unwrap();
    unused_port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let agent = unused_port.local_addr().unwrap();
    let cause = "nothing listens there (connection refused)";
    assert_program_prints(agent, cause, "Start the program that serves credentials").await;
}

#[tokio::test]
async fn prints_cause_and_fix_within_the_deadline_while_the_agent_hangs() {
    // The kernel accepts connections, and no program answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = listener.local_addr().unwrap();
    assert_program_prints(agent, "no complete response within", "The program at this address is slow").await;
}

/// Creates a provider and returns its log.
fn log_of_start(variables: &[(&str, &str)], fallback: bool) -> String {
    let log = Log::default();
    tracing::subscriber::with_default(log.subscriber(), || {
        let environment = variables.iter().copied().collect();
        let builder = PodIdentityCredentialsProvider::builder().environment(environment);
        let own = Credentials::new("AKIADEVELOPER", "secret", None, None, "test");
        if fallback { builder.or_else("own", own) } else { builder }.build()
    });
    log.text()
}

#[test]
fn warns_at_start_about_ignored_static_keys_and_profiles() {
    let agent = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let static_keys = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "the-secret-key")];
    let profile = ("AWS_PROFILE", "developer");
    let warned = |log: &str, name: &str| {
        log.lines()
            .filter(|line| line.contains("WARN") && line.contains(&format!("ignored={name:?}")))
            .count()
    };
    for variables in [&[agent, static_keys[0], static_keys[1], profile][..], &[static_keys[0], profile]] {
        let log = log_of_start(variables, false);
        let names = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"];
        assert_eq!(names.map(|name| warned(&log, name)), [1, 1], "{log}");
        for value in ["AKIAEXAMPLE", "the-secret-key", "developer"] {
            assert!(!log.contains(value), "{log}");
        }
    }
    let without = log_of_start(&[agent, ("AWS_PROFILE", "")], false);
    // With a fallback there is no warning, because the fallback may use the variables.
    for log in [without, log_of_start(&[static_keys[0], profile], true)] {
        assert!(!log.contains("WARN"), "{log}");
    }
}

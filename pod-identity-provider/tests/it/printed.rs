//! Errors as programs print them, with the real SDK, and the warnings at start.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};
use pod_identity_runtime::clock;

use crate::log::Log;

const DEADLINE: Duration = Duration::from_secs(2);
/// For a machine that is busy.
const SLACK: Duration = Duration::from_millis(900);

/// A provider of an agent at that address.
fn provider(agent: SocketAddr) -> PodIdentityCredentialsProvider {
    let uri = format!("http://{agent}/v1/credentials");
    let environment = Environment::default()
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-pods-token");
    PodIdentityCredentialsProvider::builder().environment(environment).deadline(DEADLINE).build()
}

/// The program of README.md, which calls STS with the SDK's default retries. `checks` is its first call of `credentials`.
async fn program(provider: PodIdentityCredentialsProvider, checks: bool) -> Result<(), Box<dyn StdError>> {
    if checks {
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

/// Runs the program, which fails within the deadline, and checks what it prints.
async fn prints(agent: SocketAddr, cause: &str, fix: &str) {
    for checks in [true, false] {
        let begun = clock::monotonic();
        let error = program(provider(agent), checks).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took < DEADLINE + SLACK, "after {took:?}: {error:?}");
        // What `main` prints.
        let printed = format!("Error: {error:?}");
        assert!(printed.contains(cause) && printed.contains(fix), "{printed}");
        assert!(!printed.contains('\n') && !printed.contains("the-pods-token"), "{printed}");
        let own = Error::of(&*error).unwrap();
        assert!(printed.contains(&own.to_string()), "{printed}");
        // What a program prints with `{e}`: the SDK's errors print no cause.
        let display = error.to_string();
        assert_eq!(display, if checks { own.to_string() } else { "dispatch failure".to_owned() });
    }
}

#[tokio::test]
async fn with_the_agent_down_cause_and_fix_are_printed_within_the_deadline() {
    // A bound port without a listener.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let agent = nobody.local_addr().unwrap();
    prints(agent, "nothing listens there (connection refused)", "Start the program that gives credentials")
        .await;
}

#[tokio::test]
async fn with_an_agent_that_hangs_cause_and_fix_are_printed_within_the_deadline() {
    // It accepts connections and answers none.
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = hangs.local_addr().unwrap();
    prints(agent, "no complete response within", "The program there is slow: see its log").await;
}

/// The log of a provider's start.
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
fn static_keys_and_a_profile_that_are_ignored_are_a_warning_at_start() {
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
    // The fallback may use them.
    for log in [without, log_of_start(&[static_keys[0], profile], true)] {
        assert!(!log.contains("WARN"), "{log}");
    }
}

//! Time until a program has its first credentials, with this project's provider and with aws-config's. Each provider
//! is new, and uses plain HTTP and a new connection to the same server.
//!
//! There are two lines for aws-config. Its default client supports HTTPS and reads the system's certificates. The
//! client for HTTP only does the same work as ours.

use std::process::Command;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::rt::sleep::TokioSleep;
use pod_identity_runtime::clock;
use tokio::runtime::Builder;

use crate::Outcome;
use crate::measure::{Pairs, pin};
use crate::served::serve;

const ROUNDS: usize = 101;

/// Both providers read environment variables, and a running process cannot change its own.
pub(super) fn run() -> Outcome {
    let body = format!(
        r#"{{"AccessKeyId":"ASIAEXAMPLEEXAMPLE12","SecretAccessKey":"{}","Token":"{}","AccountId":"111122223333","Expiration":"2100-01-01T00:00:00Z"}}"#,
        "s".repeat(40),
        "t".repeat(1000)
    );
    let server = serve(|| async move { Ok(vec![crate::get::bare::serve(body.into_bytes()).await?]) })?;
    let status = Command::new(std::env::current_exe()?)
        .args([crate::RESOLVE_IN_OWN_PROCESS, "first-fetch"])
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/v1/credentials", server.addresses[0]))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "x".repeat(1000))
        .env_remove("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        .env_remove("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        .status()?;
    if status.success() { Ok(()) } else { Err("the process of the first fetches failed".into()) }
}

pub(super) fn in_own_process() -> Outcome {
    pin(0);
    let ours = || first_fetch(pod_identity_provider::default);
    let sdk = || first_fetch(http_only);
    Pairs::in_turn(ROUNDS, sdk, ours)?.print(
        "first credentials, time",
        "aws-config's with a client for HTTP only",
        "ours",
        "µs",
    );
    let sdk = || first_fetch(|| EcsCredentialsProvider::builder().build());
    Pairs::in_turn(ROUNDS, sdk, ours)?.print(
        "first credentials, time",
        "aws-config's with its default client",
        "ours",
        "µs",
    );
    Ok(())
}

fn http_only() -> EcsCredentialsProvider {
    let client = aws_smithy_http_client::Builder::new().build_http();
    let config = ProviderConfig::empty().with_http_client(client).with_sleep_impl(TokioSleep::new());
    EcsCredentialsProvider::builder().configure(&config).build()
}

fn first_fetch<P: ProvideCredentials>(
    provider: impl FnOnce() -> P,
) -> Result<f64, Box<dyn std::error::Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let started = clock::monotonic();
    let credentials = runtime.block_on(async { provider().provide_credentials().await })?;
    let took = started.elapsed();
    if credentials.account_id().is_none() {
        return Err("credentials without an AWS account".into());
    }
    Ok(took.as_secs_f64() * 1e6)
}

//! How long a program waits for its first credentials: this project's provider, and aws-config's, each made anew and
//! asking the same server over a connection of its own, by plain HTTP.
//!
//! aws-config's has two lines. By itself it takes the SDK's default client, which is for HTTPS too and reads the system's
//! certificates for that; with a client for HTTP alone it does what ours does.

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

/// The environment is what both read, and a process's own cannot be changed while it runs.
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
    let sdk = || first_fetch(http_alone);
    Pairs::in_turn(ROUNDS, sdk, ours)?.print(
        "first credentials, time",
        "aws-config's with a client for HTTP alone",
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

fn http_alone() -> EcsCredentialsProvider {
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
        return Err("credentials without an account".into());
    }
    Ok(took.as_secs_f64() * 1e6)
}

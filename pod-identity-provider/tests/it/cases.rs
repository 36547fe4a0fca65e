//! The test cases in `tests/cases`. Each has an environment, the HTTP traffic of an endpoint, and an expected result.

mod case;
mod client;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};

use crate::log::Log;
use crate::replay::{Endpoint, Reply};
use case::{Case, Client, Expected};
use client::{RedirectingClient, ScriptedDns};

/// The number of concurrent cases. It is low enough that no case exceeds its time limits.
const CONCURRENT_CASES: usize = 8;
const USER_AGENT: &str = concat!("pod-identity-provider/", env!("CARGO_PKG_VERSION"));

#[test]
fn all_cases_have_their_expected_result() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 40, "{} cases", folders.len());
    let queue = Mutex::new(folders.into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT_CASES {
            scope.spawn(|| {
                loop {
                    let Some(folder) = queue.lock().unwrap().next() else { return };
                    let found = Case::read(&folder).map_or_else(|error| vec![error], |case| run(&case));
                    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                    let found = found.into_iter().map(|failure| format!("{name}: {failure}"));
                    failures.lock().unwrap().extend(found);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a case on this thread with a log of its own. Returns the failures.
fn run(case: &Case) -> Vec<String> {
    match case.test.without_feature.as_deref() {
        Some("https") if cfg!(feature = "https") => return Vec::new(),
        None | Some("https") => {}
        Some(other) => return vec![format!("there is no feature {other}")],
    }
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut failures = tracing::subscriber::with_default(log.subscriber(), || {
        let limit = Duration::from_secs(60);
        let failures = runtime.block_on(async { tokio::time::timeout(limit, fetch(case)).await });
        failures.unwrap_or_else(|_| vec![format!("the fetch did not end within {limit:?}")])
    });
    let log = log.text();
    for text in &case.test.logs_once {
        if log.matches(text.as_str()).count() != 1 {
            failures.push(format!("the log does not contain this text once: {text}\n{log}"));
        }
    }
    if !case.traffic.is_empty() && !log.contains("TRACE") {
        failures.push("the log has no trace lines".to_owned());
    }
    failures.extend(
        secrets(case)
            .into_iter()
            .filter(|secret| log.contains(secret))
            .map(|secret| format!("the log contains the secret {secret}")),
    );
    failures
}

/// Fetches credentials in the environment of a case. Returns the failures.
async fn fetch(case: &Case) -> Vec<String> {
    let endpoint = Endpoint::start(case.traffic.clone(), Some(USER_AGENT)).await;
    // A bound port without a listener.
    let unused_port = tokio::net::TcpSocket::new_v4().unwrap();
    unused_port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = match case.test.client {
        Client::ClosedPort => unused_port.local_addr().unwrap().port(),
        _ => endpoint.address.port(),
    };
    let fs = case.folder.join("fs").display().to_string();
    let value = |value: &String| value.replace("${fs}", &fs).replace("${port}", &port.to_string());
    let environment: Environment = case.env.iter().map(|(name, text)| (name, value(text))).collect();
    let mut builder = PodIdentityCredentialsProvider::builder()
        .environment(environment)
        .attempt_timeout(Duration::from_millis(case.test.attempt_timeout_ms))
        .deadline(Duration::from_millis(case.test.deadline_ms));
    if case.test.client == Client::Mapped {
        builder = builder.http_client(RedirectingClient(endpoint.address));
    }
    if let Some(names) = &case.test.dns {
        builder = builder.dns(ScriptedDns(Mutex::new(names.clone())));
    }
    let provider = builder.build();
    let result = provider.credentials().await;
    let mut failures = endpoint.failures();
    let mut printed = format!("{provider:?} {provider:#?}");
    match &result {
        Ok(credentials) => printed += &format!("{credentials:?} {credentials:#?}"),
        Err(error) => {
            // `{:?}` of the error does not print the fields of its variants.
            let (sdk_error, fields) = (CredentialsError::from(error.clone()), fields(error));
            printed += &format!("{error} {error:?} {fields} {sdk_error} {sdk_error:?}");
        }
    }
    for secret in secrets(case) {
        // A shorter text could occur by accident.
        assert!(secret.len() >= 8, "secret {secret:?} has fewer than 8 characters");
        if printed.contains(&secret) {
            failures.push(format!("the secret {secret} is printed: {printed}"));
        }
    }
    failures.extend(compare(&case.test.result, result));
    failures
}

fn compare(expected: &Expected, result: Result<aws_credential_types::Credentials, Error>) -> Vec<String> {
    match (expected, result) {
        (Expected::Ok(expected), Ok(credentials)) => {
            let expires_at: jiff::Timestamp = expected.expiration.parse().unwrap();
            let same = [
                credentials.access_key_id() == expected.access_key_id,
                credentials.secret_access_key() == expected.secret_access_key,
                credentials.session_token() == Some(&expected.session_token),
                credentials.expiry() == Some(expires_at.into()),
                credentials.account_id().map(aws_credential_types::attributes::AccountId::as_str)
                    == expected.account_id.as_deref(),
                format!("{credentials:?}").contains(r#"provider_name: "PodIdentity""#),
                format!("{credentials:?}").contains("CredentialsHttp"),
            ];
            if same == [true; 7] { Vec::new() } else { vec![format!("{same:?}: {credentials:?}")] }
        }
        (Expected::Err(expected), Err(error)) => {
            let sdk_error = format!("{:?}", CredentialsError::from(error.clone()));
            let kind = sdk_error.split('(').next().unwrap_or_default().to_owned();
            let text = error.to_string();
            let mut failures = Vec::new();
            if kind != expected.kind
                || error.code() != expected.code.as_deref()
                || error.is_retryable() != expected.retryable
            {
                failures.push(format!("{kind}, {:?}, retryable {}", error.code(), error.is_retryable()));
            }
            let missing = expected.contains.iter().filter(|part| !text.contains(part.as_str()));
            failures.extend(missing.map(|part| format!("{part:?} is not in {text:?}")));
            let unwanted = expected.does_not_contain.iter().filter(|part| text.contains(part.as_str()));
            failures.extend(unwanted.map(|part| format!("{part:?} is in {text:?}")));
            if !sdk_error.contains(&text) || error.hint().is_none_or(|hint| !text.contains(hint)) {
                failures.push(format!("no hint in {text:?}, or the text is not in {sdk_error:?}"));
            }
            failures
        }
        (_, Ok(credentials)) => vec![format!("no error: {credentials:?}")],
        (_, Err(error)) => vec![error.to_string()],
    }
}

fn fields(error: &Error) -> String {
    match error {
        Error::NotConfigured(error) => format!("{error:?}"),
        Error::InvalidConfiguration(error) => format!("{error:?}"),
        Error::TokenUnreadable(error) => format!("{error:?}"),
        Error::Endpoint(error) => format!("{error:?} {error}"),
        Error::Expired(error) => format!("{error:?}"),
        other => panic!("not an error of an endpoint: {other}"),
    }
}

/// Returns the secrets of a case: the pod's tokens, the secrets in responses, and the field `secrets`.
fn secrets(case: &Case) -> BTreeSet<String> {
    let mut secrets: BTreeSet<_> = case.test.secrets.iter().cloned().chain(case.tokens()).collect();
    for exchange in &case.traffic {
        secrets.extend(exchange.request.authorization.clone());
        let Reply::Response(response) = &exchange.reply else { continue };
        let members =
            ["SecretAccessKey", "Token"].map(|name| response.body[name].as_str().map(str::to_owned));
        secrets.extend(members.into_iter().flatten().filter(|text| !text.is_empty()));
    }
    secrets
}

//! The cases of `tests/cases`: an environment, an endpoint and the expected result.

mod case;
mod client;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};

use crate::log::Log;
use crate::replay::{Answer, Endpoint};
use case::{Case, Client, Expected};
use client::{AllTo, Names};

/// The number of concurrent cases, low enough that none runs out of time.
const AT_ONCE: usize = 8;
const USER_AGENT: &str = concat!("pod-identity-provider/", env!("CARGO_PKG_VERSION"));

#[test]
fn every_case_has_the_result_in_its_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 40, "{} cases", folders.len());
    let queue = Mutex::new(folders.into_iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(folder) = queue.lock().unwrap().next() else { return };
                    let found = Case::read(&folder).map_or_else(|error| vec![error], |case| run(&case));
                    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                    wrong.lock().unwrap().extend(found.into_iter().map(|found| format!("{name}: {found}")));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a case on this thread, whose log is then the case's log.
fn run(case: &Case) -> Vec<String> {
    match case.test.without_feature.as_deref() {
        Some("https") if cfg!(feature = "https") => return Vec::new(),
        None | Some("https") => {}
        Some(other) => return vec![format!("there is no feature {other}")],
    }
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = tracing::subscriber::with_default(log.subscriber(), || {
        let outcome =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), outcome(case)).await });
        outcome.unwrap_or_else(|_| vec!["it did not end within a minute".to_owned()])
    });
    let log = log.text();
    for text in &case.test.logs_once {
        if log.matches(text.as_str()).count() != 1 {
            wrong.push(format!("not once in the log: {text}\n{log}"));
        }
    }
    if !case.traffic.is_empty() && !log.contains("TRACE") {
        wrong.push("the log is not that of all levels".to_owned());
    }
    wrong.extend(
        secrets(case)
            .into_iter()
            .filter(|secret| log.contains(secret))
            .map(|secret| format!("logged: {secret}")),
    );
    wrong
}

async fn outcome(case: &Case) -> Vec<String> {
    let endpoint = Endpoint::start(case.traffic.clone(), Some(USER_AGENT)).await;
    // A bound port without a listener.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = match case.test.client {
        Client::Nobody => nobody.local_addr().unwrap().port(),
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
        builder = builder.http_client(AllTo(endpoint.address));
    }
    if let Some(names) = &case.test.dns {
        builder = builder.dns(Names(Mutex::new(names.clone())));
    }
    let provider = builder.build();
    let result = provider.credentials().await;
    let mut wrong = endpoint.wrong();
    let mut seen = format!("{provider:?} {provider:#?}");
    match &result {
        Ok(credentials) => seen += &format!("{credentials:?} {credentials:#?}"),
        Err(error) => {
            // The fields of its variants too, which print with `{:?}` alone.
            let (of_sdk, fields) = (CredentialsError::from(error.clone()), fields(error));
            seen += &format!("{error} {error:?} {fields} {of_sdk} {of_sdk:?}");
        }
    }
    for secret in secrets(case) {
        // A shorter secret would be found by accident.
        assert!(secret.len() >= 8, "{secret:?}: a secret of a case has at least 8 characters");
        if seen.contains(&secret) {
            wrong.push(format!("{secret} is in {seen}"));
        }
    }
    wrong.extend(compare(&case.test.result, result));
    wrong
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
            let of_sdk = format!("{:?}", CredentialsError::from(error.clone()));
            let kind = of_sdk.split('(').next().unwrap_or_default().to_owned();
            let text = error.to_string();
            let mut wrong = Vec::new();
            if kind != expected.kind
                || error.code() != expected.code.as_deref()
                || error.is_retryable() != expected.retryable
            {
                wrong.push(format!("{kind}, {:?}, retryable {}", error.code(), error.is_retryable()));
            }
            let missing = expected.says.iter().filter(|says| !text.contains(says.as_str()));
            wrong.extend(missing.map(|says| format!("{says:?} is not in {text:?}")));
            let there = expected.says_not.iter().filter(|says| text.contains(says.as_str()));
            wrong.extend(there.map(|says| format!("{says:?} is in {text:?}")));
            // Every error has a fix, and prints it in both forms.
            if !of_sdk.contains(&text) || error.hint().is_none_or(|hint| !text.contains(hint)) {
                wrong.push(format!("no hint in {text:?}, or it is not in {of_sdk:?}"));
            }
            wrong
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

/// Returns the secrets: the pod's tokens, sent or not, the keys and tokens of responses, and those that the case names.
fn secrets(case: &Case) -> BTreeSet<String> {
    let mut secrets: BTreeSet<_> = case.test.secrets.iter().cloned().chain(case.tokens()).collect();
    for exchange in &case.traffic {
        secrets.extend(exchange.request.authorization.clone());
        let Answer::Response(response) = &exchange.answer else { continue };
        let members =
            ["SecretAccessKey", "Token"].map(|name| response.body[name].as_str().map(str::to_owned));
        secrets.extend(members.into_iter().flatten().filter(|text| !text.is_empty()));
    }
    secrets
}

//! The examples as programs in a pod: real agent, auth service and STS, and an S3 that verifies signatures.

#![allow(clippy::unwrap_used)]

mod bucket; // S3, as far as a list of objects
mod embed;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use bucket::Bucket;
use pod_identity_local::fixture::Fixture;
use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload, write_private};
use pod_identity_provider::PodIdentityCredentialsProvider;
use pod_identity_runtime::clock;

type Variables = Vec<(&'static str, String)>;

/// A role beside the sample's, for tokens of its issuer.
const IRSA: &str = r#"
roles:
  - arn: arn:aws:iam::111122223333:role/irsa
    trust:
      Statement:
        Effect: Allow
        Principal: {Federated: "arn:aws:iam::111122223333:oidc-provider/oidc.pod-identity.test/laptop"}
        Action: sts:AssumeRoleWithWebIdentity
"#;

const HOUR: Duration = Duration::from_secs(3600);

/// A pod's variables for Pod Identity, which belong to the laptop.
async fn pod() -> (LocalServices, Variables) {
    let fixture = Fixture::from_yaml(&SAMPLE.replace("\nroles:\n", IRSA)).unwrap();
    let laptop = LocalServices::start(fixture, LocalConfig::default()).await.unwrap();
    let token = laptop.token(&workload(), clock::now(), HOUR).unwrap();
    let file = laptop.directory().join("token");
    write_private(&file, &token).unwrap();
    let variables = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", laptop.credentials_url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.display().to_string()),
        ("AWS_REGION", laptop.region().to_owned()),
        ("HOME", "/nonexistent".to_owned()),
    ];
    (laptop, variables)
}

fn workload() -> Workload {
    let [namespace, account, pod] = ["default", "app", "app-1"];
    Workload::new(namespace.parse().unwrap(), account.parse().unwrap(), pod.parse().unwrap()).unwrap()
}

/// Returns the program of an example, which `cargo test` has built beside this test.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(program.exists(), "{program:?} is not built: run all of `cargo test -p examples`");
    program
}

/// Runs an example with these variables and no others.
async fn run(example: &str, args: &'static [&str], variables: Variables) -> Output {
    let program = program(example);
    let run = move || Command::new(program).args(args).env_clear().envs(variables).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lists the bucket with an example, and gives the bucket with what was asked of it.
async fn list(example: &str) -> Bucket {
    let (laptop, mut variables) = pod().await;
    let environment = variables.iter().cloned().collect();
    let provider = PodIdentityCredentialsProvider::builder().environment(environment).build();
    // The agent hands out one session for a pod: the program's is this one.
    let bucket = Bucket::serve(provider.credentials().await.unwrap(), laptop.region()).await;
    variables.extend([("AWS_ENDPOINT_URL_S3", bucket.url()), ("AWS_ALLOW_HTTP", "true".to_owned())]);
    let output = run(example, &["reports"], variables).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "          42 2026/november.csv\n           7 2026/october.csv\n");
    bucket
}

#[tokio::test]
async fn the_sdks_client_lists_a_bucket_in_pages_signed_by_the_pods_session() {
    assert_eq!(list("s3").await.answered(), ["page 1", "page 2"]);
}

#[tokio::test]
async fn an_sdks_client_without_credentials_prints_the_missing_variables() {
    let nothing = vec![("AWS_REGION", "eu-west-1".to_owned()), ("HOME", "/nonexistent".to_owned())];
    let output = run("s3", &["reports"], nothing).await;
    let stderr = text(&output.stderr);
    assert!(!output.status.success());
    assert!(
        stderr.starts_with(
            "Error: no source of AWS credentials is configured for this pod. Missing variables: "
        ),
        "{stderr}"
    );
    for part in ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN", "pod-identity-local run -- PROGRAM"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[tokio::test]
async fn object_store_lists_a_bucket_in_pages_signed_by_the_pods_session() {
    assert_eq!(list("object_store").await.answered(), ["page 1", "page 2"]);
}

#[tokio::test]
async fn a_custom_chain_prints_its_method() {
    let (laptop, mut variables) = pod().await;
    variables.push(("HTTP_PROXY", "http://proxy.invalid".to_owned())); // the agent is on this node
    let output = run("custom_chain", &[], variables).await;
    let stdout = text(&output.stdout);
    let id = stdout.strip_prefix("in a pod, by EKS Pod Identity\n").and_then(|rest| rest.split(',').next());
    assert!(laptop.sts().inspect(id.expect(&stdout)).is_some(), "{stdout}");

    let own = vec![
        ("AWS_ACCESS_KEY_ID", "AKIADEVELOPER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let stdout = text(&run("custom_chain", &[], own).await.stdout);
    assert!(stdout.starts_with("not in a pod: a developer's credentials\nAKIADEVELOPER"), "{stdout}");
}

#[tokio::test]
async fn sts_is_called_through_the_environments_proxy() {
    let (laptop, _) = pod().await;
    let mut request = workload().token_request(clock::now(), HOUR);
    request.audiences = vec!["sts.amazonaws.com".to_owned()];
    let file = laptop.directory().join("irsa-token");
    write_private(&file, &laptop.issuer().mint(&request).unwrap()).unwrap();
    let variables = vec![
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ("AWS_REGION", laptop.region().to_owned()),
        // A name that leads nowhere: whoever gets the request is the proxy, and here that is STS.
        ("AWS_ENDPOINT_URL_STS", "http://sts.invalid".to_owned()),
        ("HTTP_PROXY", laptop.sts_url()),
    ];
    let stdout = text(&run("custom_chain", &[], variables).await.stdout);
    let id =
        stdout.strip_prefix("in a pod, by web identity (IRSA)\n").and_then(|rest| rest.split(',').next());
    let session = laptop.sts().inspect(id.expect(&stdout)).expect(&stdout);
    assert!(session.assumed_role_arn.contains("assumed-role/irsa/"), "{session:?}");
}

//! Runs the examples with the variables of a pod, a real agent and auth service, a local STS, and a fake S3 that verifies
//! signatures.

#![allow(clippy::unwrap_used)]

mod bucket; // fake S3 with one bucket
mod embed; // tests of the example `embed`

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

/// An additional role for IRSA, which trusts the sample's issuer.
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
    let (namespace, service_account) = ("default".parse().unwrap(), "app".parse().unwrap());
    Workload::new(namespace, service_account, "app-1".parse().unwrap()).unwrap()
}

/// Returns the path of an example, which `cargo test` has built.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(program.exists(), "{program:?} is not built: run all of `cargo test -p examples`");
    program
}

/// Runs an example with only these variables.
async fn run(example: &str, args: &'static [&str], variables: Variables) -> Output {
    let program = program(example);
    let run = move || Command::new(program).args(args).env_clear().envs(variables).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lists a bucket with an example. Returns the bucket, which has recorded the requests.
async fn list(example: &str) -> Bucket {
    let (laptop, mut variables) = pod().await;
    let environment = variables.iter().cloned().collect();
    let provider = PodIdentityCredentialsProvider::builder().environment(environment).build();
    // The agent serves one session per pod, so the example gets the same session.
    let bucket = Bucket::serve(provider.credentials().await.unwrap(), laptop.region()).await;
    variables.extend([("AWS_ENDPOINT_URL_S3", bucket.url()), ("AWS_ALLOW_HTTP", "true".to_owned())]);
    let output = run(example, &["reports"], variables).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "          42 2026/november.csv\n           7 2026/october.csv\n");
    bucket
}

#[tokio::test]
async fn s3_lists_a_bucket_in_pages_signed_by_the_pods_session() {
    assert_eq!(list("s3").await.served_pages(), ["page 1", "page 2"]);
}

#[tokio::test]
async fn s3_without_credentials_prints_the_missing_variables() {
    let variables = vec![("AWS_REGION", "eu-west-1".to_owned()), ("HOME", "/nonexistent".to_owned())];
    let output = run("s3", &["reports"], variables).await;
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
    assert_eq!(list("object_store").await.served_pages(), ["page 1", "page 2"]);
}

#[tokio::test]
async fn custom_chain_prints_its_method() {
    let (laptop, mut variables) = pod().await;
    variables.push(("HTTP_PROXY", "http://proxy.invalid".to_owned())); // not used for the agent
    let output = run("custom_chain", &[], variables).await;
    let stdout = text(&output.stdout);
    let id =
        stdout.strip_prefix("in a pod, method: EKS Pod Identity\n").and_then(|rest| rest.split(',').next());
    assert!(laptop.sts().inspect(id.expect(&stdout)).is_some(), "{stdout}");

    let own = vec![
        ("AWS_ACCESS_KEY_ID", "AKIADEVELOPER".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let stdout = text(&run("custom_chain", &[], own).await.stdout);
    assert!(
        stdout.starts_with("not in a pod, fallback: a developer's credentials\nAKIADEVELOPER"),
        "{stdout}"
    );
}

#[tokio::test]
async fn custom_chain_calls_sts_through_the_proxy() {
    let (laptop, _) = pod().await;
    let mut request = workload().token_request(clock::now(), HOUR);
    request.audiences = vec!["sts.amazonaws.com".to_owned()];
    let file = laptop.directory().join("irsa-token");
    write_private(&file, &laptop.issuer().mint(&request).unwrap()).unwrap();
    let variables = vec![
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/irsa".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()),
        ("AWS_REGION", laptop.region().to_owned()),
        // The name cannot be resolved, so only a proxy can handle the request. STS acts as the proxy.
        ("AWS_ENDPOINT_URL_STS", "http://sts.invalid".to_owned()),
        ("HTTP_PROXY", laptop.sts_url()),
    ];
    let stdout = text(&run("custom_chain", &[], variables).await.stdout);
    let id = stdout
        .strip_prefix("in a pod, method: web identity (IRSA)\n")
        .and_then(|rest| rest.split(',').next());
    let session = laptop.sts().inspect(id.expect(&stdout)).expect(&stdout);
    assert!(session.assumed_role_arn.contains("assumed-role/irsa/"), "{session:?}");
}

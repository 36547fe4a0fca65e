//! The binary and its exit status, text and JSON.

mod aws;
mod broken;
mod child;

use std::process::Stdio;
use std::time::Duration;

use pod_identity_local::sample::SAMPLE;
use serde_json::{Value, json};
use tokio::process::Command;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pod-identity-local");
/// Time limit of a run.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Exit code and output of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn local(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) async fn ran(mut command: Command) -> Ran {
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await.expect("the run ends").unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn run_once_prints_every_step_and_the_arn() {
    let run = ran(local(&["run", "--once"])).await;
    assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:#?}");
    let lines = run.stdout.lines().filter_map(|line| line.strip_prefix("ok  "));
    let links: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(links, ["token", "association", "trust", "session", "credentials", "call"], "{run:#?}");
    let arn = run.stdout.lines().last().unwrap();
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
}

#[tokio::test]
async fn json_is_one_object_with_chain_and_environment() {
    for (args, principal) in [
        (&["run", "--once", "--output", "json"][..], "pods.eks.amazonaws.com"),
        (
            &["run", "--once", "--self-managed", "--output=json"],
            "arn:aws:iam::111122223333:role/pod-identity-auth",
        ),
    ] {
        let run = ran(local(args)).await;
        assert_eq!(run.code, Some(0), "{run:#?}");
        let all: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((&all["ok"], &all["error"]), (&json!(true), &Value::Null));
        let links: Vec<&Value> = all["chain"].as_array().unwrap().iter().map(|link| &link["link"]).collect();
        assert_eq!(links, ["token", "association", "trust", "session", "credentials", "call"]);
        let environment = all["environment"].as_object().unwrap();
        assert_eq!(environment["AWS_REGION"], "eu-west-1");
        assert_eq!(all["principal"], principal);
        assert!(all["inspectionUrl"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{run:#?}");
        for link in all["chain"].as_array().unwrap() {
            let checked = link["checked"].as_str().unwrap();
            assert!(!checked.contains('\n') && !checked.contains("  "), "{checked:?}");
        }
        let url = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/v1/credentials"), "{url}");
        let secrets = ["SecretAccessKey", "secretAccessKey", "essionToken", "SECRET", "eyJ"];
        for secret in secrets {
            assert!(!run.stdout.contains(secret), "{secret} in {}", run.stdout);
        }
    }
}

#[tokio::test]
async fn json_reports_a_failure() {
    let run = ran(local(&["run", "--once", "--output", "json", "--break", "no-association"])).await;
    assert_eq!(run.code, Some(1));
    let all: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&all["ok"], &all["error"]["code"]), (&json!(false), &json!("association_not_found")));
    assert_eq!(all["error"]["link"], "association");
    assert!(all["error"]["fix"].as_str().unwrap().contains("Create an association"));
    let links: Vec<&Value> = all["chain"].as_array().unwrap().iter().map(|link| &link["link"]).collect();
    assert_eq!(links, ["token"]);
    assert_eq!((&all["environment"], &all["inspectionUrl"]), (&json!({}), &Value::Null));
}

#[tokio::test]
async fn json_is_not_ok_for_a_program_that_cannot_start() {
    for (program, code) in [("no-such-program", "command_not_found"), ("/", "command_not_started")] {
        let run = ran(local(&["run", "--output", "json", "--", program])).await;
        let object = run.stderr.split("\nerror[").next().unwrap();
        let all: Value = serde_json::from_str(object).unwrap();
        assert_eq!((&all["ok"], &all["error"]["code"]), (&json!(false), &json!(code)), "{run:#?}");
    }
}

fn temporary_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn sample_prints_a_valid_file() {
    let sample = ran(local(&["sample"])).await;
    assert_eq!((sample.code, &*sample.stdout), (Some(0), SAMPLE));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = local(&["sample"]);
    unread.stdout(writer).stderr(Stdio::piped());
    let ended = unread.spawn().unwrap().wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
    let renamed = temporary_file(&sample.stdout.replace("laptop", "mine"));
    let run = ran(local(&["run", "--once", "-f", renamed.path().to_str().unwrap()])).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stdout.contains("eks-cluster-name = mine"), "{run:#?}");
}

#[tokio::test]
async fn expire_after_limits_the_session() {
    let run = ran(local(&["run", "--once", "--output", "json", "--expire-after", "20m"])).await;
    let all: Value = serde_json::from_str(&run.stdout).unwrap();
    let expiration = all["chain"][4]["facts"]["expiration"].as_str().unwrap();
    let expiration: jiff::Timestamp = expiration.parse().unwrap();
    let now = jiff::Timestamp::try_from(pod_identity_runtime::clock::now()).unwrap();
    let left = expiration.as_second() - now.as_second();
    assert!((1100..=1200).contains(&left), "{left}");
    for (duration, words) in [
        ("0s", "is not between 1s and 12h"),
        ("13h", "is not between 1s and 12h"),
        ("20", "is not a duration such as 20s or 5m"),
    ] {
        let run = ran(local(&["run", "--once", "--expire-after", duration])).await;
        assert_eq!((run.code, &*run.stdout), (Some(2), ""), "{run:#?}");
        assert!(run.stderr.contains(words), "{run:#?}");
    }
}

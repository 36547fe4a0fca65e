//! A program run as the pod: its environment, its exit status, and signals.

use std::collections::BTreeMap;
use std::process::Stdio;

use pod_identity_runtime::outbound::Outbound;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::{PROGRAM, TIME_LIMIT, local, ran};

/// Variables of the caller's environment that the program must not get.
const CALLERS: [(&str, &str); 7] = [
    ("AWS_ACCESS_KEY_ID", "AKIAOFTHECALLER00000"),
    ("AWS_SECRET_ACCESS_KEY", "of-the-caller"),
    ("AWS_SESSION_TOKEN", "of-the-caller"),
    ("AWS_PROFILE", "of-the-caller"),
    ("AWS_ROLE_ARN", "of-the-caller"),
    ("AWS_ENDPOINT_URL", "http://of-the-caller"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/of-the-caller"),
];

#[tokio::test]
async fn program_has_the_aws_variables_of_the_pod_only() {
    let mut command =
        local(&["run", "--", "sh", "-c", "env; cat \"$AWS_CONFIG_FILE\" \"$AWS_SHARED_CREDENTIALS_FILE\""]);
    command.envs(CALLERS).env("NO_PROXY", "example.test").env("TEAM", "kept");
    let run = ran(command).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let seen: BTreeMap<&str, &str> = run.stdout.lines().map(|line| line.split_once('=').unwrap()).collect();
    let aws: Vec<&str> = seen.keys().copied().filter(|name| name.starts_with("AWS_")).collect();
    let ours = [
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL_STS",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
    ];
    assert_eq!(aws, ours, "{run:#?}");
    assert!(!run.stdout.contains("of-the-caller"), "{run:#?}");
    for name in ["HOME", "PATH"] {
        assert_eq!(seen[name], std::env::var(name).unwrap(), "{name}");
    }
    assert_eq!((seen["TEAM"], seen["NO_PROXY"]), ("kept", "example.test,127.0.0.1,localhost"));
    for (before, after) in [
        ("127.0.0.1,localhost", "127.0.0.1,localhost"),
        ("localhost, example.test", "localhost,example.test,127.0.0.1"),
    ] {
        let mut command = local(&["run", "--", "sh", "-c", "echo $no_proxy"]);
        command.env("no_proxy", before);
        assert_eq!(ran(command).await.stdout.trim(), after);
    }
    // The report goes to standard error, because standard output is the program's.
    assert!(run.stderr.contains("ok  credentials"), "{run:#?}");
}

#[tokio::test]
async fn callers_aws_variables_have_no_effect() {
    let mut command = local(&["run", "--", PROGRAM, "call-as-pod"]);
    command.envs(CALLERS);
    let run = ran(command).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let arn = serde_json::from_str::<Value>(&run.stdout).unwrap()["arn"].as_str().unwrap().to_owned();
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
}

#[tokio::test]
async fn returns_the_exit_status_of_the_program() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let run = ran(local(&["run", "--", "sh", "-c", script])).await;
        assert_eq!(run.code, Some(code), "{script}: {run:#?}");
    }
}

#[tokio::test]
async fn program_that_cannot_start_has_cause_and_fix() {
    for (program, code, words) in [
        ("no-such-program", 127, "there is no program \"no-such-program\" on the PATH"),
        ("/", 126, "Permission denied"),
    ] {
        let run = ran(local(&["run", "--", program])).await;
        assert_eq!((run.code, &*run.stdout), (Some(code), ""), "{run:#?}");
        let fix = if code == 127 { "fix:   Install it, or" } else { "fix:   Make it executable, or" };
        for words in [words, "cause:", fix, "error[command_not_"] {
            assert!(run.stderr.contains(words), "{words}: {run:#?}");
        }
    }
}

#[tokio::test]
async fn runs_until_a_signal_without_once() {
    for signal in ["INT", "TERM"] {
        let mut child = local(&["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut sessions, mut unset) = (String::new(), String::new());
        loop {
            let line = tokio::time::timeout(TIME_LIMIT, lines.next_line())
                .await
                .expect("a line within the time limit")
                .unwrap();
            let line = line.expect("it keeps running");
            if line.contains("AWS_") && !line.contains('=') {
                unset.push_str(&line);
            }
            if let Some(url) = line.strip_prefix("Sessions and their tags: ") {
                sessions = url.to_owned();
            }
            if line.contains("Ctrl-C stops everything") {
                break;
            }
        }
        for name in ["AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_DEFAULT_PROFILE", "AWS_PROFILE"] {
            assert!(unset.split_whitespace().any(|word| word == name), "{name}: {unset}");
        }
        let getter = Outbound::default().getter().unwrap();
        let page = getter.get(&sessions, None, 1024 * 1024).await.unwrap();
        let page: Value = serde_json::from_slice(&page).unwrap();
        assert_eq!(page[0]["roleArn"], "arn:aws:iam::111122223333:role/app");
        assert_eq!(end(child, signal).await, Some(0), "SIG{signal}");
        assert!(getter.get(&sessions, None, 1).await.is_err(), "the listener is closed");
    }
}

#[tokio::test]
async fn forwards_sigterm_and_ignores_sigint() {
    let script = "sleep 60 & trap \"kill $!; exit 9\" TERM; echo ready; wait";
    let mut child = local(&["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(TIME_LIMIT, lines.next_line())
        .await
        .expect("a line within the time limit")
        .unwrap();
    assert_eq!(line.as_deref(), Some("ready"));
    for _ in 0..3 {
        send(&child, "INT");
    }
    assert_eq!(end(child, "TERM").await, Some(9));
}

fn send(child: &Child, signal: &str) {
    let id = child.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success()
    );
}

pub(super) async fn end(mut child: Child, signal: &str) -> Option<i32> {
    send(&child, signal);
    tokio::time::timeout(TIME_LIMIT, child.wait()).await.expect("the signal ends it").unwrap().code()
}

//! The binary, as people and scripts run it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use pod_identity_local::sample::SAMPLE;
use pod_identity_runtime::outbound::Outbound;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pod-identity-local");
/// What ends no sooner is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a run ended.
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
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it never ended").unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn run_once_prints_every_link_and_the_arn() {
    let run = ran(local(&["run", "--once"])).await;
    assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:#?}");
    let lines = run.stdout.lines().filter_map(|line| line.strip_prefix("ok  "));
    let links: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(links, ["token", "association", "trust", "session", "credentials", "call"], "{run:#?}");
    let arn = run.stdout.lines().last().unwrap();
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
}

#[tokio::test]
async fn json_is_one_object_with_the_chain_and_the_environment() {
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
async fn json_tells_a_failure_too() {
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
async fn json_is_not_ok_before_a_command_that_cannot_be_run() {
    for (program, code) in [("no-such-program", "command_not_found"), ("/", "command_not_started")] {
        let run = ran(local(&["run", "--output", "json", "--", program])).await;
        let object = run.stderr.split("\nerror[").next().unwrap();
        let all: Value = serde_json::from_str(object).unwrap();
        assert_eq!((&all["ok"], &all["error"]["code"]), (&json!(false), &json!(code)), "{run:#?}");
    }
}

/// What the caller of the tests below has set, beside `HOME` and `PATH`.
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
async fn a_command_has_the_pods_aws_variables_and_none_of_its_callers() {
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
    // The chain stands beside a command's output, not in it.
    assert!(run.stderr.contains("ok  credentials"), "{run:#?}");
}

#[tokio::test]
async fn a_caller_with_keys_and_profiles_of_its_own_is_the_pod_all_the_same() {
    let mut command = local(&["run", "--", PROGRAM, "call-as-pod"]);
    command.envs(CALLERS);
    let run = ran(command).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let arn = serde_json::from_str::<Value>(&run.stdout).unwrap()["arn"].as_str().unwrap().to_owned();
    assert!(arn.starts_with("arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-"), "{arn}");
}

#[tokio::test]
async fn the_status_of_a_command_is_passed_on() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let run = ran(local(&["run", "--", "sh", "-c", script])).await;
        assert_eq!(run.code, Some(code), "{script}: {run:#?}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_named() {
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
async fn everything_that_can_be_broken_is_told_with_code_cause_and_fix() {
    let trust = ("role_trust_refused", 2, "STS does not say why; the local one does: ");
    let breakages = [
        ("no-tag-session", trust, "may not use sts:TagSession"),
        ("wrong-namespace", trust, "to match \"some-other-namespace\" and the request has \"default\""),
        ("trust-names-other-account", trust, "999988887777"),
        ("expired-token", ("token_expired", 0, "the token expired 36"), ""),
        ("wrong-audience", ("token_audience_wrong", 0, "\"sts.amazonaws.com\""), ""),
        ("no-association", ("association_not_found", 1, "no association for service account app"), ""),
    ];
    for (breakage, (code, links, cause), more) in breakages {
        for mode in [&["--once"][..], &["--once", "--self-managed"]] {
            let run = ran(local(&[&["run", "--break", breakage], mode].concat())).await;
            assert_eq!(run.code, Some(1), "{breakage}: {run:#?}");
            let error = format!("error[{code}]: ");
            for words in [&*error, "cause: ", "fix:   ", cause, more] {
                assert!(run.stderr.contains(words), "{breakage}: no {words:?} in {run:#?}");
            }
            let held = run.stdout.lines().filter(|line| line.starts_with("ok  ")).count();
            assert_eq!(held, links, "{breakage}: {run:#?}");
            assert!(!run.stdout.contains("assumed-role"), "{breakage}: {run:#?}");
        }
    }
    let help = ran(local(&["run", "--help"])).await.stdout;
    let listed = help.split("--break <WHERE>").nth(1).unwrap().split("--output").next().unwrap();
    let listed: Vec<&str> =
        listed.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next()).collect();
    let tested: Vec<&str> = breakages.iter().map(|row| row.0).collect();
    assert!(listed.iter().all(|name| tested.contains(name)) && listed.len() == tested.len(), "{listed:?}");
}

#[tokio::test]
async fn the_fix_of_a_trust_refusal_is_of_that_refusal() {
    for (breakage, fixes) in [
        (
            "no-tag-session",
            ["Add sts:TagSession to the Action of statement 1 of the role's trust policy."; 2],
        ),
        (
            "wrong-namespace",
            ["Make the condition aws:RequestTag/kubernetes-namespace of statement 1 accept \"default\", or run the \
              pod where it holds."; 2],
        ),
        (
            "trust-names-other-account",
            [
                "Let a statement of the role's trust policy name pods.eks.amazonaws.com as Principal.",
                "Let a statement of the role's trust policy name \
                 arn:aws:iam::111122223333:role/pod-identity-auth as Principal.",
            ],
        ),
        ("expired-token", ["Read the token file again before each request"; 2]),
        ("wrong-audience", ["Project the token with audience pods.eks.amazonaws.com and no other."; 2]),
        ("no-association", ["Create an association for this cluster, namespace and service account."; 2]),
    ] {
        for (mode, fix) in [&["--once"][..], &["--once", "--self-managed"]].into_iter().zip(fixes) {
            let run = ran(local(&[&["run", "--break", breakage], mode].concat())).await;
            assert!(run.stderr.contains(&format!("\n  fix:   {fix}")), "{breakage} {mode:?}: {run:#?}");
        }
    }
    let of_app = "Service: pods.eks.amazonaws.com}";
    let auth = "Principal: {AWS: \"arn:aws:iam::111122223333:role/pod-identity-auth\"}";
    let service = format!("Effect: Allow\n          Principal: {{{of_app}");
    let without_permissions = SAMPLE.split("    permissions:").next().unwrap().to_owned()
        + "\n# For IRSA"
        + SAMPLE.split("\n# For IRSA").nth(1).unwrap();
    for (text, mode, fix) in [
        (
            SAMPLE.replace(&service, &service.replace("Allow", "Deny")),
            &["--once"][..],
            "Take statement 1 out of the role's trust policy, or narrow it: it denies sts:AssumeRole.",
        ),
        (
            without_permissions.replace(auth, "Principal: {AWS: \"111122223333\"}"),
            &["--once", "--self-managed"],
            "Let an identity policy of arn:aws:iam::111122223333:role/pod-identity-auth allow sts:AssumeRole on \
             arn:aws:iam::111122223333:role/app.",
        ),
    ] {
        let file = written(&text);
        let run = ran(local(&[&["run", "-f", file.path().to_str().unwrap()], mode].concat())).await;
        assert!(run.stderr.contains(&format!("\n  fix:   {fix}")), "{run:#?}");
    }
}

#[tokio::test]
async fn a_breakage_that_would_change_nothing_is_refused() {
    let untagged = written(&format!("{SAMPLE}    disableSessionTags: true\n"));
    let untagged = ["-f", untagged.path().to_str().unwrap()];
    let nobody = ["--service-account", "nobody"];
    for (breakage, pod, words) in [
        ("no-tag-session", nobody, "service account nobody in namespace default has no association"),
        ("wrong-namespace", nobody, "has no association"),
        ("trust-names-other-account", nobody, "has no association"),
        ("no-association", nobody, "has no association"),
        ("no-tag-session", untagged, "has disableSessionTags"),
    ] {
        let run = ran(local(&[&["run", "--once", "--break", breakage], &pod[..]].concat())).await;
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
        let cause = format!("cause: --break {breakage} would change nothing: ");
        for words in ["error[break_without_effect]", &*cause, words, "fix:   Choose a pod "] {
            assert!(run.stderr.contains(words), "{breakage}: no {words:?} in {run:#?}");
        }
    }
    for (breakage, pod, code) in [
        ("expired-token", nobody, "token_expired"),
        ("wrong-audience", nobody, "token_audience_wrong"),
        ("wrong-namespace", untagged, "role_trust_refused"),
        ("trust-names-other-account", untagged, "role_trust_refused"),
    ] {
        let run = ran(local(&[&["run", "--once", "--break", breakage], &pod[..]].concat())).await;
        assert_eq!(run.code, Some(1), "{breakage}: {run:#?}");
        assert!(run.stderr.contains(&format!("error[{code}]")), "{breakage}: {run:#?}");
    }
}

#[tokio::test]
async fn each_role_of_a_chain_has_its_line_of_trust() {
    let target = "  - arn: arn:aws:iam::111122223333:role/target\n    trust: {Statement: {Effect: Allow, Principal: \
                  {AWS: \"arn:aws:iam::111122223333:role/app\"}, Action: \"sts:*\"}}\nassociations:";
    let chained = SAMPLE
        .replace("\nroles:\n", "\nroles:\n@")
        .replace('@', target.strip_suffix("associations:").unwrap());
    let file = written(&format!("{chained}    targetRoleArn: arn:aws:iam::111122223333:role/target\n"));
    let run = ran(local(&["run", "--once", "-f", file.path().to_str().unwrap()])).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let mut lines = run.stdout.lines().skip_while(|line| !line.starts_with("ok  trust"));
    let words = "the role's trust policy allows pods.eks.amazonaws.com sts:AssumeRole and sts:TagSession";
    assert!(lines.next().unwrap().ends_with(words), "{run:#?}");
    let words = "and the target role's allows arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-";
    assert!(lines.next().unwrap().trim_start().starts_with(words), "{run:#?}");
}

#[tokio::test]
async fn a_cluster_that_the_file_has_not_is_told_with_those_that_it_has() {
    let run = ran(local(&["run", "--once", "--cluster", "foo"])).await;
    assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
    assert!(run.stderr.contains("cause: the file declares no cluster foo (it has: laptop)"), "{run:#?}");
}

#[tokio::test]
async fn what_is_broken_is_the_pod_that_runs_not_the_files_first() {
    let second = SAMPLE.replace("role/app\n    trust:", "role/second\n    trust:").replace(
        "associations:\n",
        "associations:\n  - {clusterName: laptop, namespace: default, serviceAccount: other, roleArn: \
         \"arn:aws:iam::111122223333:role/pod-identity-auth\"}\n",
    );
    let second = second.replace(
        "roleArn: arn:aws:iam::111122223333:role/app",
        "roleArn: arn:aws:iam::111122223333:role/second",
    );
    let file = written(&second);
    let file = file.path().to_str().unwrap();
    let pod = ["run", "--once", "-f", file, "--service-account", "app"];
    assert_eq!(ran(local(&pod)).await.code, Some(0));
    let run = ran(local(&[&pod[..], &["--break", "no-tag-session"]].concat())).await;
    assert!(run.stderr.contains("error[role_trust_refused]"), "{run:#?}");
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn the_sample_is_a_file_to_start_from() {
    let sample = ran(local(&["sample"])).await;
    assert_eq!((sample.code, &*sample.stdout), (Some(0), SAMPLE));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = local(&["sample"]);
    unread.stdout(writer).stderr(Stdio::piped());
    let ended = unread.spawn().unwrap().wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
    let renamed = written(&sample.stdout.replace("laptop", "mine"));
    let run = ran(local(&["run", "--once", "-f", renamed.path().to_str().unwrap()])).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stdout.contains("eks-cluster-name = mine"), "{run:#?}");
}

#[tokio::test]
async fn a_broken_file_is_told_with_its_name_the_place_and_the_fix() {
    let arn = "- arn: arn:aws:iam::111122223333:role/app\n";
    for (from, to, place) in [
        ("accounts:", "accunts:", "accunts"),
        (arn, "- arn: arn:aws:iam::111122223333:user/app\n", "roles[0].arn"),
        (
            "Effect: Allow\n          Principal: {Service: pods",
            "Effect: Permit\n          Principal: {Service: pods",
            "roles[0].trust",
        ),
        ("roleArn: arn:aws:iam", "rolArn: arn:aws:iam", "rolArn"),
        ("- clusterName: laptop", "- clusterName: other", "other"),
        (
            "roleArn: arn:aws:iam::111122223333:role/app",
            "roleArn: arn:aws:iam::111122223333:role/ap",
            "associations[0].roleArn",
        ),
        ("accounts: [", "accounts: [[", "line "),
    ] {
        let text = SAMPLE.replacen(from, to, 1);
        assert_ne!(text, SAMPLE, "{from}");
        let file = written(&text);
        let name = file.path().to_str().unwrap();
        let run = ran(local(&["run", "--once", "-f", name])).await;
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
        for words in ["error[file_invalid]", "cause: ", name, place, "fix:   "] {
            assert!(run.stderr.contains(words), "{from}: no {words:?} in {run:#?}");
        }
    }
    let run = ran(local(&["run", "--once", "-f", "/no/such/file"])).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("/no/such/file: No such file"), "{run:#?}");
    assert!(run.stderr.contains("fix:   Check the path and its permissions."), "{run:#?}");
}

#[tokio::test]
async fn without_once_it_stays_up_until_a_signal() {
    for signal in ["INT", "TERM"] {
        let mut child = local(&["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut sessions, mut unset) = (String::new(), String::new());
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("stuck").unwrap();
            let line = line.expect("it ended by itself");
            if line.contains("AWS_") && !line.contains('=') {
                unset.push_str(&line);
            }
            if let Some(url) = line.strip_prefix("Sessions and their tags: ") {
                sessions = url.to_owned();
            }
            if line.contains("Ctrl-C ends it all") {
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
        assert!(getter.get(&sessions, None, 1).await.is_err(), "it still serves");
    }
}

#[tokio::test]
async fn a_command_gets_sigterm_and_keeps_its_own_ctrl_c() {
    let script = "sleep 60 & trap \"kill $!; exit 9\" TERM; echo ready; wait";
    let mut child = local(&["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("stuck").unwrap();
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

async fn end(mut child: Child, signal: &str) -> Option<i32> {
    send(&child, signal);
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the signal does not end it").unwrap().code()
}

#[tokio::test]
async fn sessions_end_when_expire_after_says() {
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

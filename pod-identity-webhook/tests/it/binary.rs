//! The shipped binary.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use clap::Parser;
use testing::authority::Authority;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pod-identity-webhook");

async fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env_clear().output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn help_names_documented_flags_and_errors_name_the_flag_or_file() {
    let help = run(PROGRAM, &["--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    let page = include_str!("../../../docs/reference/webhook.md");
    let help = text(&help.stdout);
    let flags: Vec<_> =
        help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2).collect();
    assert!(flags.len() > 30, "{help}");
    for flag in flags {
        let flag = flag.split(['=', '[', '.', ',', ';', ':', '`']).next().unwrap();
        let known = page.contains(&format!("`{flag}`")) || ["--help", "--version"].contains(&flag);
        assert!(known, "docs/reference/webhook.md does not name {flag}");
    }
    assert_eq!(run(PROGRAM, &["--no-such-flag"]).await.status.code(), Some(2));
    for (flags, expected) in [
        (&["--token-audience="][..], "--token-audience"),
        (
            &["--in-cluster=false", "--kube-api=http://127.0.0.1:9", "--tls-cert=/no/such/file"],
            "/no/such/file",
        ),
        (&["--in-cluster=false"], "--kubeconfig"),
    ] {
        let output = run(PROGRAM, flags).await;
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(text(&output.stderr).contains(expected), "{flags:?}: {}", text(&output.stderr));
    }
}

/// The image holds every file that the program needs, under both of its names, for an unprivileged user.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn runs_in_the_image_with_both_commands_of_aws_manifests() {
    if !testing::netns::available() {
        return; // not root: `available` prints a notice
    }
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("webhook.tar");
    let bundle = directory.path().join("ca.crt");
    std::fs::copy(Authority::new().ca_file(), &bundle).unwrap();
    let args = images::args::Args::parse_from([
        OsStr::new("images"),
        OsStr::new("webhook"),
        OsStr::new("--binary"),
        OsStr::new(PROGRAM),
        OsStr::new("--name=pod-identity-webhook:test"),
        OsStr::new("--output"),
        archive.as_os_str(),
        OsStr::new("--ca-bundle"),
        bundle.as_os_str(),
    ]);
    images::build::run(&args).unwrap();
    let extract = async |archive: &Path, into: &Path| {
        let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).status().await;
        assert!(status.unwrap().success(), "{}", archive.display());
    };
    extract(&archive, directory.path()).await;
    let manifest = std::fs::read(directory.path().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest[0]["Layers"][0].as_str().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    extract(&directory.path().join(layer), &root).await;
    // The unprivileged user must be able to enter the directory.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), readable).unwrap();
    let version = run(PROGRAM, &["--version"]).await;
    for command in [&["/webhook", "--version"][..], &["/go-runner", "/webhook", "--version"]] {
        let mut chroot = Command::new("chroot");
        chroot.arg("--userspec=65532:65532").arg(&root).args(command);
        let output = chroot.output().await.unwrap();
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        assert_eq!(output.stdout, version.stdout, "{command:?}");
    }
}

#[tokio::test]
async fn starts_as_go_runner_with_the_program_as_argument() {
    let directory = tempfile::tempdir().unwrap();
    let runner = directory.path().join("go-runner");
    std::os::unix::fs::symlink(PROGRAM, &runner).unwrap();
    let version = run(PROGRAM, &["--version"]).await;
    let through = run(runner.to_str().unwrap(), &["/webhook", "--version"]).await;
    assert_eq!(through.status.code(), Some(0), "{}", text(&through.stderr));
    assert_eq!(through.stdout, version.stdout);
}

#[tokio::test]
async fn the_first_signal_starts_the_shutdown_and_the_second_ends_the_process() {
    let authority = Authority::new();
    authority.write_pair();
    let mut child = Command::new(PROGRAM)
        .args(["--in-cluster=false", "--port=0", "--metrics-port=0", "--log-format=json", "-v=2"])
        .args(["--service-account-read=never", "--kube-api=http://127.0.0.1:9", "--resync-period=60s"])
        .arg(format!("--tls-cert={}", authority.certificate_file().display()))
        .arg(format!("--tls-key={}", authority.key_file().display()))
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for_line = async |text: &str| {
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
                if line.contains(text) {
                    return;
                }
            }
            panic!("the webhook ended without the line {text:?}");
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("{text:?}"));
    };
    wait_for_line("--resync-period has no effect").await;
    wait_for_line("serving reviews").await;
    let id = child.id().unwrap().to_string();
    let signal = || Command::new("kill").args(["-TERM", &id]).status();
    assert!(signal().await.unwrap().success());
    wait_for_line("shutdown started").await;
    assert!(child.try_wait().unwrap().is_none());
    assert!(signal().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.expect("the webhook must end").unwrap().code(), Some(130));
}

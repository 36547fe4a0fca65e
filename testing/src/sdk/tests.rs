use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::*;

/// Asserts that two concurrent installations share one directory, and that a later one reuses it.
fn assert_installs_once<T: Send>(
    install: impl Fn(&Path) -> Result<T, Unavailable> + Sync,
    root: fn(&T) -> &Path,
) {
    let target = tempfile::tempdir().unwrap();
    let tools = target.path().join("target/tools");
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| install(&tools));
        let second = scope.spawn(|| install(&tools));
        (first.join().unwrap().unwrap(), second.join().unwrap().unwrap())
    });
    assert_eq!(root(&first), root(&second));
    let inode = fs::metadata(root(&first)).unwrap().ino();
    let third = install(&tools).unwrap();
    assert_eq!(fs::metadata(root(&third)).unwrap().ino(), inode, "it was installed again");
    let mut paths: Vec<_> = fs::read_dir(&tools).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let expected = [root(&first).to_owned(), root(&first).with_extension("lock")];
    assert_eq!(paths, expected, "a staging directory was not removed");
}

#[test]
fn python_is_installed_once() {
    if Python::ready().is_some() {
        assert_installs_once(Python::install, |python| &python.root);
    }
}

#[test]
fn node_is_installed_once() {
    if Node::ready().is_some() {
        assert_installs_once(Node::install, |node| &node.root);
    }
}

#[test]
fn failed_installation_starts_again() {
    let tools = tempfile::tempdir().unwrap();
    let manifest = Manifest { kind: "test", files: &[], program_version: "1" };
    let broken = manifest.install(tools.path(), |staging| {
        fs::write(staging.join("half"), "").unwrap();
        install::run(&mut Command::new("false"))
    });
    assert!(broken.unwrap_err().to_string().contains("\"false\" failed"));
    let directory = manifest.install(tools.path(), |staging| {
        assert!(!staging.join("half").exists());
        Ok(())
    });
    assert!(directory.unwrap().is_dir());
}

#[test]
fn error_names_a_missing_or_old_program() {
    let missing = install::version("no-such-program", "", (1, 0)).unwrap_err().to_string();
    assert!(missing.contains("no-such-program cannot be started"), "{missing}");
    let old = install::version("cargo", "cargo ", (999, 0)).unwrap_err().to_string();
    assert!(old.contains("want 999.0 or newer"), "{old}");
}

/// A credentials endpoint that returns another access key id each time, and an STS with `GetCallerIdentity`.
struct FakeAws {
    url: String,
}

impl FakeAws {
    fn start(expiration: &str) -> Self {
        let expiration = expiration.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, expiration) = (Arc::clone(&served), expiration.clone());
                thread::spawn(move || drop(answer(stream.unwrap(), &served, &expiration)));
            }
        });
        Self { url }
    }

    fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", self.url)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token".to_owned()),
            ("AWS_ENDPOINT_URL_STS", self.url.clone()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_DEFAULT_REGION", "eu-west-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn answer(mut stream: TcpStream, served: &AtomicUsize, expiration: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request_line = String::new();
    reader.read_line(&mut request_line)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((_, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let (status, media_type, answer) = if request_line.contains("/v1/credentials") {
        let n = served.fetch_add(1, Ordering::Relaxed);
        let credentials = json!({
            "AccessKeyId": format!("ASIAEXAMPLE{n}"), "SecretAccessKey": "secret", "Token": "token",
            "AccountId": "111122223333", "Expiration": expiration,
        });
        ("200 OK", "application/json", credentials.to_string())
    } else if request_line.contains("assume-role-for-pod-identity") {
        let answer = json!({
            "subject": { "namespace": "shop", "serviceAccount": "orders" },
            "audience": "pods.eks.amazonaws.com",
            "podIdentityAssociation": { "associationArn": "arn", "associationId": "a-1" },
            "assumedRoleUser": { "arn": "arn", "assumeRoleId": "AROA:s" },
            "credentials": {
                "accessKeyId": "ASIA", "secretAccessKey": "s", "sessionToken": "t", "expiration": 1.5e9,
            },
        });
        ("200 OK", "application/json", answer.to_string())
    } else if body.contains("Action=GetCallerIdentity") {
        let answer = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
            <GetCallerIdentityResult><Arn>arn:aws:sts::111122223333:assumed-role/r/s</Arn>\
            <UserId>AROA:s</UserId><Account>111122223333</Account></GetCallerIdentityResult>\
            </GetCallerIdentityResponse>";
        ("200 OK", "text/xml", answer.to_owned())
    } else {
        let answer = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>no trust</Message></Error><RequestId>r</RequestId></ErrorResponse>";
        ("403 Forbidden", "text/xml", answer.to_owned())
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        answer.len(),
        answer
    )
}

/// Runs a line of code in another language and returns its output. Used for the current time, because Rust code of this
/// workspace must not read the clock.
fn output_of_code(program: &str, option: &str, code: &str) -> String {
    let output = Command::new(program).args([option, code]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

type Run<'a> = &'a dyn Fn(&str, &[&str], &[(&str, &str)]) -> Output;

/// Asserts that an SDK makes calls and refreshes its credentials. `expiration` must be so soon that the SDK refreshes before
/// each call.
fn assert_calls_and_refreshes(run: Run<'_>, expiration: &str, identity: &str, refresh: &str) {
    let aws = FakeAws::start(expiration);
    let env = aws.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = run(identity, &[], &env).json();
    assert_eq!(answer["arn"], "arn:aws:sts::111122223333:assumed-role/r/s");
    assert!(answer["accessKeyId"].as_str().unwrap().starts_with("ASIAEXAMPLE"), "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 2);

    let answer = run(refresh, &["1", "0.1"], &env).json();
    assert_eq!(answer["errors"], json!([]));
    assert!(answer["accessKeyIds"].as_array().unwrap().len() > 1, "{answer}");
    assert!(answer["calls"].as_u64().unwrap() > 1, "{answer}");

    // Without STS each call returns an error, and the script continues.
    let closed = format!("http://{}", closed_port());
    let mut env = env;
    env.retain(|(name, _)| *name != "AWS_ENDPOINT_URL_STS");
    env.extend([("AWS_ENDPOINT_URL_STS", closed.as_str()), ("AWS_MAX_ATTEMPTS", "1")]);
    let answer = run(refresh, &["0", "0.1"], &env).json();
    assert_eq!((&answer["calls"], answer["errors"].as_array().unwrap().len()), (&json!(2), 2), "{answer}");
}

/// Returns an address with a port that was closed.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn assert_error_is_shown(run: Run<'_>, script: &str, text: &str) {
    let uri = format!("http://{}/v1/credentials", closed_port());
    let env = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token"),
    ];
    let output = run(script, &[], &env);
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert!(output.stdout.contains(text), "{output:#?}");
}

#[test]
fn boto3_calls_and_refreshes() {
    if let Some(python) = Python::ready() {
        let run = |name: &str, args: &[&str], env: &[(&str, &str)]| python.script(name, args, env);
        let soon = "import time; print(time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 120)))";
        let soon = output_of_code("python3", "-c", soon);
        assert_calls_and_refreshes(&run, &soon, "boto3_get_caller_identity.py", "boto3_refresh.py");
    }
}

#[test]
fn the_javascript_sdk_calls_and_refreshes() {
    if let Some(node) = Node::ready() {
        let run = |name: &str, args: &[&str], env: &[(&str, &str)]| node.script(name, args, env);
        let soon = output_of_code("node", "-p", "new Date(Date.now() + 120000).toISOString()");
        assert_calls_and_refreshes(&run, &soon, "sts_get_caller_identity.mjs", "sts_refresh.mjs");
    }
}

#[test]
fn boto3_shows_its_error() {
    if let Some(python) = Python::ready() {
        assert_error_is_shown(
            &|name, args, env| python.script(name, args, env),
            "boto3_error.py",
            "Error when retrieving credentials",
        );
    }
}

#[test]
fn the_javascript_sdk_shows_its_error() {
    if let Some(node) = Node::ready() {
        assert_error_is_shown(
            &|name, args, env| node.script(name, args, env),
            "sts_error.mjs",
            "Could not load credentials",
        );
    }
}

#[test]
fn the_cli_calls() {
    let Some(python) = Python::ready() else { return };
    let aws = FakeAws::start("2100-01-01T00:00:00Z");
    let env = aws.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let output = python.aws_cli(&["sts", "get-caller-identity"], &env);
    assert_eq!(output.json()["Account"], "111122223333", "{output:#?}");
}

#[test]
fn boto3_call_script_prints_the_response_or_the_error() {
    let Some(python) = Python::ready() else { return };
    let aws = FakeAws::start("2100-01-01T00:00:00Z");
    let call = |service: &str, operation: &str, endpoint: &str, parameters: serde_json::Value| {
        let call = json!({
            "service": service, "operation": operation, "endpoint": endpoint, "region": "eu-west-1",
            "parameters": parameters, "keys": { "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "secret" },
        });
        python.script("boto3_call.py", &[&call.to_string()], &[])
    };
    let pod = json!({ "clusterName": "demo", "token": "a.b.c" });
    let response = call("eks-auth", "assume_role_for_pod_identity", &aws.url, pod.clone());
    assert!(response.success(), "{response:#?}");
    assert_eq!(response.json()["credentials"]["expiration"], "2017-07-14T02:40:00+00:00");

    let role = json!({ "RoleArn": "arn:aws:iam::111122223333:role/app", "RoleSessionName": "session" });
    let refused = call("sts", "assume_role", &aws.url, role);
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.json(), json!({ "code": "AccessDenied", "status": 403, "message": "no trust" }));

    let unreachable =
        call("eks-auth", "assume_role_for_pod_identity", &format!("http://{}", closed_port()), pod);
    assert_eq!(unreachable.json()["code"], "EndpointConnectionError");
    assert!(unreachable.json()["status"].is_null());
}

#[test]
fn program_gets_only_the_variables_of_the_test() {
    let mut command = Command::new("env");
    command.env("LEAKED", "1");
    let home = run::home();
    let path = home.path().to_owned();
    let output = Running::start(command, &[("GIVEN", "1")], home).finish();
    let mut names: Vec<_> = output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "PATH"]);
    assert!(output.stdout.contains(&format!("HOME={}", path.display())));
    assert!(!path.exists(), "the home directory was not removed");
}

#[test]
fn dropping_a_running_program_kills_it() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let running = Running::start(command, &[], run::home());
    drop(running); // waits for the program, which would take ten minutes
}

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::*;

/// Two threads that install the same from nothing share one installation, and a later use finds it.
fn installs_once<T: Send>(below: impl Fn(&Path) -> Result<T, Unavailable> + Sync, root: fn(&T) -> &Path) {
    let target = tempfile::tempdir().unwrap();
    let tools = target.path().join("target/tools");
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| below(&tools));
        let second = scope.spawn(|| below(&tools));
        (first.join().unwrap().unwrap(), second.join().unwrap().unwrap())
    });
    assert_eq!(root(&first), root(&second));
    let inode = fs::metadata(root(&first)).unwrap().ino();
    let third = below(&tools).unwrap();
    assert_eq!(fs::metadata(root(&third)).unwrap().ino(), inode, "it was installed again");
    let mut left: Vec<_> = fs::read_dir(&tools).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    assert_eq!(left, [root(&first).to_owned(), root(&first).with_extension("lock")], "a draft was left");
}

#[test]
fn python_is_installed_from_nothing_and_only_once() {
    if Python::ready().is_some() {
        installs_once(Python::below, |python| &python.root);
    }
}

#[test]
fn node_is_installed_from_nothing_and_only_once() {
    if Node::ready().is_some() {
        installs_once(Node::below, |node| &node.root);
    }
}

#[test]
fn an_interrupted_installation_is_made_anew() {
    let tools = tempfile::tempdir().unwrap();
    let manifest = Manifest { kind: "test", files: &[], program: "1" };
    let broken = manifest.install(tools.path(), |draft| {
        fs::write(draft.join("half"), "").unwrap();
        install::run(&mut Command::new("false"))
    });
    assert!(broken.unwrap_err().to_string().contains("\"false\" failed"));
    let place = manifest.install(tools.path(), |draft| {
        assert!(!draft.join("half").exists());
        Ok(())
    });
    assert!(place.unwrap().is_dir());
}

#[test]
fn a_missing_or_old_program_is_named() {
    let missing = install::version("no-such-program", "", (1, 0)).unwrap_err().to_string();
    assert!(missing.contains("no-such-program cannot be started"), "{missing}");
    let old = install::version("cargo", "cargo ", (999, 0)).unwrap_err().to_string();
    assert!(old.contains("has to be 999.0 or newer"), "{old}");
}

/// Serves credentials, each time with another key, and an STS that knows its caller.
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

/// What a line of code in another language prints: this one may not look at a clock.
fn printed(program: &str, option: &str, code: &str) -> String {
    let output = Command::new(program).args([option, code]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

type Run<'a> = &'a dyn Fn(&str, &[&str], &[(&str, &str)]) -> Output;

/// `soon`: so soon that the SDK gets new credentials for each call.
fn calls_and_refreshes(run: Run<'_>, soon: &str, identity: &str, refresh: &str) {
    let aws = FakeAws::start(soon);
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

    // An STS that is gone is an error of each call, not the end of the script.
    let gone = format!("http://{}", closed_port());
    let mut env = env;
    env.retain(|(name, _)| *name != "AWS_ENDPOINT_URL_STS");
    env.extend([("AWS_ENDPOINT_URL_STS", gone.as_str()), ("AWS_MAX_ATTEMPTS", "1")]);
    let answer = run(refresh, &["0", "0.1"], &env).json();
    assert_eq!((&answer["calls"], answer["errors"].as_array().unwrap().len()), (&json!(2), 2), "{answer}");
}

/// Nobody listens at this port any more.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn shows_an_error(run: Run<'_>, script: &str, text: &str) {
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
        let soon = printed("python3", "-c", soon);
        calls_and_refreshes(&run, &soon, "boto3_get_caller_identity.py", "boto3_refresh.py");
    }
}

#[test]
fn the_javascript_sdk_calls_and_refreshes() {
    if let Some(node) = Node::ready() {
        let run = |name: &str, args: &[&str], env: &[(&str, &str)]| node.script(name, args, env);
        let soon = printed("node", "-p", "new Date(Date.now() + 120000).toISOString()");
        calls_and_refreshes(&run, &soon, "sts_get_caller_identity.mjs", "sts_refresh.mjs");
    }
}

#[test]
fn boto3_shows_its_error() {
    if let Some(python) = Python::ready() {
        shows_an_error(
            &|name, args, env| python.script(name, args, env),
            "boto3_error.py",
            "Error when retrieving credentials",
        );
    }
}

#[test]
fn the_javascript_sdk_shows_its_error() {
    if let Some(node) = Node::ready() {
        shows_an_error(
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
fn one_call_gives_its_answer_or_its_error() {
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
    let answer = call("eks-auth", "assume_role_for_pod_identity", &aws.url, pod.clone());
    assert!(answer.success(), "{answer:#?}");
    assert_eq!(answer.json()["credentials"]["expiration"], "2017-07-14T02:40:00+00:00");

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
fn a_program_sees_only_what_it_is_given() {
    let mut command = Command::new("env");
    command.env("LEAKED", "1");
    let home = run::home();
    let path = home.path().to_owned();
    let output = Running::start(command, &[("GIVEN", "1")], home).finish();
    let mut names: Vec<_> = output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "PATH"]);
    assert!(output.stdout.contains(&format!("HOME={}", path.display())));
    assert!(!path.exists(), "the home was left");
}

#[test]
fn a_dropped_program_is_ended() {
    let mut command = Command::new("sleep");
    command.arg("600");
    let running = Running::start(command, &[], run::home());
    drop(running); // would wait ten minutes for a program that it had not ended
}

//! Requests of boto3, the AWS CLI and the SDK for JavaScript.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use http::Request;
use serde_json::json;
use testing::sdk::{Node, Python};

use super::*;

/// Listens on loopback. It sends every request to the receiver and responds with an error.
fn wire() -> (String, Receiver<Whole>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            read_request(stream.unwrap(), &sender);
        }
    });
    (url, receiver)
}

fn read_request(mut stream: TcpStream, sender: &Sender<Whole>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut request_line = lines[0].split(' ');
    let mut builder =
        Request::builder().method(request_line.next().unwrap()).uri(request_line.next().unwrap());
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').unwrap();
        builder = builder.header(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    let length = builder.headers_ref().unwrap().get("content-length");
    let mut body = vec![0; length.map_or(0, |value| value.to_str().unwrap().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let _ = sender.send(builder.body(body).unwrap());
    let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer.as_bytes()).unwrap();
}

/// Asserts that the request verifies, and that it does not verify with another body.
fn assert_signed(request: &Whole, service: &str, token: Option<&str>) {
    let now = SigningTime::of(request.headers()).unwrap().time;
    let signer = check_for(request, service, Some("eu-west-1"), now);
    let signer = signer.unwrap_or_else(|error| panic!("{error} for {request:?}"));
    assert_eq!((&*signer.access_key_id, signer.session_token.as_deref()), (KEY, token));
    let mut changed = request.clone();
    changed.body_mut().push(b' ');
    assert!(check_for(&changed, service, None, now).is_err());
}

fn environment(url: &str) -> [(&str, &str); 6] {
    [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "a/session+token=="),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", url),
    ]
}

#[test]
fn accepts_requests_of_boto3() {
    let Some(python) = Python::ready() else { return };
    let (url, requests) = wire();
    let call = |service: &str, operation: &str, parameters: serde_json::Value| {
        let call = json!({
            "service": service, "operation": operation, "endpoint": url, "region": "eu-west-1",
            "keys": { "accessKeyId": KEY, "secretAccessKey": SECRET }, "parameters": parameters,
        });
        let output = python.script("boto3_call.py", &[&call.to_string()], &[]);
        assert_eq!(output.code, Some(1), "{output:#?}");
        requests.try_recv().unwrap()
    };
    let pod = json!({ "clusterName": "demo", "token": "a.b.c" });
    assert_signed(&call("eks-auth", "assume_role_for_pod_identity", pod), "eks-auth", None);
    let tags = json!([{ "Key": "team a", "Value": "ä+~*" }]);
    let role = json!({
        "RoleArn": "arn:aws:iam::111122223333:role/app", "RoleSessionName": "session", "Tags": tags,
    });
    assert_signed(&call("sts", "assume_role", role), "sts", None);
    // A path with an escaped ARN, a query with repeated keys, and a method without a body.
    let untag =
        json!({ "resourceArn": "arn:aws:eks:eu-west-1:111122223333:a/b c", "tagKeys": ["b", "a ä", "a"] });
    assert_signed(&call("eks", "untag_resource", untag), "eks", None);
    let list = json!({ "clusterName": "demo", "namespace": "shop", "nextToken": "a+b/c==" });
    assert_signed(&call("eks", "list_pod_identity_associations", list), "eks", None);
}

#[test]
fn accepts_requests_of_the_aws_cli() {
    let Some(python) = Python::ready() else { return };
    let (url, requests) = wire();
    python.aws_cli(&["sts", "get-caller-identity"], &environment(&url));
    assert_signed(&requests.try_recv().unwrap(), "sts", Some("a/session+token=="));
}

#[test]
fn accepts_requests_of_the_javascript_sdk() {
    let Some(node) = Node::ready() else { return };
    let (url, requests) = wire();
    node.script("sts_error.mjs", &[], &environment(&url));
    assert_signed(&requests.try_recv().unwrap(), "sts", Some("a/session+token=="));
}

//! The local STS, called with boto3 and the AWS CLI.

use std::time::Duration;

use pod_identity_local::issuer::{Issuer, KeyAlgorithm, TokenRequest};
use pod_identity_local::services::LocalConfig;
use pod_identity_runtime::clock;
use serde_json::{Value, json};

use crate::clients::{aws_cli, python};
use crate::harness::{FIXTURE, OnePod, Variables, workload};

const HOUR: Duration = Duration::from_secs(3600);
const ROBOT: &str = "AKIALOCALUSER0000000";
const APP: &str = "arn:aws:iam::111122223333:role/app";
const TARGET: &str = "arn:aws:iam::444455556666:role/target";
const IRSA: &str = "arn:aws:iam::111122223333:role/irsa";

impl OnePod {
    /// Returns the access key of a caller of the fixture.
    fn key(&self, id: &str) -> Value {
        let known =
            self.services.sts().fixture().callers().find(|caller| caller.access_key_id == id).unwrap();
        json!({ "accessKeyId": id, "secretAccessKey": known.secret_access_key.expose() })
    }

    fn sts_call(&self, operation: &str, keys: &Value, parameters: Value) -> String {
        json!({
            "service": "sts", "operation": operation, "endpoint": self.services.sts_url(),
            "region": "eu-west-1", "keys": keys, "parameters": parameters,
        })
        .to_string()
    }

    fn web_token(&self, issuer: &Issuer, change: impl FnOnce(&mut TokenRequest)) -> String {
        let mut request = workload("app").token_request(clock::now(), HOUR);
        request.audiences = vec!["sts.amazonaws.com".to_owned()];
        change(&mut request);
        issuer.mint(&request).unwrap()
    }

    /// Returns variables with this access key.
    fn variables_with(&self, keys: &Value) -> Variables {
        let mut variables = vec![
            ("AWS_REGION".to_owned(), "eu-west-1".to_owned()),
            ("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS".to_owned(), self.services.sts_url()),
        ];
        for (name, member) in [
            ("AWS_ACCESS_KEY_ID", "accessKeyId"),
            ("AWS_SECRET_ACCESS_KEY", "secretAccessKey"),
            ("AWS_SESSION_TOKEN", "sessionToken"),
        ] {
            let value = keys[member].as_str();
            variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        }
        variables
    }
}

/// Makes the calls one after the other. Returns the results of boto3, or `None` without boto3.
async fn boto3(calls: &[String]) -> Option<Vec<Value>> {
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let output = python(vec![], "boto3_call.py", &calls).await?;
    let answers: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), calls.len(), "{output:#?}");
    Some(answers)
}

/// Returns the access key in a response, for the next call.
fn keys_of(answer: &Value) -> Value {
    let credentials = &answer["Credentials"];
    assert!(credentials.is_object(), "{answer}");
    json!({
        "accessKeyId": credentials["AccessKeyId"], "secretAccessKey": credentials["SecretAccessKey"],
        "sessionToken": credentials["SessionToken"],
    })
}

fn tags(tags: &[(&str, &str)]) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

#[tokio::test]
async fn boto3_chains_roles_with_transitive_tags() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let first = json!({
        "RoleArn": APP, "RoleSessionName": "first", "DurationSeconds": 900,
        "Tags": tags(&[("team", "a b"), ("stage", "prod")]), "TransitiveTagKeys": ["team"],
    });
    let Some(first) = boto3(&[pod.sts_call("assume_role", &pod.key(ROBOT), first)]).await else { return };
    assert_eq!(first[0]["AssumedRoleUser"]["Arn"], "arn:aws:sts::111122223333:assumed-role/app/first");
    let keys = keys_of(&first[0]);
    let second = json!({
        "RoleArn": TARGET, "RoleSessionName": "second", "Tags": tags(&[("stage", "dev")]),
    });
    let calls =
        [pod.sts_call("assume_role", &keys, second), pod.sts_call("get_caller_identity", &keys, json!({}))];
    let answers = boto3(&calls).await.unwrap();
    let second = pod.services.sts().inspect(keys_of(&answers[0])["accessKeyId"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&second.tags).unwrap(), json!({ "team": "a b", "stage": "dev" }));
    assert_eq!(second.transitive_tag_keys, ["team"]);
    let robot = "arn:aws:iam::111122223333:user/robot";
    assert_eq!(second.chain, [robot, "arn:aws:sts::111122223333:assumed-role/app/first"]);
    assert_eq!(answers[1]["Arn"], "arn:aws:sts::111122223333:assumed-role/app/first");
    assert_eq!(answers[1]["Account"], "111122223333");
    assert_eq!(answers[1]["UserId"], first[0]["AssumedRoleUser"]["AssumedRoleId"]);
}

#[tokio::test]
async fn aws_cli_assumes_roles_by_key_and_by_web_identity() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let assume = ["sts", "assume-role", "--role-arn", APP, "--role-session-name", "cli", "--tags"];
    let assume = [&assume[..], &["Key=team,Value=a", "--transitive-tag-keys", "team"]].concat();
    let Some(answer) = aws_cli(pod.variables_with(&pod.key(ROBOT)), &assume).await else { return };
    let answer = answer.json();
    let session = pod.services.sts().inspect(answer["Credentials"]["AccessKeyId"].as_str().unwrap()).unwrap();
    assert_eq!(session.transitive_tag_keys, ["team"]);

    let token = pod.web_token(pod.services.issuer(), |_| {});
    let web = ["sts", "assume-role-with-web-identity", "--role-arn", IRSA, "--role-session-name", "cli"];
    let web = [&web[..], &["--web-identity-token", &token]].concat();
    let who = ["sts", "get-caller-identity"];
    let no_tags =
        ["sts", "assume-role", "--role-session-name", "cli", "--tags", "Key=a,Value=b", "--role-arn"];
    let no_tags = [&no_tags[..], &["arn:aws:iam::111122223333:role/untagged"]].concat();
    let (web, who, refused) = tokio::join!(
        aws_cli(pod.variables_with(&Value::Null), &web),
        aws_cli(pod.variables_with(&keys_of(&answer)), &who),
        aws_cli(pod.variables_with(&pod.key(ROBOT)), &no_tags),
    );
    let web = web.unwrap().json();
    assert_eq!(web["SubjectFromWebIdentityToken"], "system:serviceaccount:default:app");
    assert_eq!(web["Audience"], "sts.amazonaws.com");
    let provider = "arn:aws:iam::111122223333:oidc-provider/oidc.pod-identity.test/laptop";
    assert_eq!(web["Provider"], provider);
    assert_eq!(web["AssumedRoleUser"]["Arn"], "arn:aws:sts::111122223333:assumed-role/irsa/cli");
    assert_eq!(who.unwrap().json()["Arn"], "arn:aws:sts::111122223333:assumed-role/app/cli");
    let refused = refused.unwrap();
    let words = "An error occurred (AccessDenied) when calling the AssumeRole operation: User: \
                 arn:aws:iam::111122223333:user/robot is not authorized to perform: sts:TagSession on resource: \
                 arn:aws:iam::111122223333:role/untagged";
    assert!(refused.stderr.contains(words), "{refused:#?}");
    assert_ne!(refused.code, Some(0));
}

#[tokio::test]
async fn boto3_reads_every_error_with_awss_message() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let robot = pod.key(ROBOT);
    let first = json!({
        "RoleArn": APP, "RoleSessionName": "first", "Tags": tags(&[("team", "a")]), "TransitiveTagKeys": ["team"],
    });
    let Some(first) = boto3(&[pod.sts_call("assume_role", &robot, first)]).await else { return };
    let session = keys_of(&first[0]);
    let with = |keys: &Value, name: &str, value: &str| {
        let mut keys = keys.clone();
        keys[name] = json!(value);
        keys
    };
    let assume = |keys: &Value, role: &str, more: Value| {
        let mut parameters = json!({ "RoleArn": role, "RoleSessionName": "refused" });
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod.sts_call("assume_role", keys, parameters)
    };
    let web = |token: String| {
        let parameters = json!({ "RoleArn": IRSA, "RoleSessionName": "web", "WebIdentityToken": token });
        pod.sts_call("assume_role_with_web_identity", &Value::Null, parameters)
    };
    let issuer = pod.services.issuer();
    let unregistered =
        Issuer::new("https://elsewhere.test", "http://127.0.0.1:9", KeyAlgorithm::default()).unwrap();
    let many: Vec<(String, String)> = (0..51).map(|n| (format!("key{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let large = "v".repeat(256);
    let large: Vec<(String, &str)> = (0..50).map(|n| (format!("key{n}"), large.as_str())).collect();
    let large: Vec<(&str, &str)> = large.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let token = session["sessionToken"].as_str().unwrap();
    let tampered: String = token.chars().rev().collect();
    let rows = [
        (
            assume(&robot, "arn:aws:iam::111122223333:role/untagged", json!({ "Tags": tags(&[("a", "b")]) })),
            403,
            "AccessDenied",
            "is not authorized to perform: sts:TagSession on resource: arn:aws:iam::111122223333:role/untagged",
        ),
        (
            assume(&robot, "arn:aws:iam::111122223333:role/nobody", json!({})),
            403,
            "AccessDenied",
            "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/nobody",
        ),
        (
            assume(&robot, APP, json!({ "DurationSeconds": 7201 })),
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        (
            assume(&session, TARGET, json!({ "DurationSeconds": 3601 })),
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ),
        (
            assume(&session, TARGET, json!({ "Tags": tags(&[("Team", "b")]) })),
            400,
            "InvalidParameterValue",
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key \
             from the calling session.",
        ),
        (
            assume(&robot, APP, json!({ "RoleSessionName": "two words" })),
            400,
            "ValidationError",
            "Value 'two words' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: [\\w+=,.@-]*",
        ),
        (
            assume(&robot, APP, json!({ "Tags": tags(&many) })),
            400,
            "ValidationError",
            "Member must have length less than or equal to 50",
        ),
        (
            assume(&robot, APP, json!({ "Tags": tags(&[("aws:team", "b")]) })),
            400,
            "InvalidParameterValue",
            "aws:team",
        ),
        (
            assume(&robot, APP, json!({ "Tags": tags(&[("team", "a"), ("TEAM", "b")]) })),
            400,
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            assume(&robot, APP, json!({ "Tags": tags(&large) })),
            400,
            "PackedPolicyTooLarge",
            "% of allotted space",
        ),
        (
            assume(&robot, APP, json!({ "Policy": "{\"Version\": " })),
            400,
            "MalformedPolicyDocument",
            "This policy contains invalid Json",
        ),
        (
            web(pod
                .web_token(issuer, |request| request.audiences = vec!["pods.eks.amazonaws.com".to_owned()])),
            400,
            "InvalidIdentityToken",
            "Incorrect token audience",
        ),
        (
            web(pod.web_token(&unregistered, |_| {})),
            400,
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://elsewhere.test",
        ),
        (
            web(pod.web_token(issuer, |request| request.expires_at = request.issued_at - HOUR)),
            400,
            "ExpiredTokenException",
            "Token expired: current date/time",
        ),
        (
            web(pod.web_token(issuer, |request| request.service_account = "other".parse().unwrap())),
            403,
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        ),
        (
            assume(&with(&robot, "secretAccessKey", "another secret"), APP, json!({})),
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
        ),
        (
            assume(&with(&robot, "accessKeyId", "AKIANOBODYKNOWS00000"), APP, json!({})),
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
        (
            assume(&with(&session, "sessionToken", &tampered), TARGET, json!({})),
            403,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
        (
            pod.sts_call("get_caller_identity", &Value::Null, json!({})),
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        ),
    ];
    let calls: Vec<String> = rows.iter().map(|(call, ..)| call.clone()).collect();
    let answers = boto3(&calls).await.unwrap();
    for ((call, status, code, words), answer) in rows.iter().zip(answers) {
        assert_eq!(
            (&answer["code"], &answer["status"]),
            (&json!(code), &json!(status)),
            "{answer} to {call}"
        );
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer} does not contain {words:?}");
    }
    assert_eq!(pod.services.sts().sessions().len(), 1, "refused requests create no session");
}

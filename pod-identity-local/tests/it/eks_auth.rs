//! The API of the auth service, called with boto3, the Rust SDK and plain HTTP.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_eksauth::config::{BehaviorVersion, Region};
use bytes::Bytes;
use http::{Request, Response};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm, TokenRequest, forgery};
use pod_identity_local::services::{AuthPrincipal, LocalConfig, Workload, write_private};
use pod_identity_runtime::clock;
use serde_json::{Value, json};

use crate::clients::python;
use crate::harness::{FIXTURE, OnePod, workload};
use crate::raw;

const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const PATH: &str = "/clusters/laptop/assume-role-for-pod-identity";

pub(crate) fn exchange(path: &str, body: &Value) -> Request<String> {
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    Request::post(path).header("content-type", "application/json").body(body).unwrap()
}

impl OnePod {
    /// Sends a request signed with the agent's key.
    async fn exchange(&self, path: &str, body: Value) -> Response<Bytes> {
        let url = self.services.auth_url();
        let request = raw::signed(&url, exchange(path, &body), self.services.agent_key(), "eks-auth");
        raw::send(&url, request).await
    }

    fn token_of(&self, workload: &Workload, change: impl FnOnce(&mut TokenRequest)) -> String {
        let mut request = workload.token_request(clock::now(), HOUR);
        change(&mut request);
        self.services.issuer().mint(&request).unwrap()
    }
}

fn body(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[track_caller]
pub(crate) fn assert_refused(response: &Response<Bytes>, status: u16, exception: &str, code: &str) {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    let body = body(response);
    assert_eq!((response.status().as_u16(), header("x-amzn-errortype")), (status, Some(exception)), "{body}");
    assert_eq!((header("x-pod-identity-error"), &body["__type"]), (Some(code), &json!(exception)), "{body}");
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(header("x-amzn-requestid").unwrap().len(), 36);
    assert!(body["message"].as_str().unwrap().ends_with(&format!("[{code}]")), "{body}");
    assert_eq!(header("retry-after").is_some(), status >= 500 || status == 429, "{body}");
}

#[tokio::test]
async fn response_has_the_members_and_types_of_the_api() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let answer = pod.exchange(PATH, json!({ "token": pod.token() })).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["x-amzn-requestid"].len(), 36);
    let answer = body(&answer);
    assert_eq!(answer["subject"], json!({ "namespace": "default", "serviceAccount": "app" }));
    assert_eq!(answer["audience"], "pods.eks.amazonaws.com");
    let association = &answer["podIdentityAssociation"];
    let id = association["associationId"].as_str().unwrap();
    let arn = format!("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/laptop/{id}");
    assert_eq!(association["associationArn"], arn);
    let user = &answer["assumedRoleUser"];
    let session = user["arn"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(user["assumeRoleId"].as_str().unwrap().ends_with(&format!(":{session}")), "{user}");
    let credentials = answer["credentials"].as_object().unwrap();
    let mut members: Vec<_> = credentials.keys().collect();
    members.sort();
    assert_eq!(members, ["accessKeyId", "expiration", "secretAccessKey", "sessionToken"]);
    // A number of seconds, because the Rust SDK reads no other form.
    let now = clock::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = credentials["expiration"].as_u64().unwrap() - now;
    assert!((3590..=3600).contains(&left), "{left}");
}

#[tokio::test]
async fn boto3_and_the_rust_sdk_read_the_response() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let key = pod.services.agent_key().clone();
    let config = aws_sdk_eksauth::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(pod.services.auth_url())
        .credentials_provider(key.clone())
        .build();
    let client = aws_sdk_eksauth::Client::from_conf(config);
    let request = client.assume_role_for_pod_identity().cluster_name("laptop").token(pod.token());
    let answer = request.send().await.unwrap();
    let credentials = answer.credentials.unwrap();
    let session = pod.services.sts().inspect(&credentials.access_key_id).unwrap();
    assert_eq!(answer.assumed_role_user.unwrap().arn, session.assumed_role_arn);
    assert_eq!(credentials.expiration.to_string(), session.expiration);

    let call = json!({
        "service": "eks-auth", "operation": "assume_role_for_pod_identity",
        "endpoint": pod.services.auth_url(), "region": "eu-west-1",
        "parameters": { "clusterName": "laptop", "token": pod.token() },
        "keys": { "accessKeyId": key.access_key_id(), "secretAccessKey": key.secret_access_key() },
    });
    let Some(output) = python(vec![], "boto3_call.py", &[&call.to_string()]).await else { return };
    let answer = output.json();
    let session = pod.services.sts().inspect(answer["credentials"]["accessKeyId"].as_str().unwrap()).unwrap();
    assert_eq!(answer["assumedRoleUser"]["arn"], session.assumed_role_arn);
    let expiration = answer["credentials"]["expiration"].as_str().unwrap().replace("+00:00", "Z");
    assert_eq!(expiration, session.expiration);
}

#[tokio::test]
async fn every_error_has_the_name_and_status_of_the_api() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let (issuer, app) = (pod.services.issuer(), workload("app"));
    let same = |_: &mut TokenRequest| {};
    let claims = issuer.claims(&app.token_request(clock::now(), HOUR)).to_string();
    let header = |alg: &str| json!({ "alg": alg, "kid": issuer.signing_key().kid() }).to_string();
    let unpublished =
        Issuer::new(issuer.issuer(), "http://127.0.0.1:9/laptop", KeyAlgorithm::default()).unwrap();
    let altered = claims.replace("\"app-1\"", "\"app-2\"");
    assert_ne!(altered, claims);
    let elsewhere =
        Issuer::new("https://elsewhere.test", "http://127.0.0.1:9", KeyAlgorithm::default()).unwrap();
    let foreign: Value = elsewhere.claims(&app.token_request(clock::now(), HOUR));

    let with_token = |token: String| (PATH, json!({ "token": token }));
    let valid = pod.token_of(&app, same);
    let invalid = "InvalidTokenException";
    for ((path, body), status, exception, code) in [
        (
            with_token(pod.token_of(&workload("unassociated"), same)),
            404,
            "ResourceNotFoundException",
            "association_not_found",
        ),
        (
            ("/clusters/other/assume-role-for-pod-identity", json!({ "token": valid })),
            404,
            "ResourceNotFoundException",
            "cluster_unknown",
        ),
        (("/clusters/laptop/nothing", json!({})), 404, "UnknownOperationException", "not_found"),
        (
            ("/clusters/-/assume-role-for-pod-identity", json!({ "token": valid })),
            400,
            "InvalidParameterException",
            "request_malformed",
        ),
        ((PATH, json!("{")), 400, "InvalidParameterException", "request_malformed"),
        ((PATH, json!({})), 400, "InvalidParameterException", "request_malformed"),
        (
            (PATH, json!({ "token": "a".repeat(33 * 1024) })),
            400,
            "InvalidParameterException",
            "request_too_large",
        ),
        (
            with_token(pod.token_of(&app, |r| r.expires_at = r.issued_at - HOUR)),
            400,
            "ExpiredTokenException",
            "token_expired",
        ),
        (with_token("no-token".to_owned()), 400, invalid, "token_malformed"),
        (
            with_token(forgery::hs256(&header("HS256"), &claims, &issuer.jwks())),
            400,
            invalid,
            "token_algorithm_refused",
        ),
        (
            with_token(forgery::with_signature_of(&valid, &header("ES256"), &altered)),
            400,
            invalid,
            "token_signature_invalid",
        ),
        (
            with_token(issuer.sign(&header("ES256"), &foreign.to_string()).unwrap()),
            400,
            invalid,
            "token_issuer_wrong",
        ),
        (
            with_token(pod.token_of(&app, |r| r.audiences.push("another".to_owned()))),
            400,
            invalid,
            "token_audience_wrong",
        ),
        (
            with_token(pod.token_of(&app, |r| {
                r.not_before += HOUR / 2;
                r.issued_at += HOUR / 2;
            })),
            400,
            invalid,
            "token_not_yet_valid",
        ),
        (with_token(pod.token_of(&app, |r| r.pod = None)), 400, invalid, "token_not_pod_bound"),
        (
            with_token(pod.token_of(&workload("refused"), same)),
            400,
            "AccessDeniedException",
            "role_trust_refused",
        ),
        (
            with_token(pod.token_of(&workload("badly-limited"), same)),
            400,
            "InvalidRequestException",
            "session_refused",
        ),
        (
            with_token(unpublished.mint(&app.token_request(clock::now(), HOUR)).unwrap()),
            503,
            "ServiceUnavailableException",
            "token_key_unknown",
        ),
    ] {
        assert_refused(&pod.exchange(path, body).await, status, exception, code);
    }
}

#[tokio::test]
async fn reports_transitive_tags_of_the_services_own_session() {
    let fixture = FIXTURE.replace(
        "sessionName: laptop}",
        "sessionName: laptop, tags: {kubernetes-namespace: x}, transitiveTagKeys: [kubernetes-namespace]}",
    );
    let config = LocalConfig { principal: AuthPrincipal::IamRole, ..LocalConfig::default() };
    let pod = OnePod::start(&fixture, config).await;
    let refused = pod.exchange(PATH, json!({ "token": pod.token() })).await;
    assert_refused(&refused, 400, "InvalidRequestException", "caller_session_has_tags");
}

#[tokio::test]
async fn refuses_callers_without_a_valid_signature_with_awss_names() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let (url, agent) = (pod.services.auth_url(), pod.services.agent_key());
    let key = |id: &str, secret: &str| Credentials::new(id, secret, None, None, "test");
    let request = || exchange(PATH, &json!({ "token": pod.token() }));
    let by = |key: &Credentials, service: &str| raw::signed(&url, request(), key, service);
    let mut changed = by(agent, "eks-auth");
    changed.body_mut().push(' ');
    let mut half = request();
    half.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 Credential=x".parse().unwrap());
    let bearer = {
        let mut request = request();
        request.headers_mut().insert("authorization", "Bearer a.b.c".parse().unwrap());
        request
    };
    let mismatch = "InvalidSignatureException";
    for (request, exception) in [
        (request(), "MissingAuthenticationTokenException"),
        (by(&key(agent.access_key_id(), "not the agent's secret"), "eks-auth"), mismatch),
        (by(agent, "sts"), mismatch),
        (changed, mismatch),
        (
            by(&key("AKIANOBODYKNOWS00000", agent.secret_access_key()), "eks-auth"),
            "UnrecognizedClientException",
        ),
        (half, "IncompleteSignatureException"),
        (bearer, "IncompleteSignatureException"),
    ] {
        assert_refused(&raw::send(&url, request).await, 403, exception, "caller_refused");
    }
    assert!(pod.services.sts().sessions().is_empty(), "a refused caller got a session");
}

#[tokio::test]
async fn removed_association_is_refused_and_restored_one_works() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let file = pod.services.associations_file();
    let full = std::fs::read_to_string(&file).unwrap();
    let start = full.find("associations:").unwrap();
    for (text, status) in [(format!("{}associations: []\n", &full[..start]), 404), (full, 200)] {
        assert_ne!(pod.exchange(PATH, json!({ "token": pod.token() })).await.status(), status);
        write_private(&file, &text).unwrap();
        let changed_at = clock::monotonic();
        while pod.exchange(PATH, json!({ "token": pod.token() })).await.status() != status {
            assert!(changed_at.elapsed() < Duration::from_secs(10), "the change has no effect");
        }
    }
}

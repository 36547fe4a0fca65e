//! Health, readiness and metrics, and an unavailable STS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pod_identity_runtime::http::answer;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;

use testing::eventually::eventually;

use crate::test_auth::{Options, code, pod, start_auth, write};

#[tokio::test]
async fn ready_with_keys_and_sts_and_metrics_count_every_response() {
    let auth = start_auth(Options::default()).await;
    assert_eq!(auth.readiness(200).await, "ready\n");
    assert_eq!(auth.get("/healthz").await.status, 200);
    auth.exchange(&auth.token(&pod("cart"))).await;
    auth.exchange(&auth.token(&pod("nobody"))).await;
    auth.exchange("a.b.c").await;
    let metrics = auth.get("/metrics").await.text();
    for line in [
        r#"pod_identity_http_responses_total{status="200",code="ok"} 1"#,
        r#"pod_identity_http_responses_total{status="404",code="association_not_found"} 1"#,
        r#"pod_identity_http_responses_total{status="400",code="token_malformed"} 1"#,
        "pod_identity_sts_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn stays_ready_with_a_cluster_without_keys_and_a_failing_sts() {
    let sts = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let sts_url = Some(format!("http://{}", sts.address().unwrap()));
    // A valid response for GetCallerIdentity, but not for AssumeRole.
    const CALLER: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn>\
        </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let response = FixedResponse { status: 200, body: CALLER, calls: AtomicUsize::new(0) };
    tokio::spawn(sts.serve(Arc::new(response), Shutdown::never()));
    let auth = start_auth(Options { sts_url, ..Options::default() }).await;
    assert_eq!(auth.readiness(200).await, "ready\n");

    let mut file = serde_json::to_value(auth.services.associations()).unwrap();
    let missing = auth.directory.path().join("late.json");
    let late = serde_json::json!({"name": "late", "issuer": "https://late.test", "jwksFile": missing});
    file["clusters"].as_array_mut().unwrap().push(late);
    write(&auth.file(), &file.to_string());
    eventually("the fault is in /readyz", || async {
        auth.get("/readyz")
            .await
            .text()
            .contains("no keys yet of cluster late (https://late.test)")
            .then_some(())
    })
    .await;
    assert_eq!(code(&auth.exchange(&auth.token(&pod("cart"))).await), "upstream_unavailable");

    let ready = auth.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.text().contains("\nsts: "), "{}", ready.text());
    let metrics = auth.get("/metrics").await.text();
    for line in [
        r#"pod_identity_issuer_keys{cluster="late",issuer="https://late.test"} 0"#,
        r#"pod_identity_issuer_keys{cluster="demo",issuer="https://kubernetes.default.svc"} 1"#,
        r#"pod_identity_condition{condition="issuer_keys"} 0"#,
        r#"pod_identity_condition{condition="sts"} 0"#,
        r#"pod_identity_sts_calls_total{code="upstream_unavailable"} 1"#,
        r#"pod_identity_file_reads_total{file="associations",result="ok"} 1"#,
        "pod_identity_ready 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn unreachable_sts_gives_a_retryable_error_and_not_ready() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let auth = start_auth(Options { sts_url: Some(format!("http://{nobody}")), ..Options::default() }).await;
    assert!(auth.readiness(503).await.contains("sts: "));
    let answer = auth.exchange(&auth.token(&pod("cart"))).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("upstream_unavailable", 503));
    assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert_eq!(answer.header("retry-after"), Some("2"));
    // The message does not contain the secret of the call.
    assert!(!answer.text().contains("broker-secret"));
}

/// An STS with a fixed response and a `Retry-After` of nine seconds.
struct FixedResponse {
    status: u16,
    body: &'static str,
    /// Number of `AssumeRole` calls.
    calls: AtomicUsize,
}

impl Handler for FixedResponse {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let form = request.into_body().collect().await.unwrap().to_bytes();
        if form.starts_with(b"Action=AssumeRole&") {
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
        let (status, body) = (StatusCode::from_u16(self.status).unwrap(), self.body.as_bytes());
        let mut response = answer(status, "text/xml", Bytes::from_static(body));
        response.headers_mut().insert("retry-after", "9".parse().unwrap());
        response
    }
}

#[tokio::test]
async fn maps_sts_responses_to_exceptions() {
    const THROTTLED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>\
        <Message>Rate exceeded</Message></Error></ErrorResponse>";
    const EXPIRED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>\
        <Message>The security token included in the request is expired</Message></Error></ErrorResponse>";
    const EMPTY: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
        </Credentials><AssumedRoleUser><Arn>a</Arn><AssumedRoleId>b</AssumedRoleId></AssumedRoleUser>\
        </AssumeRoleResult></AssumeRoleResponse>";
    const OTHER_ROLE: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>\
        </Credentials><AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/other/eks-demo</Arn>\
        <AssumedRoleId>b</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>";
    // The third column is the number of calls to STS. Only the SDK repeats a call.
    for (status, body, calls, expected, exception, response_status) in [
        (400, THROTTLED, 3, "throttled", "ThrottlingException", 429),
        (403, EXPIRED, 1, "own_credentials", "ServiceUnavailableException", 503),
        (503, "", 3, "upstream_unavailable", "ServiceUnavailableException", 503),
        (500, "", 3, "upstream_unavailable", "ServiceUnavailableException", 503),
        (200, "<html>", 1, "upstream_unavailable", "ServiceUnavailableException", 503),
        (200, EMPTY, 1, "internal", "InternalServerException", 500),
        (200, OTHER_ROLE, 1, "subject_mismatch", "InternalServerException", 500),
    ] {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let sts_url = Some(format!("http://{}", listener.address().unwrap()));
        let sts = Arc::new(FixedResponse { status, body, calls: AtomicUsize::new(0) });
        tokio::spawn(listener.serve(sts.clone(), Shutdown::never()));
        let auth = start_auth(Options { sts_url, ..Options::default() }).await;
        let answer = auth.exchange(&auth.token(&pod("cart"))).await;
        assert_eq!(
            (code(&answer).as_str(), answer.status),
            (expected, response_status),
            "{body}: {}",
            answer.text()
        );
        assert_eq!(answer.header("x-amzn-errortype"), Some(exception), "{body}");
        let retry_after = match body {
            EMPTY => Some("2"),
            OTHER_ROLE => None,
            _ => Some("9"),
        };
        assert_eq!(answer.header("retry-after"), retry_after, "{body}: {answer:?}");
        let roles = ["assumed-role/other/eks-demo", "assumed-role/app/eks-demo-cart-1-"];
        let names_both = roles.iter().all(|role| answer.text().contains(role));
        assert_eq!(names_both, body == OTHER_ROLE, "{}", answer.text());
        assert_eq!(sts.calls.load(Ordering::SeqCst), calls, "{status} {body}");
    }
}

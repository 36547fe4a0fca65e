//! Requests of pods and their responses.

use std::net::{IpAddr, Ipv6Addr};

use pod_identity_runtime::shutdown::Shutdown;
use testing::wire::{Answer, Connection, ask};

use crate::agent::{Behaviour, LOOPBACK, address, agent, check_error, credentials, fake_eks_auth};
use crate::agent::{granted, pod, services, serving, token};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn response_has_the_five_members_that_sdks_read() {
    let services = services().await;
    let token = services.token(&pod(), pod_identity_runtime::clock::now(), MINUTE).unwrap();
    for authorization in [token.clone(), format!("Bearer {token}")] {
        let answer = credentials(address(&services), &authorization).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let body = answer.json();
        let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["AccessKeyId", "AccountId", "Expiration", "SecretAccessKey", "Token"]);
        assert!(body["Expiration"].as_str().unwrap().ends_with('Z'));
        let session = services.sts().inspect(body["AccessKeyId"].as_str().unwrap()).unwrap();
        assert_eq!(session.tags.value("kubernetes-pod-name"), Some("app-1"));
    }
}

async fn asked(line: &str, headers: &[(&str, &str)]) -> Answer {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let mut connection = Connection::open(serving(eks_auth.address).await).await.unwrap();
    connection.ask(line, headers, b"").await.unwrap()
}

#[tokio::test]
async fn refuses_hosts_other_than_served_addresses() {
    let token = token();
    let authorized = ("Authorization", token.as_str());
    for host in ["127.0.0.1", "127.0.0.1:80", "localhost", "127.0.0.1:2703"] {
        assert_eq!(asked("GET /v1/credentials", &[("Host", host), authorized]).await.status, 200, "{host}");
    }
    for host in [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "169.254.170.23",
        "a@127.0.0.1",
        "127.0.0.1, evil.example",
        "127.0.0.1/",
        "127.0.0.1 evil.example",
    ] {
        let answer = asked("GET /v1/credentials", &[("Host", host), authorized]).await;
        assert_eq!((check_error(&answer).as_str(), answer.status), ("host_refused", 403), "{host}");
    }
    for hosts in [&[][..], &[("Host", "127.0.0.1"), ("Host", "127.0.0.1")]] {
        let answer = asked("GET /v1/credentials", &[hosts, &[authorized]].concat()).await;
        assert_eq!(answer.status, 403, "{hosts:?}");
    }
    // Headers of proxies do not count as a host.
    let forwarded = [("Host", "evil.example"), ("X-Forwarded-Host", "127.0.0.1"), authorized];
    assert_eq!(asked("GET /v1/credentials", &forwarded).await.status, 403);
    // In the absolute form (RFC 9112, section 3.2.2) both hosts are checked.
    let own = [("Host", "127.0.0.1"), authorized];
    assert_eq!(asked("GET http://127.0.0.1/v1/credentials", &own).await.status, 200);
    assert_eq!(asked("GET http://evil.example/v1/credentials", &own).await.status, 403);
}

#[tokio::test]
async fn serves_only_get_of_the_credentials_path() {
    let token = token();
    let headers = [("Host", "127.0.0.1"), ("Authorization", token.as_str())];
    assert_eq!(asked("GET /v1/credentials?x=y", &headers).await.status, 200);
    for line in [
        "POST /v1/credentials",
        "PUT /v1/credentials",
        "OPTIONS /v1/credentials",
        "DELETE /v1/credentials",
        "TRACE /v1/credentials",
        "GET /",
        "GET /v1/credentials/",
        "GET //v1/credentials",
        "GET /V1/credentials",
        "GET /v1/../v1/credentials",
        "GET /v1%2fcredentials",
        "GET /healthz",
        "GET /metrics",
    ] {
        let answer = asked(line, &headers).await;
        assert_eq!((check_error(&answer).as_str(), answer.status), ("not_found", 404), "{line}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(asked("HEAD /v1/credentials", &headers).await.status, 404);
}

#[tokio::test]
async fn reads_the_token_from_the_authorization_header_only() {
    let token = token();
    let (query, cookie) =
        (format!("GET /v1/credentials?Authorization={token}"), format!("Authorization={token}"));
    let host = ("Host", "127.0.0.1");
    let once = ("Authorization", token.as_str());
    for (line, headers) in [
        (query.as_str(), vec![host]),
        ("GET /v1/credentials", vec![host, ("Cookie", &cookie)]),
        ("GET /v1/credentials", vec![host, ("X-Authorization", &token)]),
        ("GET /v1/credentials", vec![host, once, once]),
    ] {
        let answer = asked(line, &headers).await;
        assert_eq!((check_error(&answer).as_str(), answer.status), ("authorization_missing", 400));
    }
}

#[tokio::test]
async fn refuses_malformed_tokens_without_a_call() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let agent = serving(eks_auth.address).await;
    let long = format!("a.b.{}", "c".repeat(12 * 1024));
    for token in ["a", "a.b", "a.b.c.d", "Basic a.b.c", "Bearer a b", "Bearer", "é.b.c", &long] {
        let answer = credentials(agent, token).await;
        assert_eq!((check_error(&answer).as_str(), answer.status), ("token_malformed", 400), "{token:.20}");
        assert!(!answer.text().contains("ccc"));
    }
    assert!(eks_auth.authorization.lock().unwrap().is_empty());
    // A token of 16 KiB exceeds the limit of the request head.
    let huge = "a".repeat(17 * 1024);
    assert_eq!(
        ask(agent, "GET /v1/credentials", &[("Authorization", &huge)], b"").await.unwrap().status,
        431
    );
}

#[tokio::test]
async fn serves_http_1_0_and_pipelined_requests_in_order() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let agent = serving(eks_auth.address).await;
    let token = token();
    let mut old = Connection::open(agent).await.unwrap();
    let request =
        format!("GET /v1/credentials HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n");
    old.send(request.as_bytes()).await.unwrap();
    assert_eq!(old.answer().await.unwrap().status, 200);
    assert!(old.closes().await);

    let mut pipelined = Connection::open(agent).await.unwrap();
    let good = format!("GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n");
    let bad = "GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    pipelined.send([good.as_str(), bad, &good].concat().as_bytes()).await.unwrap();
    for status in [200, 400, 200] {
        assert_eq!(pipelined.answer().await.unwrap().status, status);
    }
}

#[tokio::test]
async fn refuses_malformed_http_and_request_smuggling() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let agent = serving(eks_auth.address).await;
    let token = token();
    let tail = format!("Host: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n");
    for head in [
        "GET /v1/credentials\r\n",
        "GET  /v1/credentials HTTP/1.1\r\n",
        "GET /v1/credentials HTTP/3.0\r\n",
        "GET /v1/cred\0entials HTTP/1.1\r\n",
        "GET /v1/credentials HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "GET /v1/credentials HTTP/1.1\r\nContent-Length: -1\r\n",
        "GET /v1/credentials HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n",
        "GET /v1/credentials HTTP/1.1\r\nBad Header: x\r\n",
        "GET /v1/credentials HTTP/1.1\r\n folded: x\r\n",
    ] {
        let mut connection = Connection::open(agent).await.unwrap();
        connection.send(format!("{head}{tail}").as_bytes()).await.unwrap();
        if let Ok(answer) = connection.answer().await {
            assert_eq!(answer.status, 400, "{head:?}");
        }
    }
    assert!(eks_auth.authorization.lock().unwrap().is_empty());
}

#[tokio::test]
async fn serves_both_address_families_and_skips_missing_addresses() {
    testing::logs::capture();
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    // No host has an address of 192.0.2.0/24, which is for documentation.
    let unassigned: IpAddr = "192.0.2.77".parse().unwrap();
    let app = agent(eks_auth.address, &[LOOPBACK, unassigned, IpAddr::V6(Ipv6Addr::LOCALHOST)]).await;
    assert_eq!(
        testing::logs::lines_with(&["no credentials are served on it", "192.0.2.77", "WARN"]).len(),
        1
    );
    let addresses = app.addresses();
    tokio::spawn(app.run(Shutdown::never()));
    assert_eq!(
        addresses.iter().map(std::net::SocketAddr::ip).collect::<Vec<_>>(),
        [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)]
    );
    for address in addresses {
        assert_eq!(credentials(address, &token()).await.status, 200, "{address}");
    }
}

#[tokio::test]
async fn serves_health_readiness_and_metrics_on_the_admin_address_only() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let app = agent(eks_auth.address, &[LOOPBACK]).await;
    let (serving, admin) = (app.addresses()[0], app.admin_addresses()[0]);
    tokio::spawn(app.run(Shutdown::never()));
    credentials(serving, &token()).await;
    credentials(serving, "nonsense").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(admin, &format!("GET {path}"), &[], b"").await.unwrap().status, 200, "{path}");
    }
    let metrics = ask(admin, "GET /metrics", &[], b"").await.unwrap();
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        r#"pod_identity_http_responses_total{status="200",code="ok"} 1"#,
        r#"pod_identity_http_responses_total{status="400",code="token_malformed"} 1"#,
        "pod_identity_http_response_seconds_count 2",
    ] {
        assert!(metrics.text().contains(line), "{line} is not in\n{}", metrics.text());
    }
    assert_eq!(ask(admin, "POST /healthz", &[], b"x").await.unwrap().status, 405);
    assert_eq!(ask(admin, "GET /v1/credentials", &[], b"").await.unwrap().status, 404);
}

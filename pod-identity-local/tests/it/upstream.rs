//! EKS Auth's API while STS throttles, fails, or answers nonsense: no laptop's STS does that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_sdk_sts::config::{BehaviorVersion, Region};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_auth::app::App;
use pod_identity_auth::config::{AgentAuthConfig, Config};
use pod_identity_local::laptop::{Setup, write_private};
use pod_identity_runtime::http::plain;
use pod_identity_runtime::listener::{Handler, Listener};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::json;

use crate::eks_auth::{PATH, assert_refused, exchange};
use crate::harness::{OnePod, WORLD};
use crate::raw;

/// An STS that answers everybody the same.
struct Always(StatusCode, &'static str);

impl Handler for Always {
    async fn handle(&self, _: Request<Incoming>, _: SocketAddr) -> Response<Full<Bytes>> {
        plain(self.0, self.1)
    }
}

#[tokio::test]
async fn an_sts_that_throttles_fails_or_answers_nonsense_is_told_apart() {
    let error = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error>\
             <RequestId>r</RequestId></ErrorResponse>"
        )
        .leak() as &str
    };
    let nothing = "<AssumeRoleResponse><AssumeRoleResult></AssumeRoleResult></AssumeRoleResponse>";
    let row = |always: Always, status: u16, exception: &'static str, code: &'static str| async move {
        let response = asked_with(always).await;
        assert_refused(&response, status, exception, code);
    };
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    tokio::join!(
        row(Always(StatusCode::BAD_REQUEST, error("Throttling")), 429, "ThrottlingException", "throttled"),
        row(
            Always(unavailable, error("ServiceUnavailable")),
            503,
            "ServiceUnavailableException",
            "upstream_unavailable"
        ),
        // Our own credentials are at fault, which is nothing that the pod could mend.
        row(
            Always(StatusCode::FORBIDDEN, error("ExpiredToken")),
            503,
            "ServiceUnavailableException",
            "upstream_unavailable"
        ),
        row(Always(StatusCode::OK, nothing), 500, "InternalServerException", "internal"),
    );
}

/// What a pod's agent gets from an auth service with that STS.
async fn asked_with(always: Always) -> Response<Bytes> {
    let pod = OnePod::start(WORLD, Setup::default()).await;
    let (_ender, shutdown) = Shutdown::manual();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sts = Listener::bind(loopback).await.unwrap();
    let sts_url = format!("http://{}", sts.address().unwrap());
    tokio::spawn(sts.serve(Arc::new(always), shutdown.clone()));
    let key = pod.laptop.agent_key();
    let client = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(sts_url)
        .credentials_provider(key.clone())
        .build();

    let keys_file = pod.laptop.directory().join("keys-of-another-auth-service.yaml");
    let keys = json!([{ "accessKeyId": key.access_key_id(), "secretAccessKey": key.secret_access_key() }]);
    write_private(&keys_file, &keys.to_string()).unwrap();
    let config = Config {
        listen: loopback,
        admin: None,
        associations: pod.laptop.associations_file(),
        cluster: None,
        agent_auth: Some(AgentAuthConfig::SigV4 { keys_file }),
        tls: None,
        session_naming: Default::default(),
        outbound: Outbound::default(),
    };
    let app = App::bind(config, aws_sdk_sts::Client::from_conf(client)).await.unwrap();
    let url = format!("http://{}", app.address().unwrap());
    tokio::spawn(app.run(shutdown));
    let request = raw::signed(&url, exchange(PATH, &json!({ "token": pod.token() })), key, "eks-auth");
    raw::send(&url, request).await
}

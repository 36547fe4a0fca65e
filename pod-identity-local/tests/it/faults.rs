//! Error messages of the SDKs for each fault.
//!
//! boto3 and the AWS CLI show the agent's whole response. JavaScript's default chain shows nothing of it, and
//! `fromHttp()` shows it. Rust shows the status only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig};
use pod_identity_core::error::ErrorCode;
use pod_identity_local::issuer::TokenRequest;
use pod_identity_local::services::{LocalConfig, Workload};
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;

use crate::clients::Sdk;
use crate::harness::{FIXTURE, OnePod, Variables, workload};

const HOUR: Duration = Duration::from_secs(3600);

/// The only message of JavaScript's default chain.
const JAVASCRIPT: &str = "CredentialsProviderError: Could not load credentials from any providers\n";

/// The words that the message of each SDK must contain.
struct Shown<'a> {
    /// boto3 and the AWS CLI.
    python: &'a [&'a str],
    /// JavaScript with `fromHttp()`. With the default chain the message is always [`JAVASCRIPT`].
    from_http: &'a [&'a str],
    rust: &'a [&'a str],
}

async fn assert_shown(variables: Variables, shown: Shown<'_>) {
    let fails = |sdk: Sdk| sdk.failure(variables.clone());
    let (boto3, cli, javascript, from_http, rust) = tokio::join!(
        fails(Sdk::Boto3),
        fails(Sdk::AwsCli),
        fails(Sdk::JavaScript),
        fails(Sdk::JavaScriptFromHttp),
        fails(Sdk::Rust)
    );
    for (sdk, text, words) in [
        (Sdk::Boto3, boto3, shown.python),
        (Sdk::AwsCli, cli, shown.python),
        (Sdk::JavaScriptFromHttp, from_http, shown.from_http),
        (Sdk::Rust, rust, shown.rust),
    ] {
        let Some(text) = text else { continue };
        for word in words {
            assert!(text.contains(word), "{sdk:?} does not show {word:?}: {text}");
        }
    }
    assert!(
        javascript.is_none_or(|text| text == JAVASCRIPT),
        "JavaScript shows more: update docs/reference/agent.md"
    );
}

/// Asserts that each SDK that shows the agent's response shows code, cause and fix.
async fn assert_code_is_shown(variables: Variables, code: ErrorCode, status: u16, cause: &str) {
    let in_brackets = format!("[{code}]");
    let words = [cause, code.fix(), &in_brackets];
    let only_status = format!("Non-success status from HTTP credential provider: StatusCode({status})");
    // JavaScript reads the body of 4xx responses only.
    let javascript_status = format!("Server responded with status: {status}");
    let from_http = if status < 500 { words } else { [javascript_status.as_str(); 3] };
    assert_shown(variables, Shown { python: &words, from_http: &from_http, rust: &[&only_status] }).await;
}

async fn with_token(change: impl FnOnce(&mut TokenRequest), workload: Workload) -> (OnePod, Variables) {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let mut request = workload.token_request(clock::now(), HOUR);
    change(&mut request);
    let variables = pod.put_token("broken", &pod.services.issuer().mint(&request).unwrap());
    (pod, variables)
}

#[tokio::test]
async fn sdks_show_a_missing_association() {
    let (_pod, variables) = with_token(|_| {}, workload("unassociated")).await;
    let cause = "cluster laptop has no association for service account unassociated in namespace default";
    assert_code_is_shown(variables, ErrorCode::AssociationNotFound, 404, cause).await;
}

#[tokio::test]
async fn sdks_show_a_denial_with_caller_action_and_role() {
    let (_pod, variables) = with_token(|_| {}, workload("refused")).await;
    let cause = "User: pods.eks.amazonaws.com is not authorized to perform: sts:TagSession on resource: \
                 arn:aws:iam::111122223333:role/untagged";
    assert_code_is_shown(variables, ErrorCode::RoleTrustRefused, 403, cause).await;
}

#[tokio::test]
async fn sdks_show_an_expired_token() {
    let two_hours_ago = clock::now() - 2 * HOUR;
    let expired = |request: &mut TokenRequest| {
        request.expires_at = two_hours_ago + HOUR;
        (request.issued_at, request.not_before) = (two_hours_ago, two_hours_ago);
    };
    let (_pod, variables) = with_token(expired, workload("app")).await;
    assert_code_is_shown(variables, ErrorCode::TokenExpired, 400, "the token expired 36").await;
}

#[tokio::test]
async fn sdks_show_a_wrong_audience() {
    let for_sts = |request: &mut TokenRequest| request.audiences = vec!["sts.amazonaws.com".to_owned()];
    let (_pod, variables) = with_token(for_sts, workload("app")).await;
    // The text stops before a quotation mark, which some SDKs show escaped.
    assert_code_is_shown(variables, ErrorCode::TokenAudienceWrong, 400, "the token's audience is").await;
}

#[tokio::test]
async fn sdks_show_an_unreachable_agent() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let url = format!("http://{}/v1/credentials", free_address());
    let shown = Shown {
        python: &["Could not connect to the endpoint URL", &url],
        from_http: &["ECONNREFUSED"],
        rust: &["tcp connect error: Connection refused"],
    };
    assert_shown(pod.variables_at(&url), shown).await;
}

#[tokio::test]
async fn sdks_show_an_unreachable_auth_service() {
    let pod = OnePod::start(FIXTURE, LocalConfig::default()).await;
    let (_ender, shutdown) = Shutdown::manual();
    let agent = pod_identity_agent::app::App::bind(agent_without_auth(&pod)).await.unwrap();
    let url = format!("http://{}/v1/credentials", agent.addresses()[0]);
    tokio::spawn(agent.run(shutdown));
    // The SDK for Java waits one second for a response.
    let started = clock::monotonic();
    let getter = Outbound::default().getter().unwrap();
    let (status, _) = getter.send(&url, Some(&pod.token()), 64 * 1024).await.unwrap();
    assert_eq!(status, 503);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let cause = "the call to EKS Auth failed";
    assert_code_is_shown(pod.variables_at(&url), ErrorCode::UpstreamUnavailable, 503, cause).await;
}

/// The configuration of an agent whose EKS Auth does not listen.
fn agent_without_auth(pod: &OnePod) -> Config {
    let outbound = Outbound::default();
    let sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(pod.services.region().to_owned()))
        .http_client(outbound.sdk_client(None).unwrap())
        .credentials_provider(SharedCredentialsProvider::new(pod.services.agent_key().clone()))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .build();
    let eks_auth = EksAuthConfig {
        endpoint: Some(format!("http://{}", free_address())),
        agent_auth: AgentAuth::SigV4,
        outbound,
        sdk_config: Some(sdk_config),
    };
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    Config::new(pod.services.cluster().clone(), listen, eks_auth)
}

/// An address without a listener.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

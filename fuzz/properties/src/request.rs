//! Heads of HTTP requests at the agent, and its check of `Host`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pod_identity_agent::config::PodsConfig;
use pod_identity_agent::network::{OffNode, OffNodeAction, Routes};
use pod_identity_agent::peer::LocalAddresses;
use pod_identity_agent::pods::Pods;
use pod_identity_agent::server::Server;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::service::{Clock, CredentialService, TokenVerification};
use pod_identity_runtime::listener::{Handler as _, Peer};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::runtime::Runtime;

use crate::eks_auth::{client, pod_token, valid_response};
use crate::{input, now};

/// Placeholder in an input for the token of a pod.
const TOKEN: &[u8] = b"POD-TOKEN";
const ADDRESSES: [&str; 2] = ["169.254.170.23", "fd00:ec2::23"];
const MAX_LENGTH: usize = 64 * 1024;

struct Agent {
    runtime: Runtime,
    server: Arc<Server>,
    token: String,
}

thread_local! {
    static AGENT: Agent = Agent::new();
}

impl Agent {
    fn new() -> Self {
        let runtime = input::runtime();
        let addresses: Vec<IpAddr> = ADDRESSES.iter().map(|address| address.parse().unwrap()).collect();
        let eks_auth = runtime.block_on(client(&input::Server::new(valid_response())));
        let (_, clock) = Clock::manual(now());
        let service = {
            let _runtime = runtime.enter();
            CredentialService::builder(eks_auth)
                .cluster(Cluster::new("demo".parse().unwrap()), TokenVerification::upstream())
                .clock(clock)
                .build()
                .unwrap()
        };
        let routes = Arc::new(Routes::open());
        let local = LocalAddresses::new(addresses.clone(), routes.clone());
        let off_node = OffNode::new(OffNodeAction::Off, routes, LogLimiter::default());
        let metrics = HttpMetrics::register(&mut Registry::default());
        Self {
            runtime,
            server: Arc::new(Server {
                pods: Pods::new(&PodsConfig::default(), None),
                service,
                local,
                off_node,
                addresses,
                metrics,
                log_limiter: LogLimiter::default(),
            }),
            token: pod_token(),
        }
    }

    /// Returns the agent's response to a request. The client sends nothing after it.
    async fn response(&self, request: &[u8]) -> Vec<u8> {
        let (mut near, far) = duplex(MAX_LENGTH);
        let server = self.server.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move {
                let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 40_000));
                let peer = Peer { address, has_client_certificate: false };
                Ok::<_, std::convert::Infallible>(server.handle(request, peer).await)
            }
        });
        let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
        let ask = async {
            near.write_all(request).await.unwrap();
            near.shutdown().await.unwrap();
            let mut response = Vec::new();
            near.read_to_end(&mut response).await.unwrap();
            response
        };
        let (_, response) = tokio::join!(connection, ask);
        response
    }
}

/// The input is the head of a request. Credentials are sent only for a `GET` of their path with a token, whose only
/// host is the agent's address.
pub fn request(input: &[u8]) {
    if input.len() > MAX_LENGTH / 8 {
        return;
    }
    AGENT.with(|agent| {
        let request = replace(input, agent.token.as_bytes());
        let response = agent.runtime.block_on(agent.response(&request));
        if response.is_empty() {
            return;
        }
        let response = String::from_utf8_lossy(&response);
        let status = response.strip_prefix("HTTP/1.1 ").or_else(|| response.strip_prefix("HTTP/1.0 "));
        let status: u16 =
            status.and_then(|rest| rest.get(..3)?.parse().ok()).expect("an response has a status");
        assert!(!matches!(status, 500), "no request causes status 500: {response}");
        if status == 200 {
            assert!(response.contains("\"AccessKeyId\""), "a response with status 200 has credentials");
            assert_may_get_credentials(&request);
        }
    });
}

/// Checks the head again, with a short parser.
fn assert_may_get_credentials(request: &[u8]) {
    let text = String::from_utf8_lossy(request);
    let mut lines = text.trim_start_matches(['\r', '\n']).split('\n').map(|line| line.trim_end_matches('\r'));
    let mut first = lines.next().unwrap().split(' ');
    assert_eq!(first.next(), Some("GET"));
    let target = first.next().unwrap();
    let path = match target.split_once("://") {
        Some((_, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            assert!(names_agent(host), "the target's host is {host:?}");
            path
        }
        None => target,
    };
    assert_eq!(path.split(['?', '#']).next(), Some("/v1/credentials"));
    let headers: Vec<_> =
        lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')).collect();
    let of = |wanted: &str| {
        let found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim_matches([' ', '\t'])).collect::<Vec<_>>()
    };
    let hosts = of("host");
    assert!(matches!(hosts[..], [host] if names_agent(host)), "the hosts are {hosts:?}");
    let authorization = of("authorization");
    // The upstream verifies the token, and the upstream of this target accepts all.
    assert!(matches!(authorization[..], [value] if value.split('.').count() == 3), "{authorization:?}");
}

/// Returns whether a host is an address of the agent, with brackets or without. Any text may follow it, because a name
/// with a bracket or with letters as the port does not resolve.
fn names_agent(host: &str) -> bool {
    let is_ours = |host: &str| {
        let ours = ADDRESSES.map(|address| address.parse::<IpAddr>().unwrap());
        host.parse().is_ok_and(|address: IpAddr| ours.contains(&address))
    };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.split_once(']'));
    let without_port = host.rsplit_once(':');
    is_ours(host) || [in_brackets, without_port].into_iter().flatten().any(|(host, _)| is_ours(host))
}

fn replace(input: &[u8], token: &[u8]) -> Vec<u8> {
    match input.windows(TOKEN.len()).position(|part| part == TOKEN) {
        Some(place) => [&input[..place], token, &input[place + TOKEN.len()..]].concat(),
        None => input.to_vec(),
    }
}

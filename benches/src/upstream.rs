//! A fake EKS Auth that issues credentials for our tokens and counts calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig};
use pod_identity_core::token::PodToken;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{json_bytes, plain, read_body};
use pod_identity_runtime::listener::{Connections, Handler, Limits, Listener, Peer};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::{Value, json};

/// Approximate length of a session token of AWS.
const SESSION_TOKEN_LENGTH: usize = 1000;

/// The fake, with its counters.
#[derive(Default)]
pub(crate) struct Upstream {
    calls: AtomicUsize,
    /// Time of each response.
    pause: Duration,
    responded: Mutex<Option<Instant>>,
}

impl Upstream {
    pub(crate) fn after(pause: Duration) -> Self {
        Self { pause, ..Self::default() }
    }

    /// Returns the number of calls.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Returns the time of the last response.
    pub(crate) fn responded(&self) -> Option<Instant> {
        *self.responded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves on a free port of 127.0.0.1.
    pub(crate) async fn serve(self: Arc<Self>) -> std::io::Result<SocketAddr> {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.address()?;
        let listener = listener.with_connections(Connections::new(Limits::ONE_MACHINE));
        tokio::spawn(listener.serve(self, Shutdown::never()));
        Ok(address)
    }
}

impl Handler for Upstream {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let operation = request.method() == Method::POST
            && request.uri().path() == "/clusters/bench/assume-role-for-pod-identity";
        let body = read_body(request.into_body(), 32 * 1024).await.unwrap_or_default();
        let granted = granted(&body).filter(|_| operation);
        tokio::time::sleep(self.pause).await;
        *self.responded.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::monotonic());
        match granted {
            Some(answer) => json_bytes(StatusCode::OK, answer.into()),
            None => plain(StatusCode::BAD_REQUEST, "want AssumeRoleForPodIdentity with a pod token\n"),
        }
    }
}

/// Returns the response for the service account of a token.
fn granted(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let token = PodToken::parse(body["token"].as_str()?).ok()?;
    let (identity, _) = token.unverified_identity().ok()?;
    let answer = json!({
        "subject": {"namespace": identity.namespace, "serviceAccount": identity.service_account},
        "audience": "pods.eks.amazonaws.com",
        "podIdentityAssociation": {
            "associationArn": "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/bench/a-1",
            "associationId": "a-1",
        },
        "assumedRoleUser": {
            "arn": "arn:aws:sts::111122223333:assumed-role/app/eks-bench-app",
            "assumeRoleId": "AROAEXAMPLEEXAMPLE123:eks-bench-app",
        },
        "credentials": {
            "accessKeyId": "ASIAEXAMPLEEXAMPLE12",
            "secretAccessKey": "s".repeat(40),
            "sessionToken": "t".repeat(SESSION_TOKEN_LENGTH),
            "expiration": 4_102_444_800_u64, // in the year 2100
        },
    });
    Some(answer.to_string())
}

/// Returns an agent's configuration with this upstream, and with a file for its own token.
pub(crate) fn agent_config(
    upstream: SocketAddr,
    listen: Vec<SocketAddr>,
    token_file: &std::path::Path,
) -> Result<Config, Box<dyn std::error::Error>> {
    std::fs::write(token_file, "agents.own.token")?;
    let eks_auth = EksAuthConfig {
        endpoint: Some(format!("http://{upstream}")),
        agent_auth: AgentAuth::Token { file: token_file.to_owned() },
        outbound: Outbound::default(),
        sdk_config: None,
    };
    let config = Config::new("bench".parse()?, listen, eks_auth);
    Ok(Config { limits: Limits::ONE_MACHINE, ..config })
}

//! Responses of EKS Auth to the agent.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use pod_identity_agent::config::{AgentAuth, EksAuthConfig};
use pod_identity_agent::exchange::EksAuth;
use pod_identity_agent::metrics::CallCounter;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::service::{CredentialRequest, CredentialSource as _};
use pod_identity_core::token::PodToken;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::outbound::Outbound;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::input::{CannedResponse, Server, runtime};
use crate::{ISSUER, valid_claims};

/// A client of EKS Auth whose requests go to a server of this process.
pub(crate) struct Upstream {
    pub(crate) runtime: Runtime,
    pub(crate) server: Server,
    client: EksAuth,
    request: CredentialRequest,
}

thread_local! {
    static UPSTREAM: Upstream = Upstream::new(CannedResponse::parse(b"503\n\n").unwrap());
}

impl Upstream {
    fn new(response: CannedResponse) -> Self {
        let (runtime, server) = (runtime(), Server::new(response));
        let client = runtime.block_on(client(&server));
        let (token, cluster) =
            (PodToken::parse(&pod_token()).unwrap(), Cluster::new("demo".parse().unwrap()));
        let request = CredentialRequest::new(token, cluster, None).unwrap();
        Self { runtime, server, client, request }
    }
}

/// Returns the client of the agent, whose requests go to `server`.
pub(crate) async fn client(server: &Server) -> EksAuth {
    let key = Credentials::new("AKIDEXAMPLE", "secret", None, None, "fuzz");
    let sdk_config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(key))
        .http_client(server.client())
        .build();
    let destination = EksAuthConfig {
        endpoint: None,
        agent_auth: AgentAuth::SigV4,
        outbound: Outbound::default(),
        sdk_config: Some(sdk_config),
    };
    EksAuth::new(destination, CallCounter::default(), Readiness::default()).await.unwrap()
}

/// Returns the token of the pod `cart-1` of the service account `shop/cart`.
pub(crate) fn pod_token() -> String {
    ISSUER.sign(&ISSUER.signing_key().header().to_string(), &valid_claims().to_string()).unwrap()
}

/// Returns EKS Auth's response for that pod.
pub(crate) fn valid_response() -> CannedResponse {
    let body = json!({
        "subject": {"namespace": "shop", "serviceAccount": "cart"},
        "audience": "pods.eks.amazonaws.com",
        "podIdentityAssociation": {
            "associationArn": "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/demo/a-1",
            "associationId": "a-1",
        },
        "assumedRoleUser": {
            "arn": "arn:aws:sts::111122223333:assumed-role/app/eks-demo-cart",
            "assumeRoleId": "AROAEXAMPLEEXAMPLE123:eks-demo-cart",
        },
        "credentials": {
            "accessKeyId": "ASIAEXAMPLEEXAMPLE12",
            "secretAccessKey": "a-secret-access-key-of-forty-characters-",
            "sessionToken": "a-session-token-that-is-longer-than-all-else",
            "expiration": 4_102_444_800_u64, // in the year 2100
        },
    });
    CannedResponse::parse(format!("200\ncontent-type: application/json\n\n{body}").as_bytes()).unwrap()
}

/// The input is an HTTP response. Credentials come only from a response for the pod's own service account, and equal
/// those in the response. No error about a response with status 200 contains its secrets.
pub fn eks_auth(input: &[u8]) {
    let Some(response) = CannedResponse::parse(input) else { return };
    UPSTREAM.with(|upstream| {
        upstream.server.respond_with(response.clone());
        let issued = upstream.runtime.block_on(upstream.client.issue(&upstream.request));
        let body: Option<Value> = serde_json::from_slice(&response.body).ok();
        let member = |name: &str| {
            let body = body.as_ref()?;
            body["credentials"][name].as_str().map(str::to_owned)
        };
        match issued {
            Ok(credentials) => {
                assert!(!credentials.access_key_id().is_empty());
                assert!(!credentials.secret_access_key().is_empty());
                assert!(!credentials.session_token().is_empty());
                if let Some(body) = &body {
                    assert_eq!(body["subject"]["namespace"], "shop");
                    assert_eq!(body["subject"]["serviceAccount"], "cart");
                    assert_eq!(member("accessKeyId").as_deref(), Some(credentials.access_key_id()));
                    assert_eq!(member("secretAccessKey").as_deref(), Some(credentials.secret_access_key()));
                    assert_eq!(member("sessionToken").as_deref(), Some(credentials.session_token()));
                }
            }
            Err(error) if response.status == 200 => {
                let text = format!("{error} {error:?}");
                for secret in [member("secretAccessKey"), member("sessionToken")].into_iter().flatten() {
                    assert!(
                        secret.len() < 16 || !text.contains(&secret),
                        "an error contains a secret: {text}"
                    );
                }
            }
            Err(_) => {}
        }
    });
}

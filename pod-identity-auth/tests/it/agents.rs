//! Authentication of agents by their own token or by a key.

use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_eksauth::error::ProvideErrorMetadata;
use pod_identity_auth::config::AgentAuthConfig;
use pod_identity_core::identity::Node;
use pod_identity_local::issuer::TokenRequest;
use pod_identity_runtime::clock;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use testing::eventually::eventually;
use testing::wire;

use crate::test_auth::{
    Options, TestAuth, agent_request, code, pod, request, sdk, start_auth, token_mode, write,
};

async fn asked(auth: &TestAuth, agent: &TokenRequest, of_pod: &TokenRequest) -> String {
    let mint = |request| auth.services.issuer().mint(request).unwrap();
    let bearer = format!("Bearer {}", mint(agent));
    code(&auth.exchange_in("demo", &mint(of_pod), &[("Authorization", &bearer)]).await)
}

#[tokio::test]
async fn agent_gets_credentials_for_pods_of_its_node_only() {
    let auth = start_auth(Options { agent_auth: token_mode(), ..Options::default() }).await;
    let pod = pod("cart");
    let (agent, of_pod) = (agent_request(&pod), request(&pod));
    assert_eq!(asked(&auth, &agent, &of_pod).await, "ok");

    let node = |name: &str, uid: Option<&str>| {
        Some(Node { name: name.parse().unwrap(), uid: uid.map(|uid| uid.parse().unwrap()) })
    };
    let on = |node: Option<Node>, request: &TokenRequest| TokenRequest { node, ..request.clone() };
    for (agents, pods) in [
        (node("other", Some("u1")), node("laptop", Some("u1"))),
        // A replaced node with the same name.
        (node("laptop", Some("u2")), node("laptop", Some("u1"))),
        (node("laptop", None), node("laptop", None)),
        (node("laptop", None), node("laptop", Some("u1"))),
        (node("laptop", Some("u1")), node("laptop", None)),
        (node("laptop", Some("u1")), None),
        (None, node("laptop", Some("u1"))),
        (None, None),
    ] {
        let refused = asked(&auth, &on(agents.clone(), &agent), &on(pods.clone(), &of_pod)).await;
        assert_eq!(refused, "node_mismatch", "{agents:?} {pods:?}");
    }
    let same = node("laptop", Some("u1"));
    assert_eq!(asked(&auth, &on(same.clone(), &agent), &on(same, &of_pod)).await, "ok");
}

#[tokio::test]
async fn refuses_tokens_that_are_not_of_an_agent() {
    let auth = start_auth(Options { agent_auth: token_mode(), ..Options::default() }).await;
    let pod = pod("cart");
    let (agent, of_pod) = (agent_request(&pod), request(&pod));
    let hour = Duration::from_secs(3600);
    let changed = |change: fn(&mut TokenRequest)| {
        let mut agent = agent.clone();
        change(&mut agent);
        agent
    };
    for (what, agent) in [
        ("a pod's token", of_pod.clone()),
        ("another audience", changed(|agent| agent.audiences = vec!["sts.amazonaws.com".to_owned()])),
        ("two audiences", changed(|agent| agent.audiences.push("pods.eks.amazonaws.com".to_owned()))),
        ("another service account", changed(|agent| agent.service_account = "default".parse().unwrap())),
        ("another namespace", changed(|agent| agent.namespace = "default".parse().unwrap())),
        ("not bound to a pod", changed(|agent| agent.pod = None)),
        (
            "expired",
            TokenRequest {
                expires_at: clock::now() - hour,
                issued_at: clock::now() - 2 * hour,
                not_before: clock::now() - 2 * hour,
                ..agent.clone()
            },
        ),
    ] {
        assert_eq!(asked(&auth, &agent, &of_pod).await, "caller_refused", "{what}");
    }
    assert_eq!(asked(&auth, &agent, &agent).await, "token_audience_wrong");

    let (agent, of_pod) = (auth.services.issuer().mint(&agent).unwrap(), auth.token(&pod));
    let bearer = format!("Bearer {agent}");
    let forged = format!("Bearer {}", &agent[..agent.len() - 4]);
    for headers in [
        vec![],
        vec![("Authorization", agent.as_str())],
        vec![("Authorization", forged.as_str())],
        vec![("Authorization", bearer.as_str()), ("Authorization", bearer.as_str())],
    ] {
        let answer = auth.exchange_in("demo", &of_pod, &headers).await;
        assert_eq!((code(&answer).as_str(), answer.status), ("caller_refused", 403));
    }
}

/// Writes a CA certificate, and a certificate and key for 127.0.0.1 that the CA signed.
fn certificates(directory: &std::path::Path) -> (std::path::PathBuf, CertificateFiles) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = CertificateFiles { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
    write(&directory.join("ca.pem"), &issuer.pem());
    write(&files.certificate, &leaf.pem());
    write(&files.key, &key.serialize_pem());
    (directory.join("ca.pem"), files)
}

/// Starts an agent in front of the auth service, and returns its address.
async fn start_agent(auth: &TestAuth, ca_file: Option<std::path::PathBuf>) -> SocketAddr {
    use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig, TokenKeys};
    let outbound = Outbound { ca_file, ..Outbound::default() };
    let eks_auth = EksAuthConfig {
        endpoint: Some(format!("https://{}", auth.address)),
        agent_auth: AgentAuth::Token { file: auth.directory.path().join("agent-token") },
        outbound: outbound.clone(),
        sdk_config: None,
    };
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let mut config = Config::new("demo".parse().unwrap(), listen, eks_auth);
    config.keys = TokenKeys::Learned(outbound); // the default
    let agent = pod_identity_agent::app::App::bind(config).await.unwrap();
    let address = agent.addresses()[0];
    tokio::spawn(agent.run(Shutdown::never()));
    address
}

async fn credentials(agent: SocketAddr, token: &str) -> wire::Answer {
    wire::ask(agent, "GET /v1/credentials", &[("Authorization", token)], b"").await.unwrap()
}

/// Starts an agent in front of the auth service, and returns its response to a pod.
async fn response_through_agent(
    auth: &TestAuth,
    ca_file: Option<std::path::PathBuf>,
    token: &str,
) -> wire::Answer {
    credentials(start_agent(auth, ca_file).await, token).await
}

#[tokio::test]
async fn agent_works_over_tls_of_a_private_ca_with_its_own_token() {
    let files = tempfile::tempdir().unwrap();
    let (ca, tls) = certificates(files.path());
    let auth = start_auth(Options { agent_auth: token_mode(), tls: Some(tls), ..Options::default() }).await;
    let pod = pod("cart");
    let file = auth.directory.path().join("agent-token");
    write(&file, &auth.services.issuer().mint(&agent_request(&pod)).unwrap());

    let answer = response_through_agent(&auth, Some(ca.clone()), &auth.token(&pod)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let key = answer.json()["AccessKeyId"].as_str().unwrap().to_owned();
    assert_eq!(
        auth.services.sts().inspect(&key).unwrap().tags.value("kubernetes-pod-uid"),
        Some(pod.pod.uid.as_str())
    );
    // The pod gets the error code of the auth service.
    let mut elsewhere = pod.clone();
    elsewhere.node = crate::test_auth::pod("cart").node;
    let answer = response_through_agent(&auth, Some(ca.clone()), &auth.token(&elsewhere)).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("node_mismatch")));
    // The agent makes no call to a server with an untrusted certificate, and none without its own token.
    let answer = response_through_agent(&auth, None, &auth.token(&pod)).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("upstream_unavailable")));
    std::fs::remove_file(file).unwrap();
    let answer = response_through_agent(&auth, Some(ca), &auth.token(&pod)).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("own_credentials")));
}

#[tokio::test]
async fn agent_starts_before_its_ca_file_exists_and_uses_a_changed_one_without_a_restart() {
    let (files, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, tls) = certificates(files.path());
    let served = tls.clone();
    let auth = start_auth(Options { agent_auth: token_mode(), tls: Some(tls), ..Options::default() }).await;
    let pod = pod("cart");
    write(
        &auth.directory.path().join("agent-token"),
        &auth.services.issuer().mint(&agent_request(&pod)).unwrap(),
    );
    let mounted = auth.directory.path().join("ca.crt");
    let agent = start_agent(&auth, Some(mounted.clone())).await;
    // Each token is another one, so that the agent calls the auth service.
    let answer = async || credentials(agent, &auth.token(&crate::test_auth::pod("cart"))).await;
    let code = |answer: &wire::Answer| answer.json()["code"].as_str().map(str::to_owned);
    assert_eq!(code(&credentials(agent, &auth.token(&pod)).await).as_deref(), Some("upstream_unavailable"));

    write(&mounted, &std::fs::read_to_string(&ca).unwrap());
    eventually("the agent gets credentials", async || {
        let answer = credentials(agent, &auth.token(&pod)).await;
        (answer.status == 200).then_some(())
    })
    .await;

    // The auth service gets a certificate of another authority.
    let (other_ca, other) = certificates(others.path());
    write(&served.certificate, &std::fs::read_to_string(&other.certificate).unwrap());
    write(&served.key, &std::fs::read_to_string(&other.key).unwrap());
    let both = [&ca, &other_ca].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    write(&mounted, &both);
    eventually("the certificate is replaced", async || {
        (!testing::logs::lines_with(&["TLS certificate replaced", &served.certificate.display().to_string()])
            .is_empty())
        .then_some(())
    })
    .await;
    eventually("the agent reaches the auth service again", async || {
        // The node of another pod is another one: the refusal comes from the auth service.
        (code(&answer().await).as_deref() == Some("node_mismatch")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replaces_agent_keys_without_a_restart_and_ignores_an_invalid_file() {
    let files = tempfile::tempdir().unwrap();
    let keys_file = files.path().join("keys.yaml");
    let key = |id: &str| format!("- {{accessKeyId: {id}, secretAccessKey: {id}-secret-0123456789}}\n");
    write(&keys_file, &key("AKIAOLD"));
    let agent_auth = Some(AgentAuthConfig::SigV4 { keys_file: keys_file.clone() });
    let auth = &start_auth(Options { agent_auth, ..Options::default() }).await;
    let token = &auth.token(&pod("cart"));
    let call = |id: &'static str, secret: &'static str| async move {
        let secret = format!("{id}{secret}");
        let config = sdk(&format!("http://{}", auth.address), (id, &secret));
        let client = aws_sdk_eksauth::Client::new(&config);
        let answer = client.assume_role_for_pod_identity().cluster_name("demo").token(token).send().await;
        answer.err().map(|error| error.code().unwrap_or("unanswered").to_owned())
    };
    const GOOD: &str = "-secret-0123456789";
    let unknown = Some("UnrecognizedClientException".to_owned());
    assert_eq!(call("AKIAOLD", GOOD).await, None);
    assert_eq!(call("AKIANEW", GOOD).await, unknown);
    assert_eq!(call("AKIAOLD", "-wrong-secret-12345").await, Some("InvalidSignatureException".to_owned()));

    write(&keys_file, &(key("AKIAOLD") + &key("AKIANEW")));
    eventually("the new key is accepted", || async { call("AKIANEW", GOOD).await.is_none().then_some(()) })
        .await;
    assert_eq!(call("AKIAOLD", GOOD).await, None);

    let name = keys_file.display().to_string();
    for broken in [key("AKIANEW").repeat(2), "[]".to_owned(), "{".to_owned(), String::new()] {
        let errors = || testing::logs::lines_with(&["agent keys not replaced", &name]);
        let before = errors().len();
        write(&keys_file, &broken);
        eventually("the error is logged", || async { (errors().len() > before).then_some(()) }).await;
        assert_eq!(call("AKIAOLD", GOOD).await, None, "{broken}");
        assert!(errors().iter().all(|line| !line.contains(GOOD)));
    }
    write(&keys_file, &key("AKIANEW"));
    eventually("the old key is refused", || async { (call("AKIAOLD", GOOD).await == unknown).then_some(()) })
        .await;
}

//! A replica's certificate with a listener of its own, and the objects around it.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::http::answer;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_webhook::args;
use pod_identity_webhook::certificate::TlsCertificate;
use prometheus_client::registry::Registry;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, apply_object, namespace, pod_address};
use testing::eventually::eventually;
use tokio::net::TcpStream;

/// The certificate of one replica, and a listener that allows every pod. It closes each connection, so each review is a
/// handshake.
pub(super) struct Replica {
    pub(super) address: SocketAddrV4,
    pub(super) readiness: Readiness,
    registry: Arc<Registry>,
    pub(super) reviews: Arc<AtomicUsize>,
    pub(super) shutdown: Ender,
}

struct AllowAll(Arc<AtomicUsize>);

impl Handler for AllowAll {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let review: Value = serde_json::from_slice(&body).unwrap_or_default();
        let verdict = json!({"uid": review["request"]["uid"], "allowed": true});
        let review = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": verdict});
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut answer = answer(StatusCode::OK, "application/json", review.to_string().into());
        answer.headers_mut().insert("connection", "close".parse().unwrap());
        answer
    }
}

impl Replica {
    /// Starts a replica with these flags, on a pod's address.
    pub(super) async fn start(client: &Client, flags: &str, number: u8) -> Self {
        let command_line = std::iter::once("/webhook").chain(flags.split_whitespace());
        let config = args::parse(command_line).unwrap().config().unwrap();
        let (readiness, mut registry, reviews) =
            (Readiness::default(), Registry::default(), Arc::new(AtomicUsize::new(0)));
        let certificate = TlsCertificate::open(&config, client, &readiness, &mut registry).unwrap();
        assert_eq!(readiness.missing()[0].0, "certificate");
        let address = SocketAddr::new(IpAddr::V4(pod_address(number)), 0);
        let listener = Listener::bind(address).await.unwrap().with_tls(certificate.tls());
        let SocketAddr::V4(address) = listener.address().unwrap() else { panic!("an IPv4 address") };
        let (shutdown, ending) = Shutdown::manual();
        tokio::spawn(listener.serve(Arc::new(AllowAll(reviews.clone())), ending.clone()));
        tokio::spawn(certificate.follow(ending));
        Self { address, readiness, registry: Arc::new(registry), reviews, shutdown }
    }

    pub(super) async fn is_ready(&self) {
        eventually(&format!("{} is ready", self.address), async || {
            self.readiness.missing().is_empty().then_some(())
        })
        .await;
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of a metric; 0 if it is absent.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    pub(super) fn steps(&self, step: &str) -> u64 {
        let labels = format!("step=\"{step}\",outcome=\"ok\"");
        self.metric(&format!("pod_identity_webhook_certificate_steps_total{{{labels}}}"))
    }

    /// The certificate that a client of `name` sees which trusts these authorities.
    pub(super) async fn shows(&self, bundle: &[u8], name: &str) -> std::io::Result<CertificateDer<'static>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).map(Result::unwrap));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }
}

/// A configuration with two entries for that Service, for pods with its name as a label, and one for another Service.
pub(super) fn configuration(name: &str, namespace: &str, service: &str) -> Value {
    let entry = |entry: &str, service: &str, operation: &str| {
        json!({
            "name": format!("{entry}.{name}.test"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"namespace": namespace, "name": service, "path": "/mutate"}},
            "objectSelector": {"matchLabels": {"asks": name}}, "failurePolicy": "Fail", "timeoutSeconds": 10,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": [operation]}],
        })
    };
    let webhooks = [
        entry("one", service, "CREATE"),
        entry("other", "somebody-else", "DELETE"),
        entry("two", service, "DELETE"),
    ];
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name}, "webhooks": webhooks,
    })
}

/// A line of the key in a Secret.
pub(super) fn key_of(secret: &Secret) -> String {
    let entry = &secret.data.as_ref().unwrap()["generations.json"].0;
    let generations: Value = serde_json::from_slice(entry).unwrap();
    let key = generations[0]["key"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    assert_eq!(key.len(), 64);
    key
}

/// The `caBundle` of each entry.
pub(super) async fn bundles(
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
) -> Vec<Option<Vec<u8>>> {
    let found = configurations.get(name).await.unwrap().webhooks.unwrap();
    found.into_iter().map(|webhook| webhook.client_config.ca_bundle.map(|bundle| bundle.0)).collect()
}

/// Applies the manifests' rights and a configuration, under another name.
pub(super) async fn install(admin: &Client, cluster: &Cluster, name: &str) -> (Client, String) {
    namespace(admin, name, &[]).await;
    let rights = include_str!("../../../../deploy/webhook/rbac.yaml")
        .replace("pod-identity-webhook", &format!("webhook-of-{name}"))
        .replace("namespace: pod-identity\n", &format!("namespace: {name}\n"))
        .replace("[podidentity.dev]", &format!("[{name}]"));
    apply(admin, &rights).await;
    apply_object(admin, &configuration(name, name, &format!("webhook-of-{name}"))).await;
    let kubeconfig = cluster.kubeconfig_of(name, &format!("webhook-of-{name}")).await;
    let flags = format!(
        "--namespace={name} --tls-secret=webhook-of-{name} --service-name=webhook-of-{name} \
         --webhook-configuration={name} --certificate-wait=1"
    );
    (testing::cluster::client(&kubeconfig).await, flags)
}

/// Makes the newest generation look decades old, so that the next one is due.
pub(crate) async fn age(secrets: &Api<Secret>, name: &str) {
    let mut secret = secrets.get(name).await.unwrap();
    let entry = &mut secret.data.as_mut().unwrap().get_mut("generations.json").unwrap().0;
    let mut generations: Value = serde_json::from_slice(entry).unwrap();
    generations.as_array_mut().unwrap().last_mut().unwrap()["made"] = json!(1);
    *entry = generations.to_string().into_bytes();
    secrets.replace(name, &PostParams::default(), &secret).await.unwrap();
}

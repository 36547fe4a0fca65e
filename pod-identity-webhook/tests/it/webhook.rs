//! A running webhook, and clients that connect to it over TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tasks::TaskFailure;
use pod_identity_webhook::app::App;
use pod_identity_webhook::args::parse;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testing::authority::Authority;
use testing::wire::{Answer, Connection, ask};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

/// The address of a client, and its certificate and key in PEM.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) from: Option<Ipv4Addr>,
    pub(crate) certificate: Option<(String, String)>,
}

/// A running webhook; it ends with the test's runtime.
pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) ender: Ender,
    pub(crate) serving: JoinHandle<Result<(), TaskFailure>>,
}

pub(crate) type Tls = Connection<TlsStream<TcpStream>>;

impl Webhook {
    /// Starts a webhook with the flags of all tests and these. The service account `cart` in `shop` has Pod Identity.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        testing::logs::capture();
        let authority = Authority::new();
        authority.write_pair();
        let pod_identity_file = authority.directory().join("identities.json");
        std::fs::write(
            &pod_identity_file,
            r#"{"identities": [{"namespace": "shop", "serviceAccount": "cart"}]}"#,
        )
        .unwrap();
        let test_flags = [
            "webhook".to_owned(),
            "--in-cluster=false".to_owned(),
            "--port=0".to_owned(),
            "--metrics-port=0".to_owned(),
            "--service-account-read=never".to_owned(),
            "--kube-api=http://127.0.0.1:9".to_owned(), // refuses connections
            format!("--tls-cert={}", authority.certificate_file().display()),
            format!("--tls-key={}", authority.key_file().display()),
            format!("--watch-container-credentials-config={}", pod_identity_file.display()),
        ];
        let flags = test_flags.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned()));
        let app = App::bind(parse(flags).unwrap().config().unwrap()).await.unwrap();
        let local = |address: SocketAddr| SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        let (address, admin) = (local(app.address().unwrap()), local(app.admin_address().unwrap()));
        let (ender, shutdown) = Shutdown::manual();
        let serving = tokio::spawn(app.run(shutdown));
        Self { address, admin, authority, ender, serving }
    }

    /// Returns the path of the file of service accounts with Pod Identity.
    pub(crate) fn pod_identity_file(&self) -> PathBuf {
        self.authority.directory().join("identities.json")
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> std::io::Result<Tls> {
        connect(self.address, &self.authority).await
    }

    /// Opens a connection of a client.
    pub(crate) async fn connect_as(&self, client: &Client) -> std::io::Result<Tls> {
        stream(self.address, &self.authority, client).await.map(Connection::over)
    }

    /// Returns the served certificate in DER.
    pub(crate) async fn certificate(&self) -> Vec<u8> {
        let stream = stream(self.address, &self.authority, &Client::default()).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends a request on a new connection.
    pub(crate) async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut all = vec![("Host", "webhook"), ("Connection", "close"), ("Content-Length", &length)];
        all.extend(headers);
        self.connect().await.unwrap().ask(line, &all, body).await.unwrap()
    }

    /// Sends a review of a pod as the API server does.
    pub(crate) async fn review(&self, path: &str, pod: &Value) -> Decision {
        let answer = self.ask(&format!("POST {path}?timeout=10s"), &[JSON], &review(pod)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Decision::of(&answer)
    }

    /// Gets a page of the metrics port.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        ask(self.admin, &format!("GET {path}"), &[], b"").await.unwrap()
    }

    /// Returns the value of a metric, by its name and labels as in the exposition.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) async fn connect(address: SocketAddr, authority: &Authority) -> std::io::Result<Tls> {
    stream(address, authority, &Client::default()).await.map(Connection::over)
}

async fn stream(
    address: SocketAddr,
    authority: &Authority,
    client: &Client,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.ca_der().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match &client.certificate {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = client.from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    connector.connect(address.ip().into(), stream).await
}

/// Returns a review of a pod in the namespace `shop`.
pub(crate) fn review(pod: &Value) -> Vec<u8> {
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "shop",
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod,
        },
    });
    review.to_string().into_bytes()
}

/// Returns a pod of a service account with one container.
pub(crate) fn pod(service_account: &str) -> Value {
    json!({
        "metadata": {"generateName": format!("{service_account}-"), "labels": {}, "annotations": {}},
        "spec": {"serviceAccountName": service_account, "containers": [{"name": "app", "image": "app:1", "env": []}]},
    })
}

/// The decision about a pod.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Why the pod is refused.
    pub(crate) message: String,
    pub(crate) warnings: Vec<String>,
    /// Paths of the patch.
    pub(crate) paths: Vec<String>,
}

impl Decision {
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let response = &answer.json()["response"];
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        let patch = response["patch"].as_str().map_or(Value::Null, |patch| {
            serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap()
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value, of: &dyn Fn(&Value) -> String| {
            value.as_array().into_iter().flatten().map(of).collect::<Vec<_>>()
        };
        Self {
            allowed: response["allowed"].as_bool().unwrap(),
            message: text(&response["status"]["message"]),
            warnings: texts(&response["warnings"], &text),
            paths: texts(&patch, &|operation| text(&operation["path"])),
        }
    }
}

//! The self-managed certificate and its ConfigMap, with the rights of `deploy/auth`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use pod_identity_auth::certificate::TlsCertificate;
use pod_identity_auth::config::{Certificate, SelfManagedCertificate};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::files::FileMetrics;
use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use prometheus_client::registry::Registry;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, namespace, pod_address};
use testing::eventually::eventually;
use tokio::net::TcpStream;

const RIGHTS: &str = include_str!("../../../deploy/auth/rbac.yaml");
const NAMESPACE: &str = "certificate-of-auth";
const NAME: &str = "pod-identity-auth";

struct Replica {
    address: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
    _ender: Ender,
}

impl Replica {
    async fn start(kubeconfig: &std::path::Path, number: u8, wait: u64) -> Self {
        let certificate = SelfManagedCertificate {
            api_server: ApiServer { kubeconfig: Some(kubeconfig.to_owned()), url: None },
            namespace: NAMESPACE.to_owned(),
            secret: NAME.to_owned(),
            service: NAME.to_owned(),
            config_map: "pod-identity-auth-ca".to_owned(),
            lifetime: Duration::from_secs(90 * 24 * 60 * 60),
            wait: Duration::from_secs(wait),
        };
        let (mut registry, readiness) = (Registry::default(), Readiness::default());
        let files = FileMetrics::register(&mut registry);
        let certificate = Certificate::SelfManaged(certificate);
        let certificate = TlsCertificate::open(certificate, &files, &readiness, &mut registry).await.unwrap();
        let address = SocketAddr::new(IpAddr::V4(pod_address(number)), 0);
        let listener = Listener::bind(address).await.unwrap().with_tls(certificate.tls());
        let address = listener.address().unwrap();
        let (ender, shutdown) = Shutdown::manual();
        let handler = Arc::new(Admin::new(readiness.clone(), Registry::default()));
        tokio::spawn(listener.serve(handler, shutdown.clone()));
        tokio::spawn(certificate.follow(shutdown));
        Self { address, readiness, registry: Arc::new(registry), _ender: ender }
    }

    async fn is_ready(&self) {
        eventually("the replica is ready", async || self.readiness.missing().is_empty().then_some(())).await;
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Returns the certificate that an agent sees which trusts these authorities.
    async fn shows(&self, authorities: &str) -> std::io::Result<CertificateDer<'static>> {
        let mut roots = rustls::RootCertStore::empty();
        let authorities = CertificateDer::pem_slice_iter(authorities.as_bytes()).map(Result::unwrap);
        roots.add_parsable_certificates(authorities);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(format!("{NAME}.{NAMESPACE}.svc")).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }
}

async fn published(config_maps: &Api<ConfigMap>) -> Option<String> {
    config_maps.get_opt("pod-identity-auth-ca").await.unwrap()?.data?.remove("ca.crt")
}

/// Makes the newest generation look decades old, so that the next one is due.
async fn age(secrets: &Api<Secret>) {
    let mut secret = secrets.get(NAME).await.unwrap();
    let entry = &mut secret.data.as_mut().unwrap().get_mut("generations.json").unwrap().0;
    let mut generations: Value = serde_json::from_slice(entry).unwrap();
    generations.as_array_mut().unwrap().last_mut().unwrap()["made"] = json!(1);
    *entry = generations.to_string().into_bytes();
    secrets.replace(NAME, &PostParams::default(), &secret).await.unwrap();
}

#[test]
fn replicas_publish_their_authorities_with_the_rights_of_the_manifests() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, NAMESPACE, &[]).await;
        apply(&admin, &RIGHTS.replace("namespace: pod-identity\n", &format!("namespace: {NAMESPACE}\n")))
            .await;
        let kubeconfig = cluster.kubeconfig_of(NAMESPACE, NAME).await;
        let replicas = [Replica::start(&kubeconfig, 201, 2).await, Replica::start(&kubeconfig, 202, 2).await];
        for replica in &replicas {
            replica.is_ready().await;
        }
        let config_maps: Api<ConfigMap> = Api::namespaced(admin.clone(), NAMESPACE);
        let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
        let first = published(&config_maps).await.unwrap();
        assert_eq!(first.matches("BEGIN").count(), 1, "{first}");
        let shown = replicas[0].shows(&first).await.unwrap();
        assert_eq!(replicas[1].shows(&first).await.unwrap(), shown);
        let metrics = replicas[0].metrics();
        for metric in ["certificate_expires_seconds", "certificate_steps_total", "certificate_failures_total"]
        {
            assert!(metrics.contains(&format!("pod_identity_auth_{metric}")), "{metric}: {metrics}");
        }

        // The ConfigMap is repaired, and what is beside its authorities stays.
        let note = Patch::Merge(json!({"data": {"ca.crt": "", "note": "kept"}}));
        config_maps.patch("pod-identity-auth-ca", &PatchParams::default(), &note).await.unwrap();
        eventually("the entry is repaired", async || (published(&config_maps).await? == first).then_some(()))
            .await;
        let found = config_maps.get("pod-identity-auth-ca").await.unwrap();
        assert_eq!(found.data.unwrap()["note"], "kept");
        config_maps.delete("pod-identity-auth-ca", &DeleteParams::default()).await.unwrap();
        eventually("the ConfigMap is created again", async || {
            (published(&config_maps).await? == first).then_some(())
        })
        .await;

        // A renewal: the new authority is published before its certificate is served.
        eventually("the certificate is settled", async || {
            let secret = secrets.get(NAME).await.unwrap().data.unwrap().remove("generations.json").unwrap();
            String::from_utf8(secret.0).unwrap().contains("\"settled\":true").then_some(())
        })
        .await;
        age(&secrets).await;
        let both = eventually("the new authority is published", async || {
            let pem = published(&config_maps).await?;
            (pem.matches("BEGIN").count() == 2).then_some(pem)
        })
        .await;
        assert_eq!(
            replicas[0].shows(&first).await.unwrap(),
            shown,
            "agents may not know the new authority yet"
        );
        for replica in &replicas {
            eventually("the new certificate is served", async || {
                let now = replica.shows(&both).await.expect("agents with both authorities are never refused");
                (now != shown).then_some(())
            })
            .await;
        }

        // The rights reach no further.
        let client = testing::cluster::client(&kubeconfig).await;
        let other: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        for error in [
            other.get("another").await.unwrap_err(),
            Api::<Secret>::namespaced(client.clone(), "kube-system").get(NAME).await.unwrap_err(),
            Api::<ConfigMap>::namespaced(client, NAMESPACE)
                .get("pod-identity-associations")
                .await
                .unwrap_err(),
        ] {
            assert!(error.to_string().contains("forbidden"), "{error}");
        }
    });
}

#[test]
fn readiness_names_the_call_that_the_api_server_forbids() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "auth-forbidden", &[]).await;
        let kubeconfig = cluster.kubeconfig_of("auth-forbidden", "default").await;
        let replica = Replica::start(&kubeconfig, 203, 2).await;
        let reason = eventually("readiness names it", async || {
            let missing = replica.readiness.missing().into_iter();
            missing.map(|(_, reason)| reason).find(|reason| reason.contains("forbid"))
        })
        .await;
        assert!(
            reason.contains("cannot get resource \"configmaps\"") && reason.contains("RBAC rule"),
            "{reason}"
        );
    });
}

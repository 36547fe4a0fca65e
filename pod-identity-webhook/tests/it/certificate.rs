//! The certificate of its own, on a real API server.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
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
use testing::cluster::{Cluster, apply, apply_object, namespace, pod_address, set_endpoints};
use testing::eventually::eventually;
use tokio::net::TcpStream;

use crate::metrics::{listed, said};

/// One replica, as far as its certificate goes: it lets every pod in, and closes the connection, so that each
/// review is a handshake.
struct Replica {
    address: SocketAddrV4,
    readiness: Readiness,
    registry: Arc<Registry>,
    reviews: Arc<AtomicUsize>,
    shutdown: Ender,
}

struct LetsIn(Arc<AtomicUsize>);

impl Handler for LetsIn {
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
    /// Starts one with these flags, on an address of a pod's.
    async fn start(client: &Client, flags: &str, number: u8) -> Self {
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
        tokio::spawn(listener.serve(Arc::new(LetsIn(reviews.clone())), ending.clone()));
        tokio::spawn(certificate.follow(ending.clone(), ending));
        Self { address, readiness, registry: Arc::new(registry), reviews, shutdown }
    }

    async fn is_ready(&self) {
        eventually(&format!("{} is ready", self.address), async || {
            self.readiness.missing().is_empty().then_some(())
        })
        .await;
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// What a metric says; 0 where it says nothing.
    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    fn steps(&self, step: &str) -> u64 {
        let labels = format!("step=\"{step}\",outcome=\"ok\"");
        self.metric(&format!("pod_identity_webhook_certificate_steps_total{{{labels}}}"))
    }

    /// The certificate that it shows to who trusts these authorities and asks for that name.
    async fn shows(&self, bundle: &[u8], name: &str) -> std::io::Result<CertificateDer<'static>> {
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

/// A configuration with two entries for that Service, for pods with its name as a label, and one of somebody
/// else.
fn configuration(name: &str, namespace: &str, service: &str) -> Value {
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

/// A line of the key that a Secret holds.
fn key_of(secret: &Secret) -> String {
    let entry = &secret.data.as_ref().unwrap()["generations.json"].0;
    let generations: Value = serde_json::from_slice(entry).unwrap();
    let key = generations[0]["key"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    assert_eq!(key.len(), 64);
    key
}

async fn bundles(configurations: &Api<MutatingWebhookConfiguration>, name: &str) -> Vec<Option<Vec<u8>>> {
    let found = configurations.get(name).await.unwrap().webhooks.unwrap();
    found.into_iter().map(|webhook| webhook.client_config.ca_bundle.map(|bundle| bundle.0)).collect()
}

#[test]
fn two_replicas_make_one_certificate_with_the_rights_of_the_manifests_and_mend_what_others_overwrite() {
    let Some(cluster) = Cluster::shared() else { return };
    testing::logs::capture();
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "authority", &[]).await;
        // The manifests as they are, under other names: other tests of this cluster may apply them too.
        let rights = include_str!("../../../deploy/webhook/rbac.yaml")
            .replace("pod-identity-webhook", "webhook-of-authority")
            .replace("namespace: pod-identity\n", "namespace: authority\n")
            .replace("[podidentity.dev]", "[authority]");
        apply(&admin, &rights).await;
        apply_object(&admin, &configuration("authority", "authority", "webhook-of-authority")).await;

        let kubeconfig = cluster.kubeconfig_of("authority", "webhook-of-authority").await;
        let client = testing::cluster::client(&kubeconfig).await;
        let flags = "--namespace=authority --tls-secret=webhook-of-authority --service-name=webhook-of-authority \
                     --webhook-configuration=authority";
        let replicas = [Replica::start(&client, flags, 1).await, Replica::start(&client, flags, 2).await];
        let started = tokio::time::Instant::now();
        for replica in &replicas {
            replica.is_ready().await;
        }
        eprintln!("both replicas were ready within {:?}", started.elapsed());
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(admin.clone());
        let found = bundles(&configurations, "authority").await;
        let bundle = found[0].clone().unwrap();
        assert_eq!(
            found,
            [Some(bundle.clone()), None, Some(bundle.clone())],
            "the second is somebody else's"
        );
        assert_eq!(CertificateDer::pem_slice_iter(&bundle).count(), 1, "of both replicas one has made it");
        let name = "webhook-of-authority.authority.svc";
        let shown = replicas[0].shows(&bundle, name).await.unwrap();
        assert_eq!(replicas[1].shows(&bundle, name).await.unwrap(), shown);
        let leaders = || replicas.iter().map(|one| one.metric("pod_identity_webhook_certificate_leader"));
        assert_eq!(leaders().sum::<u64>(), 1);
        assert_eq!(said(&replicas[0].metrics()), &listed("The webhook's certificate") | &listed("The webhook's own certificate"));
        let expires = replicas[0].metric("pod_identity_webhook_certificate_expires_seconds");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(expires.abs_diff(now + 90 * 24 * 60 * 60) < 60, "{expires}");

        // Somebody applies the manifest again.
        for overwrite in [json!(""), json!("aGFsbG8="), Value::Null] {
            let entry = json!({"name": "one.authority.test", "clientConfig": {"caBundle": overwrite}});
            let patch = Patch::Strategic(json!({"webhooks": [entry]}));
            configurations.patch("authority", &PatchParams::default(), &patch).await.unwrap();
            let overwritten = tokio::time::Instant::now();
            eventually("the caBundle is mended", async || {
                (bundles(&configurations, "authority").await == found).then_some(())
            })
            .await;
            eprintln!("the caBundle was mended within {:?}", overwritten.elapsed());
        }
        eventually("repairs are counted", async || {
            // The generation is not settled within the test: what is mended counts as published.
            let published: u64 = replicas.iter().map(|one| one.steps("publish")).sum();
            (published >= 4).then_some(())
        })
        .await;

        // What the Secret holds is spoilt, then the Secret is lost: what is served stays until API servers know
        // the new one.
        let secrets: Api<Secret> = Api::namespaced(admin.clone(), "authority");
        let secret = "webhook-of-authority";
        let key = key_of(&secrets.get(secret).await.unwrap());
        let junk =
            Patch::Merge(json!({"stringData": {"generations.json": format!("[{{\"key\": \"{key}\"")}}));
        let authorities = async |count| {
            eventually(&format!("{count} authorities are there"), async || {
                let found = bundles(&configurations, "authority").await.remove(0)?;
                (CertificateDer::pem_slice_iter(&found).count() == count).then_some(found)
            })
            .await
        };
        secrets.patch(secret, &PatchParams::default(), &junk).await.unwrap();
        authorities(2).await;
        secrets.delete(secret, &DeleteParams::default()).await.unwrap();
        let all = authorities(3).await;
        for replica in &replicas {
            assert_eq!(replica.shows(&all, name).await.unwrap(), shown);
            replica.shutdown.end();
        }
        let leases: Api<Lease> = Api::namespaced(admin, "authority");
        eventually("the Lease is given back", async || {
            let lease = leases.get("webhook-of-authority").await.unwrap();
            (lease.spec.unwrap().holder_identity.as_deref() == Some("")).then_some(())
        })
        .await;

        let told = testing::logs::lines_with(&["entry cannot be read", secret]);
        assert!(!told.is_empty(), "that the Secret was spoilt is said");
        for key in [key, key_of(&secrets.get(secret).await.unwrap())] {
            assert_eq!(testing::logs::lines_with(&[&key]), [""; 0]);
        }
    });
}

/// Makes the newest generation look as old as the hills: two thirds of its life are over.
pub(crate) async fn age(secrets: &Api<Secret>, name: &str) {
    let mut secret = secrets.get(name).await.unwrap();
    let entry = &mut secret.data.as_mut().unwrap().get_mut("generations.json").unwrap().0;
    let mut generations: Value = serde_json::from_slice(entry).unwrap();
    generations.as_array_mut().unwrap().last_mut().unwrap()["made"] = json!(1);
    *entry = generations.to_string().into_bytes();
    secrets.replace(name, &PostParams::default(), &secret).await.unwrap();
}

/// Two replicas renew every few seconds while pods are created, each of which must be reviewed over a new
/// connection.
#[test]
fn rotations_under_load_lose_no_review() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "rotation", &[]).await;
        apply_object(&admin, &configuration("rotation", "rotation", "webhook")).await;
        let flags = "--namespace=rotation --tls-secret=webhook --service-name=webhook \
                     --webhook-configuration=rotation --certificate-wait=2";
        let replicas = [Replica::start(&admin, flags, 3).await, Replica::start(&admin, flags, 4).await];
        for replica in &replicas {
            replica.is_ready().await;
        }
        set_endpoints(&admin, "rotation", "webhook", &replicas.each_ref().map(|replica| replica.address))
            .await;
        let create = {
            let admin = admin.clone();
            async move |name: String| {
                let pods: Api<Pod> = Api::namespaced(admin.clone(), "rotation");
                let pod = json!({"metadata": {"name": name, "labels": {"asks": "rotation"}},
                    "spec": {"containers": [{"name": "app", "image": "app"}]}});
                pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await
            }
        };
        // The API server learns where the Service is served.
        let first = create.clone();
        eventually("reviews arrive", async || first("first".to_owned()).await.ok()).await;

        let (created, done) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicBool::new(false)));
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (create, created, done) = (create.clone(), created.clone(), done.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        if done.load(Ordering::SeqCst) {
                            return;
                        }
                        create(format!("{worker}-{number}")).await.unwrap_or_else(|error| panic!("{error}"));
                        created.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let count = |step| replicas.iter().map(|replica| replica.steps(step)).sum::<u64>();
        let secrets: Api<Secret> = Api::namespaced(admin.clone(), "rotation");
        // The first is that of the beginning.
        for rotation in 1..=5 {
            eventually(&format!("rotation {rotation}"), async || (count("settle") >= rotation).then_some(()))
                .await;
            if rotation < 5 {
                age(&secrets, "webhook").await;
            }
        }
        eventually("what is old leaves the bundle", async || (count("trim") >= 1).then_some(())).await;
        done.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.unwrap();
        }
        let reviews: usize = replicas.iter().map(|replica| replica.reviews.load(Ordering::SeqCst)).sum();
        let created = created.load(Ordering::SeqCst);
        eprintln!("{created} pods, {reviews} reviews, {} rotations", count("settle"));
        assert!(reviews >= created, "{reviews} reviews of {created} pods");
        for replica in replicas {
            replica.shutdown.end();
        }
    });
}

#[test]
fn what_the_api_server_forbids_is_named_where_readiness_is_asked() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "forbidden", &[]).await;
        let kubeconfig = cluster.kubeconfig_of("forbidden", "default").await;
        let client = testing::cluster::client(&kubeconfig).await;
        let replica = Replica::start(&client, "--namespace=forbidden", 5).await;
        let reason = eventually("readiness names it", async || {
            replica
                .readiness
                .missing()
                .into_iter()
                .find_map(|(_, reason)| reason.contains("forbid").then_some(reason))
        })
        .await;
        assert!(
            reason.contains("cannot get resource \"secrets\"") && reason.contains("RBAC rule"),
            "{reason}"
        );
        replica.shutdown.end();
    });
}

/// The manifests' rights under another name, and their configuration.
async fn install(admin: &Client, cluster: &Cluster, name: &str) -> (Client, String) {
    namespace(admin, name, &[]).await;
    let rights = include_str!("../../../deploy/webhook/rbac.yaml")
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

#[test]
fn a_certificate_that_cannot_be_renewed_is_counted_and_logged_and_the_replica_stays_ready() {
    let Some(cluster) = Cluster::shared() else { return };
    testing::logs::capture();
    cluster.run(async || {
        let admin = cluster.client().await;
        let (client, flags) = install(&admin, cluster, "tightened").await;
        let replica = Replica::start(&client, &flags, 6).await;
        replica.is_ready().await;
        eventually("the certificate is settled", async || (replica.steps("settle") == 1).then_some(())).await;
        let failures = |reason| {
            replica.metric(&format!("pod_identity_webhook_certificate_failures_total{{reason=\"{reason}\"}}"))
        };
        assert_eq!(failures("forbidden") + failures("overdue"), 0);
        let expires = || replica.metric("pod_identity_webhook_certificate_expires_seconds");
        let before = expires();
        assert!(before > 0);

        // The Secret may be read and no longer written, and a new certificate is due.
        let roles: Api<Role> = Api::namespaced(admin.clone(), "tightened");
        let mut role = roles.get("webhook-of-tightened").await.unwrap();
        for rule in role.rules.iter_mut().flatten() {
            rule.verbs.retain(|verb| {
                rule.resources.as_deref() != Some(&["secrets".to_owned()][..]) || verb != "update"
            });
        }
        roles.replace("webhook-of-tightened", &PostParams::default(), &role).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(admin.clone(), "tightened");
        age(&secrets, "webhook-of-tightened").await;
        eventually("failures are counted", async || (failures("forbidden") >= 2).then_some(())).await;
        let warned =
            || testing::logs::lines_with(&["WARN", "is not kept", "webhook-of-tightened", "forbids"]);
        assert_eq!(warned().len(), 1, "{:?}", warned());
        assert!(replica.readiness.missing().is_empty(), "{:?}", replica.readiness.missing());
        assert_eq!(expires(), before, "the old certificate is served");

        // The Lease may not be written either: nobody leads, nothing is tried, and the certificate grows old.
        roles.delete("webhook-of-tightened", &DeleteParams::default()).await.unwrap();
        eventually("reads are refused too", async || {
            let lines = testing::logs::lines_with(&["WARN", "Lease cannot be kept", "webhook-of-tightened"]);
            (!lines.is_empty()).then_some(())
        })
        .await;
        assert!(replica.readiness.missing().is_empty(), "{:?}", replica.readiness.missing());
        replica.shutdown.end();
    });
}

#[test]
fn what_a_newer_version_keeps_in_the_secret_survives_a_rotation_by_an_older_one() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        let (client, flags) = install(&admin, cluster, "format").await;
        let replica = Replica::start(&client, &flags, 7).await;
        eventually("the certificate is settled", async || (replica.steps("settle") == 1).then_some(())).await;
        let (secrets, name): (Api<Secret>, _) =
            (Api::namespaced(admin.clone(), "format"), "webhook-of-format");
        let entry = |secret: &Secret, entry: &str| {
            let data = secret.data.as_ref().unwrap();
            data.get(entry).map(|bytes| String::from_utf8(bytes.0.clone()).unwrap())
        };
        let secret = secrets.get(name).await.unwrap();
        assert_eq!(entry(&secret, "format-version").as_deref(), Some("1"));

        // A newer replica writes its version, an entry and a field; and it is time to renew.
        let mut generations: Value =
            serde_json::from_str(&entry(&secret, "generations.json").unwrap()).unwrap();
        generations[0]["backup"] = json!({"of": "the future"});
        generations[0]["made"] = json!(1);
        let newer = json!({"stringData": {
            "format-version": "2", "note": "kept", "generations.json": generations.to_string(),
        }});
        secrets.patch(name, &PatchParams::default(), &Patch::Merge(newer)).await.unwrap();
        eventually("it renews", async || (replica.steps("settle") == 2).then_some(())).await;
        let secret = secrets.get(name).await.unwrap();
        assert_eq!(entry(&secret, "format-version").as_deref(), Some("2"));
        assert_eq!(entry(&secret, "note").as_deref(), Some("kept"));
        let generations: Value = serde_json::from_str(&entry(&secret, "generations.json").unwrap()).unwrap();
        assert_eq!(generations[0]["backup"], json!({"of": "the future"}));
        assert_eq!(generations.as_array().unwrap().len(), 2);

        // A newer format that this version cannot read is left as it is.
        let unreadable = json!({"stringData": {"format-version": "3", "generations.json": "{}"}});
        secrets.patch(name, &PatchParams::default(), &Patch::Merge(unreadable)).await.unwrap();
        let failures = r#"pod_identity_webhook_certificate_failures_total{reason="format"}"#;
        eventually("it says so", async || (replica.metric(failures) >= 2).then_some(())).await;
        let secret = secrets.get(name).await.unwrap();
        assert_eq!(entry(&secret, "generations.json").as_deref(), Some("{}"));
        assert_eq!(entry(&secret, "format-version").as_deref(), Some("3"));
        assert!(replica.readiness.missing().is_empty());
        replica.shutdown.end();
    });
}

//! The self-managed certificate, on a real API server.

mod replica;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, apply_object, namespace, set_endpoints};
use testing::eventually::eventually;

pub(crate) use self::replica::age;
use self::replica::{Replica, bundles, configuration, install, key_of};
use crate::metrics::{listed, said};

#[test]
fn replicas_share_one_certificate_with_the_rights_of_the_manifests_and_repair_overwritten_bundles() {
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
            "the second is for another Service"
        );
        assert_eq!(CertificateDer::pem_slice_iter(&bundle).count(), 1, "one of the replicas has made it");
        let name = "webhook-of-authority.authority.svc";
        let shown = replicas[0].shows(&bundle, name).await.unwrap();
        assert_eq!(replicas[1].shows(&bundle, name).await.unwrap(), shown);
        assert_eq!(said(&replicas[0].metrics()), &listed("The webhook's certificate") | &listed("The webhook's own certificate"));
        let expires = replicas[0].metric("pod_identity_webhook_certificate_expires_seconds");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(expires.abs_diff(now + 90 * 24 * 60 * 60) < 60, "{expires}");

        // The manifest is applied again.
        for overwrite in [json!(""), json!("aGFsbG8="), Value::Null] {
            let entry = json!({"name": "one.authority.test", "clientConfig": {"caBundle": overwrite}});
            let patch = Patch::Strategic(json!({"webhooks": [entry]}));
            configurations.patch("authority", &PatchParams::default(), &patch).await.unwrap();
            let overwritten = tokio::time::Instant::now();
            eventually("the caBundle is repaired", async || {
                (bundles(&configurations, "authority").await == found).then_some(())
            })
            .await;
            eprintln!("the caBundle was repaired within {:?}", overwritten.elapsed());
        }
        eventually("repairs are counted", async || {
            // The generation is not settled within the test: a repair counts as publication.
            let published: u64 = replicas.iter().map(|one| one.steps("publish")).sum();
            (published >= 4).then_some(())
        })
        .await;

        // The Secret is spoilt and then deleted: the served certificate stays until API servers know the new one.
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

        let told = testing::logs::lines_with(&["entry cannot be read", secret]);
        assert!(!told.is_empty(), "the spoilt Secret is logged");
        for key in [key, key_of(&secrets.get(secret).await.unwrap())] {
            assert_eq!(testing::logs::lines_with(&[&key]), [""; 0]);
        }
    });
}

/// Two replicas renew every few seconds while pods are created. Each review needs a new connection.
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
        // The API server learns the endpoints of the Service.
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
        // The first is that of the start.
        for rotation in 1..=5 {
            eventually(&format!("rotation {rotation}"), async || (count("settle") >= rotation).then_some(()))
                .await;
            if rotation < 5 {
                age(&secrets, "webhook").await;
            }
        }
        eventually("old authorities leave the bundle", async || (count("trim") >= 1).then_some(())).await;
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
fn readiness_names_the_call_that_the_api_server_forbids() {
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
            reason.contains("cannot get resource \"mutatingwebhookconfigurations\"")
                && reason.contains("RBAC rule"),
            "{reason}"
        );
        replica.shutdown.end();
    });
}

#[test]
fn replica_stays_ready_counts_and_logs_while_the_certificate_cannot_be_renewed() {
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
        let warned = || {
            testing::logs::lines_with(&[
                "WARN",
                "certificate rotation is failing",
                "webhook-of-tightened",
                "forbids",
            ])
        };
        assert_eq!(warned().len(), 1, "{:?}", warned());
        assert!(replica.readiness.missing().is_empty(), "{:?}", replica.readiness.missing());
        assert_eq!(expires(), before, "the old certificate is served");

        // The Secret may not be read either: the fault goes on, and has one warning an hour.
        roles.delete("webhook-of-tightened", &DeleteParams::default()).await.unwrap();
        let tries = || {
            replica.metric("pod_identity_webhook_certificate_steps_total{step=\"make\",outcome=\"error\"}")
        };
        assert!(tries() > 0);
        eventually("reads are refused too: failures are counted, and no step is tried", async || {
            let (tried, counted) = (tries(), failures("forbidden"));
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            (tries() == tried && failures("forbidden") >= counted + 2).then_some(())
        })
        .await;
        assert_eq!(warned().len(), 1, "{:?}", warned());
        assert_eq!(expires(), before, "the old certificate is served");
        assert!(replica.readiness.missing().is_empty(), "{:?}", replica.readiness.missing());
        replica.shutdown.end();
    });
}

#[test]
fn rotation_by_an_older_version_keeps_the_data_of_a_newer_one() {
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

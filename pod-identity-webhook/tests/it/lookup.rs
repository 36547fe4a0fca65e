//! Lookups with a real API server.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use pod_identity_core::inject::Role;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::monotonic;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_webhook::args::parse;
use pod_identity_webhook::client::client;
use pod_identity_webhook::lookup::{Freshness, Lookup, LookupResult, ReadFailure};
use prometheus_client::registry::Registry;
use serde_json::json;
use testing::cluster::{Cluster, apply, namespace, service_account};
use testing::eventually::eventually;

use crate::proxy::{Mode, Proxy};
use crate::webhook::{Webhook, pod};

/// A lookup that follows its sources until it is dropped.
struct Fixture {
    lookup: Lookup,
    readiness: Readiness,
    registry: Registry,
    _following: Ender,
}

impl Fixture {
    async fn with(kubeconfig: &Path, flags: &[&str]) -> Self {
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags = ["webhook", &kubeconfig].into_iter().chain(flags.iter().copied());
        let config = parse(flags).unwrap().config().unwrap();
        let (readiness, mut registry) = (Readiness::default(), Registry::default());
        let client = client(&config.api_server).await.unwrap();
        let lookup = Lookup::open(&config, Some(&client), &readiness, &mut registry).unwrap();
        let (ender, shutdown) = Shutdown::manual();
        tokio::spawn(lookup.clone().follow(readiness.clone(), shutdown));
        Self { lookup, readiness, registry, _following: ender }
    }

    async fn wait_until_ready(&self) {
        eventually("all service accounts are listed", async || {
            self.readiness.missing().is_empty().then_some(())
        })
        .await;
    }

    async fn lookup(&self, namespace: &str, name: &str) -> LookupResult {
        self.lookup.of(&namespace.parse().unwrap(), &name.parse().unwrap(), None, monotonic()).await
    }

    /// Returns the name of the role, empty without a role, and whether it is current.
    async fn role(&self, namespace: &str, name: &str) -> (String, Freshness) {
        let found = self.lookup(namespace, name).await;
        let role = match found.settings.role {
            Some(Role::Arn(arn)) => arn.as_str().rsplit('/').next().unwrap().to_owned(),
            Some(Role::Invalid(text)) => text,
            None => String::new(),
        };
        (role, found.freshness)
    }

    /// Waits for a current role. On a busy machine a read may take longer than a review waits.
    async fn fresh_role(&self, namespace: &str, name: &str) -> String {
        eventually("a current role", async || {
            let (role, freshness) = self.role(namespace, name).await;
            matches!(freshness, Freshness::Fresh).then_some(role)
        })
        .await
    }

    /// Waits for a role from earlier data, with this reason.
    async fn earlier_role(&self, namespace: &str, name: &str, reason: &str) -> (String, ReadFailure) {
        eventually(reason, async || match self.role(namespace, name).await {
            (role, Freshness::Recent(failure) | Freshness::Stale(failure)) if failure.as_str() == reason => {
                Some((role, failure))
            }
            _ => None,
        })
        .await
    }

    fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

fn fresh(role: &str) -> (String, Freshness) {
    (role.to_owned(), Freshness::Fresh)
}

const ROLE: &str = "eks.amazonaws.com/role-arn";

fn arn(role: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{role}")
}

async fn annotate(client: &Client, namespace: &str, service_account: &str, role: &str) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {ROLE: arn(role)}}});
    api.patch(service_account, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn delete(client: &Client, namespace: &str, service_account: &str) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    api.delete(service_account, &DeleteParams::default()).await.unwrap();
}

#[test]
fn reads_see_every_earlier_change_and_the_watch_lags() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "orders", &[]).await;
        let reads = Fixture::with(&cluster.kubeconfig(), &[]).await;
        let (proxy, directory) = (Proxy::start().await, tempfile::tempdir().unwrap());
        let kubeconfig = proxy.kubeconfig(&cluster.kubeconfig(), directory.path());
        let watches = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
        watches.wait_until_ready().await;
        let mut missed = 0;
        for round in 0..75 {
            let app = format!("app-{round}");
            let roles = ["", "one", "two", ""].into_iter().chain(["three"]);
            for (step, role) in roles.enumerate() {
                match step {
                    0 => service_account(&admin, "orders", &app, &[]).await,
                    1 | 2 => annotate(&admin, "orders", &app, role).await,
                    3 => delete(&admin, "orders", &app).await,
                    _ => service_account(&admin, "orders", &app, &[(ROLE, &arn(role))]).await,
                }
                missed += u32::from(watches.role("orders", &app).await != fresh(role));
                assert_eq!(reads.fresh_role("orders", &app).await, role, "{app}, step {step}");
            }
        }
        println!("the watch had not seen {missed} of 375 changes");
        for round in 0..75 {
            let app = format!("app-{round}");
            eventually("the watch sees the role", async || {
                (watches.role("orders", &app).await == fresh("three")).then_some(())
            })
            .await;
        }
        // The watch does not notice that it lags.
        proxy.set(Mode::Stall);
        annotate(&admin, "orders", "app-0", "four").await;
        assert_eq!(watches.role("orders", "app-0").await, fresh("three"));
        assert_eq!(reads.fresh_role("orders", "app-0").await, "four");
        assert!(reads.metric(r#"pod_identity_service_account_lookups_total{source="read"}"#) >= 376.0);
    });
}

#[test]
fn a_burst_of_reviews_shares_few_reads() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "burst", &[]).await;
        service_account(&admin, "burst", "app", &[(ROLE, &arn("app"))]).await;
        let fixture = Fixture::with(&cluster.kubeconfig(), &[]).await;
        let reviews = (0..64).map(|_| fixture.fresh_role("burst", "app"));
        for role in futures_util::future::join_all(reviews).await {
            assert_eq!(role, "app");
        }
        let reads = fixture.metric(r#"pod_identity_api_reads_total{object="service_account",result="ok"}"#);
        // Two on an idle machine.
        assert!((1.0..=16.0).contains(&reads), "{reads} reads");
    });
}

#[test]
fn a_forbidden_read_names_the_missing_rbac_rule() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "rights", &[]).await;
        service_account(&admin, "rights", "webhook", &[]).await;
        service_account(&admin, "rights", "app", &[(ROLE, &arn("app"))]).await;
        let kubeconfig = cluster.kubeconfig_of("rights", "webhook").await;
        let fixture = Fixture::with(&kubeconfig, &["--watch-config-map", "--namespace=rights"]).await;
        let failure =
            eventually("the read is forbidden", async || match fixture.role("rights", "app").await {
                (_, Freshness::Unknown(failure)) if failure.as_str() == "forbidden" => Some(failure),
                _ => None,
            })
            .await;
        let text = failure.to_string();
        assert!(text.contains("get, list and watch of serviceaccounts"), "{text}");
        assert!(text.contains("system:serviceaccount:rights:webhook"), "{text}");
        let reason = eventually("readiness names the missing rule", async || {
            fixture.readiness.missing().into_iter().find(|(_, reason)| reason.contains("forbids"))
        });
        assert!(reason.await.1.contains("get, list and watch of serviceaccounts"));

        // With the rules of the manifests the lookup recovers without a restart.
        apply(&admin, include_str!("lookup/rights.yaml")).await;
        eventually("the service account is read", async || {
            (fixture.role("rights", "app").await == fresh("app")).then_some(())
        })
        .await;
        fixture.wait_until_ready().await;
        // For a service account without a role the ConfigMap is read. It does not exist.
        assert_eq!(fixture.fresh_role("rights", "webhook").await, "");
    });
}

#[test]
fn serves_the_data_of_the_watch_while_the_api_server_is_down_and_recovers() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "away", &[]).await;
        service_account(&admin, "away", "app", &[(ROLE, &arn("one"))]).await;
        let (proxy, directory) = (Proxy::start().await, tempfile::tempdir().unwrap());
        let kubeconfig = proxy.kubeconfig(&cluster.kubeconfig(), directory.path());
        proxy.set(Mode::Refuse);
        let reads = Fixture::with(&kubeconfig, &[]).await;
        let (role, freshness) = reads.role("away", "app").await;
        assert!(matches!(freshness, Freshness::Unknown(_)) && role.is_empty(), "{freshness:?}");
        proxy.set(Mode::Forward);
        reads.wait_until_ready().await;
        let watches = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
        watches.wait_until_ready().await;
        assert_eq!(reads.fresh_role("away", "app").await, "one");

        for (mode, label, at_least) in [
            (Mode::Refuse, "connection", Duration::ZERO),
            (Mode::Stall, "deadline", Duration::from_millis(990)),
        ] {
            proxy.set(mode);
            let start = monotonic();
            let (role, failure) = reads.earlier_role("away", "app", label).await;
            assert_eq!(role, "one", "{failure}");
            assert!(start.elapsed() >= at_least, "{mode:?}: {:?}", start.elapsed());
        }
        proxy.set(Mode::Refuse); // unread bytes are lost
        annotate(&admin, "away", "app", "two").await;
        service_account(&admin, "away", "new", &[(ROLE, &arn("new"))]).await;
        proxy.set(Mode::Forward);
        assert!(reads.readiness.missing().is_empty(), "it stays ready");
        eventually("reads succeed again", async || {
            (reads.role("away", "app").await == fresh("two")).then_some(())
        })
        .await;
        eventually("the watch recovers", async || {
            let seen = [watches.role("away", "app").await, watches.role("away", "new").await];
            (seen == [fresh("two"), fresh("new")]).then_some(())
        })
        .await;
    });
}

#[test]
fn reads_the_config_map_for_each_review_and_keeps_its_last_valid_content() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "mapped", &[]).await;
        service_account(&admin, "mapped", "app", &[]).await;
        service_account(&admin, "mapped", "own", &[(ROLE, &arn("own"))]).await;
        let api: Api<ConfigMap> = Api::namespaced(admin.clone(), "mapped");
        let fixture =
            Fixture::with(&cluster.kubeconfig(), &["--watch-config-map", "--namespace=mapped"]).await;
        assert_eq!(fixture.fresh_role("mapped", "app").await, "");

        let invalid =
            |role: &str| format!(r#"{{"mapped/*": {{}}, "mapped/app": {{"RoleARN": "{}"}}}}"#, arn(role));
        let valid = |role: &str| invalid(role).replacen(r#""mapped/*": {}, "#, "", 1);
        let map =
            |config: &str| json!({"metadata": {"name": "pod-identity-webhook"}, "data": {"config": config}});
        api.create(&PostParams::default(), &serde_json::from_value(map(&valid("one"))).unwrap())
            .await
            .unwrap();
        assert_eq!(fixture.fresh_role("mapped", "app").await, "one");
        assert_eq!(fixture.fresh_role("mapped", "own").await, "own");

        let replace = async |config: &str| {
            api.patch("pod-identity-webhook", &PatchParams::default(), &Patch::Merge(map(config)))
                .await
                .unwrap();
        };
        for round in 0..30 {
            let role = format!("role-{round}");
            replace(&valid(&role)).await;
            assert_eq!(fixture.fresh_role("mapped", "app").await, role);
        }
        replace(&invalid("two")).await; // one invalid name makes the whole ConfigMap invalid
        for _ in 0..2 {
            let (role, failure) = fixture.earlier_role("mapped", "app", "config_map").await;
            assert_eq!(role, "role-29");
            assert!(failure.to_string().contains("mapped/*"), "{failure}");
        }
        replace(&valid("three")).await;
        assert_eq!(fixture.fresh_role("mapped", "app").await, "three");
        api.delete("pod-identity-webhook", &DeleteParams::default()).await.unwrap();
        assert_eq!(fixture.fresh_role("mapped", "app").await, "");
    });
}

#[test]
fn lists_service_accounts_of_several_pages() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "pages", &[]).await;
        let names: Vec<_> = (0..1100).map(|number| format!("app-{number}")).collect();
        for chunk in names.chunks(50) {
            let made = chunk
                .iter()
                .map(|name| async { service_account(&admin, "pages", name, &[(ROLE, &arn(name))]).await });
            futures_util::future::join_all(made).await;
        }
        let fixture = Fixture::with(&cluster.kubeconfig(), &["--service-account-read=cache"]).await;
        fixture.wait_until_ready().await;
        for name in &names {
            assert_eq!(&fixture.fresh_role("pages", name).await, name);
        }
        assert!(fixture.metric("pod_identity_watch_service_accounts") >= 1100.0);
    });
}

/// In kube-apiserver 1.33 the feature gate `WatchList` is off by default.
#[test]
fn lists_in_pages_if_the_api_server_does_not_stream() {
    let Some(cluster) = Cluster::start_with(&["--feature-gates=WatchList=false"]) else { return };
    testing::logs::capture();
    cluster.run({
        let kubeconfig = cluster.kubeconfig();
        async move || {
            let admin = testing::cluster::client(&kubeconfig).await;
            namespace(&admin, "unstreamed", &[]).await;
            service_account(&admin, "unstreamed", "app", &[(ROLE, &arn("app"))]).await;
            let fixture = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
            fixture.wait_until_ready().await;
            assert_eq!(fixture.role("unstreamed", "app").await, fresh("app"));
            let lines = testing::logs::lines_with(&["WARN", "listing in pages", "sendInitialEvents"]);
            assert_eq!(lines.len(), 1, "{lines:?}");
            annotate(&admin, "unstreamed", "app", "other").await;
            eventually("the watch sees the change", async || {
                (fixture.role("unstreamed", "app").await == fresh("other")).then_some(())
            })
            .await;
        }
    });
}

#[test]
fn pods_without_a_role_cause_no_warnings_and_one_log_line_while_the_api_server_is_slow() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let (proxy, directory) = (Proxy::start().await, tempfile::tempdir().unwrap());
        let kubeconfig = proxy.kubeconfig(&cluster.kubeconfig(), directory.path());
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags = ["--service-account-read=fresh", "--kube-api=", &kubeconfig];
        let webhook = Webhook::start(&flags).await;
        eventually("the webhook is ready", async || {
            (webhook.admin("/readyz").await.status == 200).then_some(())
        })
        .await;
        proxy.set(Mode::Stall);
        let mut slow = pod("nobody");
        slow["metadata"]["generateName"] = json!("slow-api-server-");
        let reviews = (0..8).map(|_| webhook.review("/mutate", &slow));
        for decision in futures_util::future::join_all(reviews).await {
            assert!(decision.allowed && decision.paths.is_empty(), "{decision:?}");
            assert_eq!(decision.warnings, [""; 0]);
        }
        let missed = r#"pod_identity_webhook_missed_total{reason="not_fresh"}"#;
        assert_eq!(webhook.metric(missed).await, Some(0.0));
        let not_fresh = r#"pod_identity_webhook_not_fresh_total{outcome="no_role"}"#;
        assert_eq!(webhook.metric(not_fresh).await, Some(8.0));
        let lines = testing::logs::lines_with(&["WARN", "slow-api-server-"]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        // A pod that requires injection is refused, since recent data may already be outdated.
        let refused = webhook.review("/mutate/require", &slow).await;
        assert!(!refused.allowed && refused.message.contains("within a second"), "{refused:?}");
        assert_eq!(webhook.admin("/readyz").await.status, 200);
    });
}

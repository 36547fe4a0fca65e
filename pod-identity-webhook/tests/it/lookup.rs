//! Lookups of service accounts, with a real API server.

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

use crate::gate::{Gate, State};
use crate::webhook::{Webhook, pod};

/// The lookup of a webhook with these flags. It follows its sources until this is dropped.
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

    async fn is_ready(&self) {
        eventually("all service accounts are listed", async || {
            self.readiness.missing().is_empty().then_some(())
        })
        .await;
    }

    async fn find(&self, namespace: &str, name: &str) -> LookupResult {
        self.lookup.of(&namespace.parse().unwrap(), &name.parse().unwrap(), None, monotonic()).await
    }

    /// Returns the name of the role, and whether it is current.
    async fn role(&self, namespace: &str, name: &str) -> (String, Freshness) {
        let found = self.find(namespace, name).await;
        let role = match found.settings.role {
            Some(Role::Arn(arn)) => arn.as_str().rsplit('/').next().unwrap().to_owned(),
            Some(Role::Invalid(text)) => text,
            None => String::new(),
        };
        (role, found.freshness)
    }

    /// Waits for a current role: a busy machine may take longer than a review waits.
    async fn fresh_role(&self, namespace: &str, name: &str) -> String {
        eventually("a current role", async || {
            let (role, freshness) = self.role(namespace, name).await;
            matches!(freshness, Freshness::Fresh).then_some(role)
        })
        .await
    }

    /// Waits for an earlier role that is used for this reason.
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

async fn annotate(client: &Client, namespace: &str, account: &str, role: &str) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {ROLE: arn(role)}}});
    api.patch(account, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn delete(client: &Client, namespace: &str, account: &str) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    api.delete(account, &DeleteParams::default()).await.unwrap();
}

#[test]
fn a_read_sees_every_change_that_came_before_it_and_the_watch_does_not() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "orders", &[]).await;
        let reads = Fixture::with(&cluster.kubeconfig(), &[]).await;
        let (gate, directory) = (Gate::open().await, tempfile::tempdir().unwrap());
        let kubeconfig = gate.kubeconfig(&cluster.kubeconfig(), directory.path());
        let watches = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
        watches.is_ready().await;
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
        // In the end it sees everything.
        for round in 0..75 {
            let app = format!("app-{round}");
            eventually("the watch sees the role", async || {
                (watches.role("orders", &app).await == fresh("three")).then_some(())
            })
            .await;
        }
        // What it cannot see in time it takes for current all the same.
        gate.is(State::Stopped);
        annotate(&admin, "orders", "app-0", "four").await;
        assert_eq!(watches.role("orders", "app-0").await, fresh("three"));
        assert_eq!(reads.fresh_role("orders", "app-0").await, "four");
        assert!(reads.metric(r#"pod_identity_service_account_lookups_total{source="read"}"#) >= 376.0);
    });
}

#[test]
fn a_burst_of_reviews_is_few_reads() {
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
        // Two where nothing else keeps the machine busy.
        assert!((1.0..=16.0).contains(&reads), "{reads} reads");
    });
}

#[test]
fn without_the_right_to_read_it_is_said_which_rule_is_missing() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "rights", &[]).await;
        service_account(&admin, "rights", "webhook", &[]).await;
        service_account(&admin, "rights", "app", &[(ROLE, &arn("app"))]).await;
        let kubeconfig = cluster.kubeconfig_of("rights", "webhook").await;
        let fixture = Fixture::with(&kubeconfig, &["--watch-config-map", "--namespace=rights"]).await;
        let failure = eventually("it is forbidden", async || match fixture.role("rights", "app").await {
            (_, Freshness::Unknown(failure)) if failure.as_str() == "forbidden" => Some(failure),
            _ => None,
        })
        .await;
        let text = failure.to_string();
        assert!(text.contains("get, list and watch of serviceaccounts"), "{text}");
        assert!(text.contains("system:serviceaccount:rights:webhook"), "{text}");
        let reason = eventually("the missing right keeps it from being ready", async || {
            fixture.readiness.missing().into_iter().find(|(_, reason)| reason.contains("forbids"))
        });
        assert!(reason.await.1.contains("get, list and watch of serviceaccounts"));

        // With what the manifests allow, it reads, and is ready by itself.
        apply(&admin, include_str!("lookup/rights.yaml")).await;
        eventually("the account is read", async || {
            (fixture.role("rights", "app").await == fresh("app")).then_some(())
        })
        .await;
        fixture.is_ready().await;
        // The account has no role, so the ConfigMap is asked for: which there is not.
        assert_eq!(fixture.fresh_role("rights", "webhook").await, "");
    });
}

#[test]
fn while_the_api_server_is_away_the_watch_answers_and_then_it_goes_on() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "away", &[]).await;
        service_account(&admin, "away", "app", &[(ROLE, &arn("one"))]).await;
        let (gate, directory) = (Gate::open().await, tempfile::tempdir().unwrap());
        let kubeconfig = gate.kubeconfig(&cluster.kubeconfig(), directory.path());
        gate.is(State::Closed);
        let reads = Fixture::with(&kubeconfig, &[]).await;
        let (role, freshness) = reads.role("away", "app").await;
        assert!(matches!(freshness, Freshness::Unknown(_)) && role.is_empty(), "{freshness:?}");
        gate.is(State::Open);
        reads.is_ready().await;
        let watches = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
        watches.is_ready().await;
        assert_eq!(reads.fresh_role("away", "app").await, "one");

        for (state, label, at_least) in [
            (State::Closed, "connection", Duration::ZERO),
            (State::Stopped, "deadline", Duration::from_millis(990)),
        ] {
            gate.is(state);
            let asked = monotonic();
            let (role, failure) = reads.earlier_role("away", "app", label).await;
            assert_eq!(role, "one", "{failure}");
            assert!(asked.elapsed() >= at_least, "{state:?}: {:?}", asked.elapsed());
        }
        gate.is(State::Closed); // what it had is lost
        annotate(&admin, "away", "app", "two").await;
        service_account(&admin, "away", "new", &[(ROLE, &arn("new"))]).await;
        gate.is(State::Open);
        assert!(reads.readiness.missing().is_empty(), "it stays ready");
        eventually("reads succeed again", async || {
            (reads.role("away", "app").await == fresh("two")).then_some(())
        })
        .await;
        eventually("the watch goes on", async || {
            let seen = [watches.role("away", "app").await, watches.role("away", "new").await];
            (seen == [fresh("two"), fresh("new")]).then_some(())
        })
        .await;
    });
}

#[test]
fn the_config_map_counts_as_it_is_now_and_a_broken_one_as_it_was() {
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

        let content =
            |role: &str| format!(r#"{{"mapped/*": {{}}, "mapped/app": {{"RoleARN": "{}"}}}}"#, arn(role));
        let good = |role: &str| content(role).replacen(r#""mapped/*": {}, "#, "", 1);
        let map =
            |config: &str| json!({"metadata": {"name": "pod-identity-webhook"}, "data": {"config": config}});
        api.create(&PostParams::default(), &serde_json::from_value(map(&good("one"))).unwrap())
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
            replace(&good(&role)).await;
            assert_eq!(fixture.fresh_role("mapped", "app").await, role);
        }
        replace(&content("two")).await; // an account's name that is none refuses the whole
        for _ in 0..2 {
            let (role, failure) = fixture.earlier_role("mapped", "app", "config_map").await;
            assert_eq!(role, "role-29");
            assert!(failure.to_string().contains("mapped/*"), "{failure}");
        }
        replace(&good("three")).await;
        assert_eq!(fixture.fresh_role("mapped", "app").await, "three");
        api.delete("pod-identity-webhook", &DeleteParams::default()).await.unwrap();
        assert_eq!(fixture.fresh_role("mapped", "app").await, "");
    });
}

#[test]
fn accounts_of_several_pages_are_all_listed() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, "pages", &[]).await;
        let names: Vec<_> = (0..1100).map(|number| format!("app-{number}")).collect();
        for some in names.chunks(50) {
            let made = some
                .iter()
                .map(|name| async { service_account(&admin, "pages", name, &[(ROLE, &arn(name))]).await });
            futures_util::future::join_all(made).await;
        }
        let fixture = Fixture::with(&cluster.kubeconfig(), &["--service-account-read=cache"]).await;
        fixture.is_ready().await;
        for name in &names {
            assert_eq!(&fixture.fresh_role("pages", name).await, name);
        }
        assert!(fixture.metric("pod_identity_watch_service_accounts") >= 1100.0);
    });
}

/// 1.33 is the last version of Kubernetes in which kube-apiserver streams no list by default.
#[test]
fn an_api_server_that_does_not_stream_lists_is_asked_for_pages() {
    let Some(cluster) = Cluster::start_with(&["--feature-gates=WatchList=false"]) else { return };
    testing::logs::capture();
    cluster.run({
        let kubeconfig = cluster.kubeconfig();
        async move || {
            let admin = testing::cluster::client(&kubeconfig).await;
            namespace(&admin, "unstreamed", &[]).await;
            service_account(&admin, "unstreamed", "app", &[(ROLE, &arn("app"))]).await;
            let fixture = Fixture::with(&kubeconfig, &["--service-account-read=cache"]).await;
            fixture.is_ready().await;
            assert_eq!(fixture.role("unstreamed", "app").await, fresh("app"));
            let lines = testing::logs::lines_with(&["WARN", "listed in pages", "sendInitialEvents"]);
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
fn while_the_api_server_is_slow_pods_without_a_role_cause_no_warning_and_one_log_line() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let (gate, directory) = (Gate::open().await, tempfile::tempdir().unwrap());
        let kubeconfig = gate.kubeconfig(&cluster.kubeconfig(), directory.path());
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags = ["--service-account-read=fresh", "--kube-api=", &kubeconfig];
        let webhook = Webhook::start(&flags).await;
        eventually("it is ready", async || (webhook.admin("/readyz").await.status == 200).then_some(()))
            .await;
        gate.is(State::Stopped);
        let mut slow = pod("nobody");
        slow["metadata"]["generateName"] = json!("slow-api-server-");
        let reviews = (0..8).map(|_| webhook.review("/mutate", &slow));
        for decision in futures_util::future::join_all(reviews).await {
            assert!(decision.allowed && decision.paths.is_empty(), "{decision:?}");
            assert_eq!(decision.warnings, [""; 0]);
        }
        let missed = r#"pod_identity_webhook_missed_total{reason="not_fresh"}"#;
        assert_eq!(webhook.metric(missed).await, Some(0.0));
        let counted = r#"pod_identity_webhook_not_fresh_total{outcome="no_role"}"#;
        assert_eq!(webhook.metric(counted).await, Some(8.0));
        let lines = testing::logs::lines_with(&["WARN", "slow-api-server-"]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        // A pod that must be injected is refused: a moment may be too old for it.
        let refused = webhook.review("/mutate/require", &slow).await;
        assert!(!refused.allowed && refused.message.contains("within a second"), "{refused:?}");
        assert_eq!(webhook.admin("/readyz").await.status, 200);
    });
}

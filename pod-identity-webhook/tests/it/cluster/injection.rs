//! Who is injected, and who is kept out.

use k8s_openapi::api::core::v1::{Namespace, Pod, ProjectedVolumeSource, Volume};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply_object, service_account};
use testing::eventually::eventually;

use super::installation::{Installation, Plan};
use super::pods::{self, FULL_URI, ROLE_ARN, create, create_dry, is_injected, pod, variable};
use super::sidecar;

pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/cart";
pub(crate) const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";
const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";

fn volume<'a>(pod: &'a Pod, name: &str) -> &'a Volume {
    pod.spec.as_ref().unwrap().volumes.iter().flatten().find(|volume| volume.name == name).unwrap()
}

fn token(projected: &ProjectedVolumeSource) -> (Option<&str>, Option<i64>) {
    let source = &projected.sources.as_ref().unwrap()[0];
    let token = source.service_account_token.as_ref().unwrap();
    (token.audience.as_deref(), token.expiration_seconds)
}

#[test]
fn a_stored_pod_has_its_accounts_role() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let installed = Installation::start(cluster, Plan::new("role")).await;
        let namespace = installed.namespace("shop", &[]).await;
        let annotations = [(ROLE_ANNOTATION, ROLE), ("eks.amazonaws.com/token-expiration", "4000")];
        service_account(&installed.client, &namespace, "cart", &annotations).await;
        let mut from_a_replica_set = pod("", "cart");
        from_a_replica_set["metadata"] = json!({"generateName": "cart-5d8f-"});
        for pod in [pod("cart", "cart"), from_a_replica_set] {
            let pod = create(&installed.client, &namespace, pod).await.unwrap();
            assert!(is_injected(&pod), "{pod:?}");
            assert_eq!(variable(&pod, ROLE_ARN), Some(ROLE));
            assert_eq!(variable(&pod, FULL_URI), None);
            let projected = volume(&pod, "aws-iam-token").projected.as_ref().unwrap();
            assert_eq!(token(projected), (Some("sts.amazonaws.com"), Some(4000)));
        }
        let without = create(&installed.client, &namespace, pod("other", "default")).await.unwrap();
        assert!(!is_injected(&without), "{without:?}");
    });
}

#[test]
fn a_namespace_can_have_all_its_pods_injected() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let installed = Installation::start(cluster, Plan::new("inject")).await;
        let namespace = installed.namespace("shop", &[("podidentity.dev/inject", "enabled")]).await;
        let pod = create(&installed.client, &namespace, pod("cart", "default")).await.unwrap();
        assert!(is_injected(&pod), "{pod:?}");
        assert_eq!(variable(&pod, FULL_URI), Some("http://169.254.170.23/v1/credentials"));
        assert_eq!(pod.metadata.labels.unwrap()["eks.amazonaws.com/pod-identity"], "enabled");
    });
}

#[test]
fn pods_of_kube_system_are_injected_and_start_while_no_webhook_answers_whatever_they_require() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let mut installed = Installation::start(cluster, Plan::new("system")).await;
        let mut label = installed.label();
        label["podidentity.dev/require"] = json!("true");
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "labels": label},
        });
        apply_object(&installed.client, &namespace).await;
        service_account(&installed.client, "kube-system", "ebs-csi-controller", &[(ROLE_ANNOTATION, ROLE)])
            .await;
        service_account(&installed.client, "kube-system", "default", &[]).await;
        // The API server sees labels of namespaces by watch.
        eventually("kube-system has its label", async || {
            let pod = create_dry(&installed.client, "kube-system", pod("csi", "ebs-csi-controller")).await;
            is_injected(&pod.unwrap()).then_some(())
        })
        .await;
        let requiring = |name: &str, account: &str| {
            let mut pod = pod(name, account);
            pod["metadata"]["labels"] = json!({"podidentity.dev/require": "true"});
            pod
        };
        let client = &installed.client;
        for pod in [pod("csi", "ebs-csi-controller"), requiring("csi-requiring", "ebs-csi-controller")] {
            let pod = create(client, "kube-system", pod).await.unwrap();
            assert!(is_injected(&pod), "{pod:?}");
        }
        let refused = create(client, "kube-system", requiring("without", "default")).await.unwrap_err();
        assert_eq!(code(&refused), 403, "{refused}");
        let before = installed.reviews().await;
        let mut skipping = pod("csi-skipping", "ebs-csi-controller");
        skipping["metadata"]["labels"] = json!({SKIP: "true"});
        let pod_without = create(client, "kube-system", skipping.clone()).await.unwrap();
        assert!(!is_injected(&pod_without), "{pod_without:?}");
        assert_eq!(installed.reviews().await, before);
        skipping["metadata"]["name"] = json!("csi-skipping-and-requiring");
        skipping["metadata"]["labels"]["podidentity.dev/require"] = json!("true");
        let pod_with = create(client, "kube-system", skipping).await.unwrap();
        assert!(is_injected(&pod_with), "{pod_with:?}");
        assert_eq!(installed.reviews().await, before + 1.0, "one review for a pod");

        installed.replicas.clear();
        let client = &installed.client;
        for pod in [pod("cni", "default"), requiring("cni-requiring", "ebs-csi-controller")] {
            let pod = create(client, "kube-system", pod).await.unwrap();
            assert!(!is_injected(&pod), "nobody was there: {pod:?}");
        }
    });
}

#[test]
fn pods_of_the_webhooks_own_namespace_are_never_reviewed_and_start_while_no_webhook_answers() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let mut installed = Installation::start(cluster, Plan::new("own")).await;
        let mut labels = installed.label();
        labels["podidentity.dev/require"] = json!("true");
        labels["podidentity.dev/inject"] = json!("enabled");
        let namespaces: Api<Namespace> = Api::all(installed.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        let own = installed.own_namespace();
        namespaces.patch(&own, &PatchParams::default(), &patch).await.unwrap();
        service_account(&installed.client, &own, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        let restricted = |name: &str, labels: Value| {
            let mut pod = pod(name, "cart");
            pod["metadata"]["labels"] = labels;
            pod["spec"]["securityContext"] =
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
            pod["spec"]["containers"][0]["securityContext"] =
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
            pod
        };
        let requires = || json!({"podidentity.dev/require": "true"});
        let before = installed.reviews().await;
        for (name, labels) in [("plain", json!({})), ("requiring", requires())] {
            let pod = create(&installed.client, &own, restricted(name, labels)).await.unwrap();
            assert!(!is_injected(&pod), "{pod:?}");
        }
        assert_eq!(installed.reviews().await, before);
        // The same labels are effective in another namespace: the API server has seen them.
        let other = [("podidentity.dev/require", "true"), ("podidentity.dev/inject", "enabled")];
        let other = installed.namespace("other", &other).await;
        service_account(&installed.client, &other, "cart", &[]).await;
        assert!(is_injected(&create(&installed.client, &other, pod("plain", "cart")).await.unwrap()));

        installed.replicas.clear();
        for (name, labels) in [("down", json!({})), ("down-requiring", requires())] {
            create(&installed.client, &own, restricted(name, labels)).await.unwrap();
        }
        let refused = create(&installed.client, &other, pod("down", "cart")).await.unwrap_err();
        assert!(refused.to_string().contains("failed calling webhook"), "{refused}");
    });
}

#[test]
fn a_pod_that_skips_is_not_asked_about_unless_it_requires() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let installed = Installation::start(cluster, Plan::new("skip")).await;
        let namespace = installed.namespace("shop", &[]).await;
        service_account(&installed.client, &namespace, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        let before = installed.reviews().await;
        let mut skipping = pod("skipping", "cart");
        skipping["metadata"]["labels"] = json!({"eks.amazonaws.com/skip-pod-identity-webhook": "true"});
        let pod = create(&installed.client, &namespace, skipping.clone()).await.unwrap();
        assert!(!is_injected(&pod), "{pod:?}");
        assert_eq!(installed.reviews().await, before);

        skipping["metadata"]["name"] = json!("requiring");
        skipping["metadata"]["labels"]["podidentity.dev/require"] = json!("true");
        let pod = create(&installed.client, &namespace, skipping).await.unwrap();
        assert!(is_injected(&pod), "{pod:?}");
        assert_eq!(installed.reviews().await, before + 1.0, "one review for a pod");
    });
}

#[test]
fn a_pod_that_requires_credentials_is_kept_out_where_it_would_have_none() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let mut installed = Installation::start(cluster, Plan::new("require")).await;
        let namespace = installed.namespace("shop", &[]).await;
        let strict = installed.namespace("strict", &[("podidentity.dev/require", "true")]).await;
        let client = installed.client.clone();
        for namespace in [&namespace, &strict] {
            service_account(&client, namespace, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        }
        let requiring = |name: &str, account: &str| {
            let mut pod = pod(name, account);
            pod["metadata"]["labels"] = json!({"podidentity.dev/require": "true"});
            pod
        };
        assert!(is_injected(&create(&client, &namespace, requiring("with", "cart")).await.unwrap()));
        assert!(is_injected(&create(&client, &strict, pod("with", "cart")).await.unwrap()));
        let refused = create(&client, &namespace, requiring("without", "default")).await.unwrap_err();
        assert_eq!(code(&refused), 403, "{refused}");
        assert!(refused.to_string().contains("podidentity.dev/require"), "{refused}");
        // A namespace that requires has pods as well that need no role.
        create(&client, &strict, pod("without", "default")).await.unwrap();

        installed.replicas.clear();
        for (namespace, pod) in [(&namespace, requiring("down", "cart")), (&strict, pod("down", "cart"))] {
            let refused = create(&client, namespace, pod).await.unwrap_err();
            assert!(refused.to_string().contains("failed calling webhook"), "{refused}");
        }
        let pod = create(&client, &namespace, pod("down", "cart")).await.unwrap();
        assert!(!is_injected(&pod), "nobody was there: {pod:?}");
    });
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[test]
fn a_dry_run_shows_the_pod_and_leaves_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let installed = Installation::start(cluster, Plan::new("dry")).await;
        let namespace = installed.namespace("shop", &[]).await;
        service_account(&installed.client, &namespace, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        let pod = create_dry(&installed.client, &namespace, pod("cart", "cart")).await.unwrap();
        assert!(is_injected(&pod), "{pod:?}");
        let pods: Api<Pod> = Api::namespaced(installed.client.clone(), &namespace);
        assert!(pods.get_opt("cart").await.unwrap().is_none());
    });
}

#[test]
fn a_container_that_another_webhook_adds_later_is_injected_too() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let installed = Installation::start(cluster, Plan::new("second")).await;
        let namespace = installed.namespace("shop", &[]).await;
        service_account(&installed.client, &namespace, "cart", &[(ROLE_ANNOTATION, ROLE)]).await;
        sidecar::serve(&installed.client, "zz.sidecar.example.com", &namespace).await;
        eventually("the API server asks the other webhook", async || {
            let pod = create_dry(&installed.client, &namespace, pod("cart", "default")).await.unwrap();
            (pods::containers(&pod).len() == 2).then_some(())
        })
        .await;
        let before = installed.reviews().await;
        let pod = create(&installed.client, &namespace, pod("cart", "cart")).await.unwrap();
        assert_eq!(pods::containers(&pod).iter().map(|one| &one.name).collect::<Vec<_>>(), ["app", "proxy"]);
        assert!(is_injected(&pod), "{pod:?}");
        assert_eq!(installed.reviews().await, before + 2.0, "once before the other webhook and once after");
        for container in pods::containers(&pod) {
            let names: Vec<_> =
                container.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
            assert_eq!(names.iter().filter(|&&name| name == ROLE_ARN).count(), 1, "{names:?}");
        }
        let volumes = pod.spec.unwrap().volumes.unwrap();
        assert_eq!(volumes.iter().filter(|volume| volume.name == "aws-iam-token").count(), 1);
    });
}

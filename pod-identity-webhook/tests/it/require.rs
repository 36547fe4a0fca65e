//! Pods that are refused because they require injection and cannot get it.

use serde_json::{Value, json};

use crate::webhook::{Webhook, pod};

/// Returns a changed pod with these labels.
fn labelled(service_account: &str, labels: &[&str], change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod(service_account);
    for label in labels {
        let (key, value) = label.split_once('=').unwrap();
        pod["metadata"]["labels"][key] = json!(value);
    }
    change(&mut pod);
    pod
}

const REQUIRE: &str = "podidentity.dev/require=true";
const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook=true";

fn own_variable(pod: &mut Value) {
    pod["spec"]["containers"][0]["env"] =
        json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://localhost/"}]);
}

fn skipped_container(pod: &mut Value) {
    pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] = json!("app");
}

fn unreadable(pod: &mut Value) {
    pod["spec"]["containers"] = json!("none");
}

fn mirror(pod: &mut Value) {
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
}

/// Configures Pod Identity completely, with a volume name other than the webhook's and a token for `audience`.
fn configure(pod: &mut Value, audience: &str) {
    let token = json!({"audience": audience, "path": "token"});
    pod["spec"]["volumes"] =
        json!([{"name": "mine", "projected": {"sources": [{"serviceAccountToken": token}]}}]);
    let path = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "mine", "mountPath": path, "readOnly": true}]);
    container["env"] = json!([
        {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
        {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": format!("{path}/token")},
    ]);
    // With the webhook's own file in the same volume, nothing is left to add.
    let mut usual = pod["spec"]["volumes"][0]["projected"]["sources"][0].clone();
    usual["serviceAccountToken"]["path"] = json!("eks-pod-identity-token");
    pod["spec"]["volumes"][0]["projected"]["sources"].as_array_mut().unwrap().push(usual);
}

fn already_configured(pod: &mut Value) {
    configure(pod, "pods.eks.amazonaws.com");
}

fn configured_for_another_audience(pod: &mut Value) {
    configure(pod, "vault");
}

fn unchanged(_: &mut Value) {}

#[tokio::test]
async fn refuses_only_pods_that_require_injection_and_cannot_get_it() {
    /// The expected decision about a pod.
    #[derive(Debug)]
    enum Expected {
        Injected,
        Unchanged,
        /// With this reason, and a message that contains this text.
        Refused(&'static str, &'static str),
    }
    use Expected::{Injected, Refused, Unchanged};

    let webhook = Webhook::start(&[]).await;
    let own = "sets AWS_CONTAINER_CREDENTIALS_FULL_URI itself";
    type Change = fn(&mut Value);
    let cases: [(&str, &str, &[&str], Change, Expected); 22] = [
        ("/mutate", "cart", &[REQUIRE], unchanged, Injected),
        ("/mutate", "cart", &[REQUIRE, SKIP], unchanged, Injected),
        ("/mutate", "cart", &[SKIP], unchanged, Unchanged),
        ("/mutate", "pay", &[REQUIRE], unchanged, Refused("no_role", "annotate it with a role")),
        ("/mutate", "pay", &[REQUIRE, "podidentity.dev/inject=enabled"], unchanged, Injected),
        ("/mutate", "pay", &["podidentity.dev/require=yes"], unchanged, Unchanged),
        ("/mutate", "cart", &[REQUIRE], own_variable, Refused("own_variables", own)),
        ("/mutate", "cart", &[], own_variable, Unchanged),
        ("/mutate", "cart", &[REQUIRE], skipped_container, Unchanged),
        ("/mutate", "cart", &[REQUIRE], already_configured, Unchanged),
        ("/mutate/require", "cart", &[], already_configured, Unchanged),
        (
            "/mutate/require",
            "cart",
            &[],
            configured_for_another_audience,
            Refused("own_variables", "TOKEN_FILE itself"),
        ),
        ("/mutate", "cart", &[], configured_for_another_audience, Unchanged),
        ("/mutate", "cart", &[REQUIRE], mirror, Unchanged),
        ("/mutate", "cart", &[REQUIRE], unreadable, Refused("unreadable", "cannot be read")),
        ("/mutate", "cart", &[], unreadable, Unchanged),
        ("/mutate/require", "cart", &[SKIP], unchanged, Injected),
        ("/mutate/require", "pay", &[], unchanged, Unchanged),
        (
            "/mutate/require",
            "pay",
            &[REQUIRE],
            unchanged,
            Refused("no_role", "because the pod has the label"),
        ),
        (
            "/mutate/require",
            "cart",
            &[],
            own_variable,
            Refused("own_variables", "because the namespace has the label"),
        ),
        (
            "/mutate/require",
            "cart",
            &[],
            unreadable,
            Refused("unreadable", "because the namespace has the label"),
        ),
        ("/mutate/inject/require", "pay", &[], unchanged, Injected),
    ];
    for (path, service_account, labels, change, expected) in cases {
        let case = format!("{path} {service_account} {labels:?} {expected:?}");
        let refused = async |reason: &str| {
            let name = format!("pod_identity_webhook_refused_total{{reason=\"{reason}\"}}");
            webhook.metric(&name).await.unwrap_or_default()
        };
        let before = match &expected {
            Refused(reason, _) => refused(reason).await,
            Injected | Unchanged => 0.0,
        };
        let decision = webhook.review(path, &labelled(service_account, labels, change)).await;
        match expected {
            Injected => assert!(decision.allowed && !decision.paths.is_empty(), "{case}: {decision:?}"),
            Unchanged => assert!(decision.allowed && decision.paths.is_empty(), "{case}: {decision:?}"),
            Refused(reason, text) => {
                assert!(!decision.allowed && decision.paths.is_empty(), "{case}: {decision:?}");
                assert!(decision.message.contains(text), "{case}: {}", decision.message);
                assert!(decision.message.contains(REQUIRE), "{case}: {}", decision.message);
                let fix = match reason {
                    "no_role" => "annotate it with a role",
                    "own_variables" => "remove the variables",
                    _ => "use a version of pod-identity-webhook",
                };
                assert!(decision.message.contains(fix), "{case}: {}", decision.message);
                assert!(
                    decision.message.contains("The pod is refused because"),
                    "{case}: {}",
                    decision.message
                );
                assert_eq!(refused(reason).await, before + 1.0, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn refuses_required_pods_while_data_may_be_outdated() {
    let webhook = Webhook::start(&[]).await;
    std::fs::write(webhook.pod_identity_file(), "").unwrap();
    // All other pods are decided by the file's last usable content.
    let decision = webhook.review("/mutate", &pod("cart")).await;
    assert!(decision.allowed && !decision.paths.is_empty(), "{decision:?}");
    for (path, labels) in [("/mutate", &[REQUIRE][..]), ("/mutate/require", &[])] {
        for service_account in ["cart", "pay"] {
            let decision = webhook.review(path, &labelled(service_account, labels, unchanged)).await;
            assert!(!decision.allowed, "{path} {service_account}");
            assert!(decision.message.contains("identities.json"), "{}", decision.message);
            assert!(decision.message.contains("correct the file"), "{}", decision.message);
        }
    }
    // These need no lookup.
    for (path, labels) in
        [("/mutate", &[REQUIRE, "podidentity.dev/inject=enabled"][..]), ("/mutate/inject/require", &[])]
    {
        let decision = webhook.review(path, &labelled("pay", labels, unchanged)).await;
        assert!(decision.allowed && !decision.paths.is_empty(), "{path}: {decision:?}");
    }
    std::fs::write(webhook.pod_identity_file(), r#"{"identities": []}"#).unwrap();
    let decision = webhook.review("/mutate/require", &pod("cart")).await;
    assert!(decision.allowed && decision.paths.is_empty(), "{decision:?}");
}

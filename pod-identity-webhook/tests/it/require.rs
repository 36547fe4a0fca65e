//! Who is kept out rather than let in without credentials.

use serde_json::{Value, json};

use crate::webhook::{Webhook, pod};

/// A pod with these labels, and other changes.
fn labelled(account: &str, labels: &[&str], change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod(account);
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

/// A complete Pod Identity configuration with a volume name other than this webhook's, and a token for `audience`.
fn by_hand(pod: &mut Value, audience: &str) {
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
    // The usual file, in the same volume: nothing is left to add.
    let mut usual = pod["spec"]["volumes"][0]["projected"]["sources"][0].clone();
    usual["serviceAccountToken"]["path"] = json!("eks-pod-identity-token");
    pod["spec"]["volumes"][0]["projected"]["sources"].as_array_mut().unwrap().push(usual);
}

fn complete_by_hand(pod: &mut Value) {
    by_hand(pod, "pods.eks.amazonaws.com");
}

fn by_hand_for_another_audience(pod: &mut Value) {
    by_hand(pod, "vault");
}

fn nothing(_: &mut Value) {}

#[tokio::test]
async fn who_requires_credentials_is_kept_out_without_and_nobody_else_ever_is() {
    /// What becomes of a pod: injected, let in without, or kept out with these words.
    #[derive(Debug)]
    enum Becomes {
        Injected,
        LetIn,
        KeptOut(&'static str, &'static str),
    }
    use Becomes::{Injected, KeptOut, LetIn};

    let webhook = Webhook::start(&[]).await;
    let own = "sets AWS_CONTAINER_CREDENTIALS_FULL_URI itself";
    type Change = fn(&mut Value);
    let cases: [(&str, &str, &[&str], Change, Becomes); 22] = [
        ("/mutate", "cart", &[REQUIRE], nothing, Injected),
        ("/mutate", "cart", &[REQUIRE, SKIP], nothing, Injected),
        ("/mutate", "cart", &[SKIP], nothing, LetIn),
        ("/mutate", "pay", &[REQUIRE], nothing, KeptOut("no_role", "annotate the account")),
        ("/mutate", "pay", &[REQUIRE, "podidentity.dev/inject=enabled"], nothing, Injected),
        ("/mutate", "pay", &["podidentity.dev/require=yes"], nothing, LetIn),
        ("/mutate", "cart", &[REQUIRE], own_variable, KeptOut("own_variables", own)),
        ("/mutate", "cart", &[], own_variable, LetIn),
        ("/mutate", "cart", &[REQUIRE], skipped_container, LetIn),
        ("/mutate", "cart", &[REQUIRE], complete_by_hand, LetIn),
        ("/mutate/require", "cart", &[], complete_by_hand, LetIn),
        (
            "/mutate/require",
            "cart",
            &[],
            by_hand_for_another_audience,
            KeptOut("own_variables", "TOKEN_FILE itself"),
        ),
        ("/mutate", "cart", &[], by_hand_for_another_audience, LetIn),
        ("/mutate", "cart", &[REQUIRE], mirror, LetIn),
        ("/mutate", "cart", &[REQUIRE], unreadable, KeptOut("unreadable", "cannot be read")),
        ("/mutate", "cart", &[], unreadable, LetIn),
        ("/mutate/require", "cart", &[SKIP], nothing, Injected),
        ("/mutate/require", "pay", &[], nothing, LetIn),
        ("/mutate/require", "pay", &[REQUIRE], nothing, KeptOut("no_role", "=true of the pod")),
        ("/mutate/require", "cart", &[], own_variable, KeptOut("own_variables", "=true of its namespace")),
        ("/mutate/require", "cart", &[], unreadable, KeptOut("unreadable", "=true of its namespace")),
        ("/mutate/inject/require", "pay", &[], nothing, Injected),
    ];
    for (path, account, labels, change, becomes) in cases {
        let what = format!("{path} {account} {labels:?} {becomes:?}");
        let refused = async |reason: &str| {
            let name = format!("pod_identity_webhook_refused_total{{reason=\"{reason}\"}}");
            webhook.metric(&name).await.unwrap_or_default()
        };
        let before = match &becomes {
            KeptOut(reason, _) => refused(reason).await,
            Injected | LetIn => 0.0,
        };
        let decision = webhook.review(path, &labelled(account, labels, change)).await;
        match becomes {
            Injected => assert!(decision.allowed && !decision.paths.is_empty(), "{what}: {decision:?}"),
            LetIn => assert!(decision.allowed && decision.paths.is_empty(), "{what}: {decision:?}"),
            KeptOut(reason, words) => {
                assert!(!decision.allowed && decision.paths.is_empty(), "{what}: {decision:?}");
                assert!(decision.message.contains(words), "{what}: {}", decision.message);
                assert!(decision.message.contains(REQUIRE), "{what}: {}", decision.message);
                assert!(decision.message.contains("To mend it"), "{what}: {}", decision.message);
                assert_eq!(refused(reason).await, before + 1.0, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn where_what_is_known_may_be_old_who_requires_credentials_is_kept_out() {
    let webhook = Webhook::start(&[]).await;
    std::fs::write(webhook.identities(), "").unwrap();
    // By what was known before, all others are let in.
    let decision = webhook.review("/mutate", &pod("cart")).await;
    assert!(decision.allowed && !decision.paths.is_empty(), "{decision:?}");
    for (path, labels) in [("/mutate", &[REQUIRE][..]), ("/mutate/require", &[])] {
        for account in ["cart", "pay"] {
            let decision = webhook.review(path, &labelled(account, labels, nothing)).await;
            assert!(!decision.allowed, "{path} {account}");
            assert!(decision.message.contains("identities.json"), "{}", decision.message);
            assert!(decision.message.contains("mend the file"), "{}", decision.message);
        }
    }
    // Nothing has to be known of these.
    for (path, labels) in
        [("/mutate", &[REQUIRE, "podidentity.dev/inject=enabled"][..]), ("/mutate/inject/require", &[])]
    {
        let decision = webhook.review(path, &labelled("pay", labels, nothing)).await;
        assert!(decision.allowed && !decision.paths.is_empty(), "{path}: {decision:?}");
    }
    std::fs::write(webhook.identities(), r#"{"identities": []}"#).unwrap();
    let decision = webhook.review("/mutate/require", &pod("cart")).await;
    assert!(decision.allowed && decision.paths.is_empty(), "{decision:?}");
}

//! The manifests of `deploy/webhook`: which pods are asked about, and that names which belong together agree.

use serde_json::Value;
use testing::cluster::documents;

const REQUIRE: &str = "podidentity.dev/require";
const INJECT: &str = "podidentity.dev/inject";
const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";

fn read(name: &str) -> String {
    let path = format!("{}/../deploy/webhook/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Whether labels are selected (`k8s.io/apimachinery`, `LabelSelectorAsSelector`), by the operators that are used.
fn selects(selector: &Value, labels: &[(&str, &str)]) -> bool {
    selector["matchExpressions"].as_array().unwrap().iter().all(|expression| {
        let key = expression["key"].as_str().unwrap();
        let value = labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let listed = || expression["values"].as_array().unwrap().iter().any(|one| one.as_str() == value);
        match expression["operator"].as_str().unwrap() {
            "In" => value.is_some() && listed(),
            "NotIn" => value.is_none() || !listed(),
            "DoesNotExist" => value.is_none(),
            other => panic!("{other}"),
        }
    })
}

#[test]
fn one_entry_reviews_a_pod_and_none_fails_in_kube_system_or_the_webhooks_namespace() {
    let configuration = documents(&read("webhook")).remove(0);
    let entries = configuration["webhooks"].as_array().unwrap();
    let mut cases = 0;
    for namespace_name in ["shop", "kube-public", "kube-system", "pod-identity"] {
        for (namespace_require, namespace_inject) in
            [("", ""), ("true", ""), ("", "enabled"), ("true", "enabled"), ("false", "disabled")]
        {
            for (pod_require, skip) in [
                (None, false),
                (Some("true"), false),
                (Some("no"), false),
                (None, true),
                (Some("true"), true),
                (Some("no"), true),
            ] {
                let namespace = [
                    ("kubernetes.io/metadata.name", namespace_name),
                    (REQUIRE, namespace_require),
                    (INJECT, namespace_inject),
                ];
                let pod: Vec<_> = pod_require
                    .map(|value| (REQUIRE, value))
                    .into_iter()
                    .chain(skip.then_some((SKIP, "true")))
                    .collect();
                let asked: Vec<_> = entries
                    .iter()
                    .filter(|entry| selects(&entry["namespaceSelector"], &namespace))
                    .filter(|entry| selects(&entry["objectSelector"], &pod))
                    .map(|entry| {
                        let text = |value: &Value| value.as_str().unwrap().to_owned();
                        (text(&entry["failurePolicy"]), text(&entry["clientConfig"]["service"]["path"]))
                    })
                    .collect();
                // What the nodes and the webhook need to start is admitted while the webhook does not answer.
                let exempt = ["kube-system", "pod-identity"].contains(&namespace_name);
                let by_pod = pod_require == Some("true");
                let by_namespace = !exempt && namespace_require == "true";
                let inject = if namespace_inject == "enabled" { "/inject" } else { "" };
                let require = if by_namespace && !by_pod { "/require" } else { "" };
                let policy = if !exempt && (by_pod || by_namespace) { "Fail" } else { "Ignore" };
                let expected = if skip && !by_pod && !by_namespace {
                    vec![]
                } else {
                    vec![(policy.to_owned(), format!("/mutate{inject}{require}"))]
                };
                assert_eq!(asked, expected, "{namespace:?} {pod:?}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 120);
}

#[test]
fn what_belongs_together_has_one_name() {
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let namespace = text(&documents(&read("namespace"))[0], "/metadata/name");
    let deployment = documents(&read("deployment")).remove(0);
    let pod = &deployment["spec"]["template"];
    // Nobody could answer for the first of its own pods.
    assert_eq!(text(pod, "/metadata/labels/eks.amazonaws.com~1skip-pod-identity-webhook"), "true");
    let account = text(pod, "/spec/serviceAccountName");
    let flow = documents(&read("priority")).remove(1);
    assert_eq!(text(&flow, "/spec/rules/0/subjects/0/serviceAccount/namespace"), namespace);
    assert_eq!(text(&flow, "/spec/rules/0/subjects/0/serviceAccount/name"), account);
    for manifests in ["rbac", "reports"] {
        for object in documents(&read(manifests)) {
            for subject in object["subjects"].as_array().into_iter().flatten() {
                assert_eq!(
                    (text(subject, "/namespace"), text(subject, "/name")),
                    (namespace.clone(), account.clone())
                );
            }
        }
    }
    let configuration = documents(&read("webhook")).remove(0);
    let service = text(&documents(&read("service"))[0], "/metadata/name");
    for entry in configuration["webhooks"].as_array().unwrap() {
        assert_eq!(text(entry, "/clientConfig/service/namespace"), namespace);
        assert_eq!(text(entry, "/clientConfig/service/name"), service);
    }
    let arguments = pod["spec"]["containers"][0]["args"].to_string();
    for argument in [
        format!("--webhook-configuration={}", text(&configuration, "/metadata/name")),
        format!("--service-name={service}"),
    ] {
        assert!(arguments.contains(&argument), "{arguments} has no {argument}");
    }
}

#[test]
fn reads_of_each_namespace_queue_by_themselves() {
    let flow = documents(&read("priority")).remove(1);
    assert_eq!(flow["kind"], "FlowSchema");
    assert_eq!(flow["spec"]["distinguisherMethod"]["type"], "ByNamespace");
}

#[test]
fn pods_of_the_webhook_run_on_linux_nodes() {
    let deployment = documents(&read("deployment")).remove(0);
    assert_eq!(deployment["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/os"], "linux");
}

#[test]
fn no_right_to_write_events_comes_without_the_reconciler() {
    let may_write_events = |manifest: &str| {
        let objects = documents(&read(manifest));
        let mut rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
        rules.any(|rule| rule["resources"].as_array().is_some_and(|all| all.contains(&"events".into())))
    };
    assert!(may_write_events("reports") && !may_write_events("rbac"));
}

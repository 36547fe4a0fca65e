//! The manifests of `deploy/webhook`: which pods are asked about, and that names which belong together agree.

use serde_json::Value;
use testing::cluster::documents;

const REQUIRE: &str = "podidentity.dev/require";
const INJECT: &str = "podidentity.dev/inject";
const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// The one match condition that is used (CEL). The API server evaluates it in `cluster/injection.rs`.
const NOT_SKIPPED: &str = "!('eks.amazonaws.com/skip-pod-identity-webhook' in object.metadata.?labels.orValue({})) || \
     object.metadata.?labels[?'podidentity.dev/require'].orValue('') == 'true'";

fn read(name: &str) -> String {
    let path = format!("{}/../deploy/webhook/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Whether labels are selected (`k8s.io/apimachinery`, `LabelSelectorAsSelector`), by the operators that are used.
fn selects(selector: &Value, labels: &[(&str, &str)]) -> bool {
    selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
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

/// Whether a pod with these labels meets the match conditions of an entry.
fn meets_conditions(entry: &Value, labels: &[(&str, &str)]) -> bool {
    let has = |label| labels.contains(&label);
    entry["matchConditions"].as_array().into_iter().flatten().all(|condition| {
        assert_eq!(condition["expression"].as_str(), Some(NOT_SKIPPED));
        !has((SKIP, "true")) || has((REQUIRE, "true"))
    })
}

#[test]
fn one_entry_reviews_a_pod_none_fails_in_kube_system_and_none_reviews_the_webhooks_namespace() {
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
                    .filter(|entry| selects(&entry["objectSelector"], &pod) && meets_conditions(entry, &pod))
                    .map(|entry| {
                        let text = |value: &Value| value.as_str().unwrap().to_owned();
                        (text(&entry["failurePolicy"]), text(&entry["clientConfig"]["service"]["path"]))
                    })
                    .collect();
                // What nodes need to start is admitted while the webhook does not answer.
                let exempt = namespace_name == "kube-system";
                let by_pod = pod_require == Some("true");
                let by_namespace = !exempt && namespace_require == "true";
                let inject = if namespace_inject == "enabled" { "/inject" } else { "" };
                let require = if by_namespace && !by_pod { "/require" } else { "" };
                let policy = if !exempt && (by_pod || by_namespace) { "Fail" } else { "Ignore" };
                let skipped = skip && !by_pod && !by_namespace;
                let expected = if namespace_name == "pod-identity" || skipped {
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
    for (manifests, account) in [("rbac", &account), ("reports", &"pod-identity-webhook-report".to_owned())] {
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
fn pods_of_the_webhook_and_of_the_report_run_on_linux_nodes() {
    for manifests in ["deployment", "reports"] {
        let objects = documents(&read(manifests));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/os"], "linux");
    }
}

#[test]
fn the_report_has_one_replica_that_the_service_does_not_select_and_arguments_that_are_accepted() {
    let objects = documents(&read("reports"));
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    let pod = &deployment["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"], {
        let mut labels = deployment["spec"]["selector"]["matchLabels"].clone();
        labels["app.kubernetes.io/part-of"] = "pod-identity".into();
        labels
    });
    let service = documents(&read("service")).remove(0);
    let selected = service["spec"]["selector"].as_object().unwrap();
    assert!(selected.iter().any(|(label, value)| pod["metadata"]["labels"][label] != *value));
    let container = &pod["spec"]["containers"][0];
    let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let args = pod_identity_webhook::args::parse(std::iter::once("/webhook").chain(arguments)).unwrap();
    let interval = args.config().unwrap().report_interval;
    assert_eq!(interval, Some(std::time::Duration::from_secs(300)));
}

#[test]
fn the_webhook_has_no_right_to_write_events() {
    let may_write_events = |manifest: &str| {
        let objects = documents(&read(manifest));
        let mut rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
        rules.any(|rule| rule["resources"].as_array().is_some_and(|all| all.contains(&"events".into())))
    };
    assert!(may_write_events("reports") && !may_write_events("rbac"));
}

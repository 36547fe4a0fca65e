//! Admission reviews, and the patches of their responses.

use std::collections::BTreeMap;

use pod_identity_core::inject::{
    AdmissionReview, Injector, NamespaceSettings, Pod, ServiceAccountFacts, ServiceAccountSettings, Settings,
    Subject,
};
use serde_json::Value;

/// The input is a review. The patch of its pod applies and removes nothing, and a second review adds nothing. A pod
/// that is refused or skipped is unchanged.
pub fn admission(input: &[u8]) {
    let Ok(review) = AdmissionReview::parse(input) else { return };
    // A member that nobody reads is only skipped: it may hold bytes that are not UTF-8.
    let Ok(question) = serde_json::from_slice::<Value>(input) else { return };
    let answer: Value = serde_json::from_slice(&review.refuse("no")).expect("an answer is JSON");
    assert_eq!(answer["response"]["uid"], question["request"]["uid"]);
    let Subject::Pod(pod) = &review.subject else { return };
    let before = &question["request"]["object"];
    let settings = Settings { region: Some("eu-west-1".to_owned()), ..Settings::default() };
    let injector = Injector::new(settings);
    for facts in facts(injector.settings()) {
        let first = injector.inject(pod, &facts, review.random());
        let answer: Value = serde_json::from_slice(&review.allow(&first)).expect("an answer is JSON");
        assert_eq!(answer["response"]["uid"], question["request"]["uid"]);
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(answer["response"].get("patch").is_some(), !first.patch.is_empty());

        let patch: json_patch::Patch =
            serde_json::from_str(first.patch.as_json()).expect("it is a JSON patch");
        let mut after = before.clone();
        json_patch::patch(&mut after, &patch).expect("the patch applies");
        assert_kept(before, &after);
        let after = after.to_string();
        let pod = Pod::parse(&after).expect("the patched pod is a pod");
        let second = injector.inject(&pod, &facts, review.random().wrapping_add(1));
        assert!(second.patch.is_empty(), "a second review of {after} adds {:?}", second.patch);
        assert_eq!(second.methods, first.methods);
    }
}

/// Service accounts without a role, with one, with Pod Identity, and with all annotations.
fn facts(settings: &Settings) -> Vec<ServiceAccountFacts> {
    let from = |annotations: &[(&str, &str)]| {
        let annotations: BTreeMap<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ServiceAccountSettings::from_annotations(&annotations, settings)
    };
    let role = ("eks.amazonaws.com/role-arn", "arn:aws:iam::111122223333:role/app");
    vec![
        ServiceAccountFacts {
            namespace: NamespaceSettings { inject: true, require: false },
            ..ServiceAccountFacts::default()
        },
        ServiceAccountFacts { settings: from(&[role]), ..ServiceAccountFacts::default() },
        ServiceAccountFacts { associated: true, settings: from(&[role]), ..ServiceAccountFacts::default() },
        ServiceAccountFacts {
            settings: from(&[
                role,
                ("eks.amazonaws.com/sts-regional-endpoints", "true"),
                ("podidentity.dev/irsa-through-agent", "true"),
            ]),
            ..ServiceAccountFacts::default()
        },
    ]
}

/// Checks that no field was removed or changed. A null may have become a list or a map.
fn assert_kept(before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                assert_kept(value, after.get(name).unwrap_or_else(|| panic!("the patch removed {name}")));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert!(after.len() >= before.len(), "the patch made a list shorter");
            for (before, after) in before.iter().zip(after) {
                assert_kept(before, after);
            }
        }
        (Value::Null, Value::Array(_) | Value::Object(_)) => {}
        _ => assert_eq!(before, after, "the patch changed a value"),
    }
}

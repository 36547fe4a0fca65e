//! Any pod: what is added is exactly what should be, a second round adds nothing, and nothing panics.
//!
//! `PROPTEST_CASES=20000` looks at more pods.

use std::collections::BTreeMap;

use pod_identity_core::inject::{
    AdmissionReview, InjectionOutcome, Injector, NamespaceSettings, Pod, ServiceAccountFacts,
    ServiceAccountSettings, Settings,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::apply::apply;

/// All that may ever be added, by name.
const VARIABLES: [&str; 7] = [
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
];
const VOLUMES: [&str; 2] = ["eks-pod-identity-token", "aws-iam-token"];
const LABEL: &str = "eks.amazonaws.com/pod-identity";

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Keys, those among them that injection reads.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "metadata",
        "spec",
        "containers",
        "initContainers",
        "env",
        "envFrom",
        "volumeMounts",
        "volumes",
        "name",
        "value",
        "labels",
        "annotations",
        "projected",
        "sources",
        "nodeSelector",
        "os",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-z/~]{0,6}"]
}

/// Members that no version of the API knows.
fn unknown() -> impl Strategy<Value = BTreeMap<String, Value>> {
    prop::collection::btree_map("new[A-Z~/][a-z]{0,4}", any_json(), 0..3)
}

fn with(mut members: Map<String, Value>, more: BTreeMap<String, Value>) -> Value {
    members.extend(more);
    Value::Object(members)
}

/// An object with some of these members, and unknown ones.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| prop::option::weighted(0.7, value).prop_map(move |value| Some((name, value?))))
        .collect();
    (members, unknown())
        .prop_map(|(members, more)| {
            let members = members.into_iter().flatten().map(|(name, value)| (name.to_owned(), value));
            with(members.collect(), more)
        })
        .boxed()
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![9 => prop::collection::vec(item, 0..4).prop_map(Value::from), 1 => Just(Value::Null)].boxed()
}

fn text(known: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop_oneof![prop::sample::select(known).prop_map(Value::from), "[a-z$()]{0,6}".prop_map(Value::from)]
        .boxed()
}

fn container() -> BoxedStrategy<Value> {
    let variable = object(vec![
        (
            "name",
            text(&[
                "AWS_ROLE_ARN",
                "AWS_REGION",
                "AWS_ACCESS_KEY_ID",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "A",
            ]),
        ),
        ("value", text(&["http://169.254.170.23/v1/credentials"])),
    ]);
    let mount = object(vec![
        ("name", text(&VOLUMES)),
        ("mountPath", text(&["/var/run/secrets/eks.amazonaws.com/serviceaccount", "/data"])),
    ]);
    object(vec![
        ("name", text(&["app", "side"])),
        ("env", list(variable)),
        ("envFrom", list(object(vec![("prefix", text(&["AWS_"]))]))),
        ("volumeMounts", list(mount)),
    ])
}

fn texts(known: &'static [(&'static str, &'static str)]) -> BoxedStrategy<Value> {
    let entries = prop::sample::subsequence(known, 0..=known.len());
    entries
        .prop_map(|entries| entries.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
        .boxed()
}

fn pod() -> impl Strategy<Value = Value> {
    let annotations = texts(&[
        ("eks.amazonaws.com/skip-containers", "side"),
        ("eks.amazonaws.com/token-expiration", "3600"),
        ("podidentity.dev/role-arn.side", "arn:aws:iam::111122223333:role/side"),
        ("podidentity.dev/role-arn.app", "$(A)"),
        ("a", "b"),
    ]);
    let labels = texts(&[("podidentity.dev/inject", "enabled"), (LABEL, "mine"), ("a", "b")]);
    let token = json!({"name": "aws-iam-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "token"}}]}});
    let volume = prop_oneof![object(vec![("name", text(&["aws-iam-token", "data"]))]), Just(token)].boxed();
    let metadata = object(vec![("labels", labels), ("annotations", annotations)]);
    let spec = (
        object(vec![
            ("volumes", list(volume)),
            ("initContainers", list(container())),
            ("nodeSelector", texts(&[("kubernetes.io/os", "windows")])),
        ]),
        prop::collection::vec(container(), 0..4),
    )
        .prop_map(|(mut spec, containers)| {
            spec["containers"] = json!(containers);
            spec
        });
    (metadata, spec, unknown()).prop_map(|(metadata, spec, more)| {
        with([("metadata".to_owned(), metadata), ("spec".to_owned(), spec)].into_iter().collect(), more)
    })
}

fn facts() -> impl Strategy<Value = ServiceAccountFacts> {
    let annotations = prop::sample::subsequence(
        vec![
            ("eks.amazonaws.com/role-arn", "arn:aws:iam::111122223333:role/app"),
            ("eks.amazonaws.com/sts-regional-endpoints", "true"),
            ("podidentity.dev/irsa-through-agent", "true"),
        ],
        0..=3,
    );
    (any::<bool>(), annotations).prop_map(|(associated, annotations)| {
        let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = ServiceAccountSettings::from_annotations(&annotations.collect(), &settings());
        ServiceAccountFacts { associated, settings, namespace: NamespaceSettings::default() }
    })
}

fn injector() -> Injector {
    Injector::new(settings())
}

fn settings() -> Settings {
    Settings { region: Some("eu-west-1".to_owned()), ..Settings::default() }
}

/// Takes additions out again: from the end of a list what it did not have before, and a member that was not there.
fn take_back(list: &mut Value, before: Option<&Value>, is_ours: impl Fn(&str) -> bool) {
    let had = before.and_then(Value::as_array).map_or(0, Vec::len);
    let items = list.as_array_mut().unwrap();
    for added in items.drain(had..) {
        assert!(is_ours(added["name"].as_str().unwrap()), "{added} was added");
    }
}

/// The patched pod without what injection may add: it has to be the pod that there was.
fn without_additions(patched: &Value, before: &Value) -> Value {
    let mut pod = patched.clone();
    let restore = |object: &mut Value, before: &Value, member: &str| {
        // A list that is empty now may have been absent, or null.
        let same = object.get(member).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        if same && before.get(member).is_none_or(|value| !value.is_array()) {
            match before.get(member) {
                Some(value) => object[member] = value.clone(),
                None => drop(object.as_object_mut().unwrap().remove(member)),
            }
        }
    };
    let spec = &before["spec"];
    if pod["spec"].get("volumes").is_some_and(Value::is_array) {
        take_back(&mut pod["spec"]["volumes"], spec.get("volumes"), |name| VOLUMES.contains(&name));
        restore(&mut pod["spec"], spec, "volumes");
    }
    for list in ["containers", "initContainers"] {
        for (index, before) in spec.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let container = &mut pod["spec"][list][index];
            for (member, ours) in [("env", &VARIABLES[..]), ("volumeMounts", &VOLUMES)] {
                if container.get(member).is_some_and(Value::is_array) {
                    take_back(&mut container[member], before.get(member), |name| ours.contains(&name));
                    restore(container, before, member);
                }
            }
        }
    }
    let labels = &before["metadata"].get("labels");
    if labels.is_none_or(|labels| labels.get(LABEL).is_none())
        && let Some(now) = pod["metadata"].get_mut("labels")
    {
        now.as_object_mut().unwrap().remove(LABEL);
        if labels.is_none() {
            assert_eq!(*now, json!({}));
            pod["metadata"].as_object_mut().unwrap().remove("labels");
        }
    }
    pod
}

/// Whether a container mounts a token, and has both variables of a way or those that it had before.
fn is_whole(now: &Value, before: &Value) -> bool {
    let has = |container: &Value, list: &str, name: &str| {
        container.get(list).and_then(Value::as_array).into_iter().flatten().any(|item| item["name"] == name)
    };
    let mounted = VOLUMES.iter().any(|volume| has(now, "volumeMounts", volume));
    let pairs = [&VARIABLES[..2], &VARIABLES[2..4]];
    let unchanged = |name: &&str| has(now, "env", name) == has(before, "env", name);
    mounted
        && pairs
            .iter()
            .all(|pair| pair.iter().all(unchanged) || pair.iter().all(|name| has(now, "env", name)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_difference_is_what_was_added_and_a_second_round_adds_nothing(
        before in pod(), facts in facts(), random: u32,
    ) {
        let json = before.to_string();
        let first = injector().inject(&Pod::parse(&json).unwrap(), &facts, random);
        let after = apply(&before, &first.patch);
        prop_assert_eq!(without_additions(&after, &before), before.clone());
        for list in ["containers", "initContainers"] {
            let of = |pod: &Value| pod["spec"].get(list).and_then(Value::as_array).cloned().unwrap_or_default();
            for (now, then) in of(&after).iter().zip(of(&before)) {
                prop_assert!(*now == then || is_whole(now, &then), "half of a way: {now}");
            }
        }
        let again = injector().inject(&Pod::parse(&after.to_string()).unwrap(), &facts, random.wrapping_add(1));
        prop_assert!(again.patch.is_empty(), "{:?}", again.patch);
        prop_assert_eq!(again.methods, first.methods);
    }

    #[test]
    fn what_needs_no_account_is_the_same_for_every_account(
        before in pod(), facts in facts(), inject: bool, rounds in 0..2, random: u32,
    ) {
        let facts = ServiceAccountFacts { namespace: NamespaceSettings { inject, require: false }, ..facts };
        // Some have been injected before.
        let once = |pod: &Value| {
            apply(pod, &injector().inject(&Pod::parse(&pod.to_string()).unwrap(), &facts, 0).patch)
        };
        let json = (0..rounds).fold(before, |pod, _| once(&pod)).to_string();
        let pod = Pod::parse(&json).unwrap();
        if let Some(settled) = injector().inject_without_lookup(&pod, facts.namespace, random) {
            // That IRSA asks STS in its region, an account says; with Pod Identity always, the flags alone do.
            let settings = ServiceAccountSettings { regional_sts: None, ..facts.settings.clone() };
            let expected = injector().inject(&pod, &ServiceAccountFacts { settings, ..facts }, random);
            prop_assert_eq!(&settled.patch, &expected.patch);
            prop_assert_eq!(settled.outcome == InjectionOutcome::Injected, expected.outcome == InjectionOutcome::Injected);
        }
    }

    #[test]
    fn a_container_that_comes_later_gets_what_it_would_have_got_at_first(facts in facts()) {
        let late = json!({"name": "late"});
        let with = |containers: Value| json!({"metadata": {}, "spec": {"containers": containers}});
        let round = |pod: &Value| {
            let patch = injector().inject(&Pod::parse(&pod.to_string()).unwrap(), &facts, 0).patch;
            apply(pod, &patch)
        };
        let mut in_two_rounds = round(&with(json!([{"name": "app"}])));
        in_two_rounds["spec"]["containers"].as_array_mut().unwrap().push(late.clone());
        prop_assert_eq!(round(&in_two_rounds), round(&with(json!([{"name": "app"}, late]))));
    }

    #[test]
    fn no_json_and_no_bytes_panic(pod in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(pod) = Pod::parse(&pod.to_string()) {
            let facts = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
            let _ = injector().inject(&pod, &facts, 0);
        }
        let _ = AdmissionReview::parse(&bytes);
        let question = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "x", "operation": "CREATE", "resource": {"resource": "pods"}, "object": pod}});
        prop_assert!(AdmissionReview::parse(question.to_string().as_bytes()).is_ok());
    }
}

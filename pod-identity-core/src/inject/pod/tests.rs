use std::cell::Cell;

use super::*;

thread_local! {
    /// How many volumes were looked at, on this thread.
    pub(crate) static VOLUMES_LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn a_pod_with_more_parts_than_any_has_is_refused_by_what_there_is_too_much_of() {
    let list = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let map = |count: usize| {
        let entries: Vec<_> = (0..count).map(|key| format!(r#""{key}": """#)).collect();
        format!("{{{}}}", entries.join(","))
    };
    let pod = |metadata: &str, spec: &str, container: &str| {
        format!(
            r#"{{"metadata": {{"name": "x"{metadata}}}, "spec": {{"serviceAccountName": "x"{spec},
                "containers": [{{"name": "x"{container}}}]}}}}"#
        )
    };
    let of_spec = |member: &str, value: &str| pod("", &format!(r#", "{member}": {value}"#), "");
    let of_container = |member: &str, value: &str| pod("", "", &format!(r#", "{member}": {value}"#));
    let of_metadata = |member: &str, value: &str| pod(&format!(r#", "{member}": {value}"#), "", "");
    let sources =
        |value: String| of_spec("volumes", &format!(r#"[{{"projected": {{"sources": {value}}}}}]"#));
    type Make<'m> = &'m dyn Fn(usize) -> String;
    let affinity = |terms: String| {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        of_spec(
            "affinity",
            &format!(r#"{{"nodeAffinity": {{"{required}": {{"nodeSelectorTerms": {terms}}}}}}}"#),
        )
    };
    let cases: [(usize, &str, Make<'_>); 12] = [
        (500, "500 containers or init containers", &|count| {
            format!(r#"{{"metadata": {{}}, "spec": {{"containers": {}}}}}"#, list(count))
        }),
        (500, "500 containers or init containers", &|count| of_spec("initContainers", &list(count))),
        (1_000, "1000 volumes", &|count| of_spec("volumes", &list(count))),
        (100, "100 sources of a volume", &|count| sources(list(count))),
        (2_000, "2000 variables of a container", &|count| of_container("env", &list(count))),
        (100, "100 envFrom entries", &|count| of_container("envFrom", &list(count))),
        (1_000, "1000 mounts of a container", &|count| of_container("volumeMounts", &list(count))),
        (1_000, "1000 labels or annotations", &|count| of_metadata("labels", &map(count))),
        (1_000, "1000 labels or annotations", &|count| of_metadata("annotations", &map(count))),
        (1_000, "1000 labels or annotations", &|count| of_spec("nodeSelector", &map(count))),
        (1_000, "1000 terms of a node affinity", &|count| affinity(list(count))),
        (1_000, "1000 expressions of a node affinity", &|count| {
            affinity(format!(r#"[{{"matchExpressions": {}}}]"#, list(count)))
        }),
    ];
    for (most, named, make) in cases {
        assert!(Pod::parse(&make(most)).is_ok(), "{named}: {:?}", Pod::parse(&make(most)));
        let error = Pod::parse(&make(most + 1)).unwrap_err().to_string();
        assert!(error.starts_with("the pod cannot be read: more than"), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn what_is_said_of_a_pod_is_short_however_long_its_texts_are() {
    let long = "é".repeat(1_000_000);
    let json = format!(r#"{{"metadata": {{"name": "{long}"}}, "spec": {{"containers": []}}}}"#);
    assert_eq!(Pod::parse(&json).unwrap().name().chars().count(), bounds::NAME);
    let error = Pod::parse(&format!(r#""{long}""#)).unwrap_err().to_string();
    assert!(error.contains("éé") && error.chars().count() < 250, "{error}");
}

#[test]
fn whether_an_unreadable_pod_requires_credentials_is_seen_among_any_other_labels() {
    let many = r#""a": 7, "#.repeat(5_000);
    let json = |value: &str| {
        let label = NamespaceSettings::REQUIRE;
        format!(r#"{{"metadata": {{"labels": {{{many}"{label}": {value}}}}}, "spec": 7}}"#)
    };
    for (value, expected) in [(r#""true""#, true), (r#""yes""#, false), ("true", false), ("null", false)] {
        assert_eq!(requires(&json(value)), expected, "{value}");
    }
}

#[test]
fn what_is_no_pod_is_an_error() {
    for json in [
        "",
        "null",
        "[]",
        "7",
        r#""pod""#,
        "{}",
        r#"{"metadata": {}, "spec": {}}"#,
        r#"{"metadata": {}, "spec": {"containers": null}}"#,
        r#"{"metadata": {}, "spec": {"containers": {}}}"#,
        r#"{"metadata": {}, "spec": {"containers": ["app"]}}"#,
        r#"{"metadata": {}, "spec": {"containers": [["app"]]}}"#,
        r#"[{}, {"containers": []}]"#,
        r#"{"metadata": {}, "spec": {"containers": [{"name": "app", "env": {"A": "b"}}]}}"#,
        r#"{"metadata": {"labels": {"a": 1}}, "spec": {"containers": []}}"#,
    ] {
        assert!(Pod::parse(json).is_err(), "{json}");
    }
}

#[test]
fn a_member_that_is_read_and_stands_twice_is_an_error() {
    let twice = r#"{"metadata": {}, "spec": {"containers": [{"name": "app", "env": [], "env": []}]}}"#;
    assert!(Pod::parse(twice).unwrap_err().to_string().contains("duplicate field `env`"));
}

#[test]
fn what_is_not_read_may_be_anything() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let json = format!(r#"{{"metadata": {{}}, "new": {deep}, "spec": {{"containers": [], "new": 1e999}}}}"#);
    assert_eq!(Pod::parse(&json).unwrap().service_account(), "default");
}

#[test]
fn kubelet_takes_the_last_of_two_variables_of_one_name() {
    let json = r#"{"metadata": {}, "spec": {"containers": [{"env": [
        {"name": "AWS_REGION", "value": "1"}, {"name": "\u0041WS_REGION", "value": "2"}]}]}}"#;
    let pod = Pod::parse(json).unwrap();
    assert_eq!(pod.spec.containers[0].variable("AWS_REGION").unwrap().value, "2");
}

#[test]
fn a_prefix_that_begins_no_name_sets_none_of_them() {
    let json = |prefix: &str| {
        format!(
            r#"{{"metadata": {{}}, "spec": {{"containers": [{{"envFrom": [{{"prefix": "{prefix}"}}]}}]}}}}"#
        )
    };
    for (prefix, may) in [("", true), ("AWS_", true), ("AWS_ROLE_ARN", false), ("DB_", false)] {
        let json = json(prefix);
        let pod = Pod::parse(&json).unwrap();
        assert_eq!(pod.spec.containers[0].may_be_set_from_elsewhere(&["AWS_ROLE_ARN"]), may, "{prefix:?}");
    }
}

mod differential; // the same pods read by serde

use std::cell::Cell;

use super::*;

thread_local! {
    /// The number of volumes that this thread has looked at.
    pub(crate) static VOLUMES_LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn rejects_lists_and_maps_beyond_their_limits() {
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
        assert!(error.starts_with("the pod cannot be read: "), "{error}");
        assert!(error.contains(&format!(": more than {named}")), "{error}");
    }
}

#[test]
fn truncates_names_and_error_messages() {
    let long = "é".repeat(1_000_000);
    let json = format!(r#"{{"metadata": {{"name": "{long}"}}, "spec": {{"containers": []}}}}"#);
    assert_eq!(Pod::parse(&json).unwrap().name().chars().count(), NAME);
    let error = Pod::parse(&format!(r#""{long}""#)).unwrap_err().to_string();
    assert!(error.contains("éé") && error.chars().count() < 250, "{error}");
}

#[test]
fn reads_the_require_label_of_an_unreadable_pod_among_any_other_labels() {
    let many = r#""a": 7, "#.repeat(5_000);
    let json = |value: &str| {
        let label = names::REQUIRE;
        format!(r#"{{"metadata": {{"labels": {{{many}"{label}": {value}}}}}, "spec": 7}}"#)
    };
    for (value, expected) in [(r#""true""#, true), (r#""yes""#, false), ("true", false), ("null", false)] {
        assert_eq!(requires(&json(value)), expected, "{value}");
    }
}

#[test]
fn rejects_json_that_is_not_a_pod() {
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
fn rejects_a_duplicate_member_that_is_read() {
    let key = names::REQUIRE;
    let labels = format!(r#"{{"metadata": {{"labels": {{"{key}": "a", "x": "", "x": "", "{key}": "b"}}}}}}"#);
    for (json, path) in [
        (
            r#"{"metadata": {}, "spec": {"containers": [{"name": "app", "env": [], "env": []}]}}"#,
            "spec.containers[0].env",
        ),
        (r#"{"metadata": {}, "spec": {"containers": [], "os": null, "os": null}}"#, "spec.os"),
        (&labels, "metadata.labels"),
    ] {
        let error = Pod::parse(json).unwrap_err().to_string();
        assert_eq!(error, format!("the pod cannot be read: {path}: duplicate member"));
    }
}

#[test]
fn an_error_names_the_path_the_value_and_the_wanted_type() {
    for (json, expected) in [
        (r#"{"metadata": {}}"#, "spec: missing member"),
        (r#"{"metadata": {}, "spec": {}}"#, "spec.containers: missing member"),
        (r#"{"metadata": {"name": 7}}"#, "metadata.name: found a number, want a string"),
        (r#"{"metadata": {"labels": {"a": true}}}"#, "metadata.labels.a: found true or false, want a string"),
        (
            r#"{"metadata": {}, "spec": {"containers": [{}, {"env": [{}, ["a"]]}]}}"#,
            "spec.containers[1].env[1]: found a list, want an object",
        ),
        (r#"{"metadata": {}, "spec": {"volumes": {}}}"#, "spec.volumes: found an object, want a list"),
        ("{\n  \"metadata\": {},}", "invalid JSON at line 2 column 18: expected a key"),
    ] {
        assert_eq!(Pod::parse(json).unwrap_err().to_string(), format!("the pod cannot be read: {expected}"));
    }
}

#[test]
fn accepts_any_json_in_members_that_are_not_read() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let json = format!(r#"{{"metadata": {{}}, "new": {deep}, "spec": {{"containers": [], "new": 1e999}}}}"#);
    assert_eq!(Pod::parse(&json).unwrap().service_account(), "default");
}

#[test]
fn uses_the_last_variable_of_a_name_as_kubelet_does() {
    let json = r#"{"metadata": {}, "spec": {"containers": [{"env": [
        {"name": "AWS_REGION", "value": "1"}, {"name": "\u0041WS_REGION", "value": "2"}]}]}}"#;
    let pod = Pod::parse(json).unwrap();
    assert_eq!(pod.spec.containers[0].variable("AWS_REGION").unwrap().value, "2");
}

#[test]
fn env_from_sets_only_variables_with_its_prefix() {
    let json = |prefix: &str| {
        format!(
            r#"{{"metadata": {{}}, "spec": {{"containers": [{{"envFrom": [{{"prefix": "{prefix}"}}]}}]}}}}"#
        )
    };
    for (prefix, may) in [("", true), ("AWS_", true), ("AWS_ROLE_ARN", false), ("DB_", false)] {
        let json = json(prefix);
        let pod = Pod::parse(&json).unwrap();
        assert_eq!(pod.spec.containers[0].env_from_may_set(&["AWS_ROLE_ARN"]), may, "{prefix:?}");
    }
}

#[test]
fn a_pod_runs_on_windows_if_each_term_of_its_required_node_affinity_selects_windows() {
    let os = |operator: &str, values: &str| {
        format!(
            r#"{{"matchExpressions": [{{"key": "zone", "operator": "Exists"}},
                {{"key": "kubernetes.io/os", "operator": "{operator}", "values": {values}}}]}}"#
        )
    };
    let windows = os("In", r#"["windows"]"#);
    for (terms, expected) in [
        (format!("[{windows}]"), true),
        (format!("[{windows}, {}]", os("NotIn", r#"["linux"]"#)), true),
        (format!("[{windows}, {}]", os("In", r#"["linux"]"#)), false),
        (format!("[{windows}, {{}}]"), false),
        (format!("[{}]", os("In", r#"["windows", "linux"]"#)), false),
        (format!("[{}]", os("NotIn", r#"["windows"]"#)), false),
        (format!("[{}]", os("Exists", "null")), false),
        ("[]".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let json = |kind: &str| {
            format!(
                r#"{{"metadata": {{}}, "spec": {{"containers": [], "affinity": {{"podAffinity": 7,
                    "nodeAffinity": {{"{kind}": {{"nodeSelectorTerms": {terms}}}}}}}}}}}"#
            )
        };
        let is_windows = |kind: &str| Pod::parse(&json(kind)).unwrap().is_windows();
        assert_eq!(is_windows("requiredDuringSchedulingIgnoredDuringExecution"), expected, "{terms}");
        assert!(!is_windows("preferred"), "{terms}");
    }
}

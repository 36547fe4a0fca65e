//! Pods read by [`Pod::parse`] and by serde: both accept the same JSON and read the same values.
//!
//! `PROPTEST_CASES=100000` reads more of them.

use std::collections::HashSet;
use std::fmt;

use proptest::prelude::*;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::super::container::Container;
use super::super::*;

/// The reference: derived types, which have the same members.
mod serde_types {
    use super::*;

    pub(super) type Texts = Kept<Vec<(String, String)>>;

    /// A map whose keys that are read are unique.
    #[derive(Debug)]
    pub(super) struct Kept<T>(pub(super) T);

    #[derive(Debug)]
    pub(super) struct Object<T>(pub(super) T);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Members<T>(std::marker::PhantomData<T>);
            impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
                type Value = T;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                    T::deserialize(MapAccessDeserializer::new(members))
                }
            }
            deserializer.deserialize_map(Members(std::marker::PhantomData)).map(Self)
        }
    }

    impl<'de> Deserialize<'de> for Texts {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Entries;
            impl<'de> Visitor<'de> for Entries {
                type Value = Vec<(String, String)>;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object of strings")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                    let (mut read, mut keys) = (Vec::new(), HashSet::new());
                    while let Some((key, value)) = entries.next_entry::<String, String>()? {
                        let is_read = names::is_pod_label(&key)
                            || names::is_pod_annotation(&key)
                            || names::OS.contains(&&*key);
                        if is_read && !keys.insert(key.clone()) {
                            return Err(A::Error::custom("duplicate key"));
                        }
                        read.push((key, value));
                    }
                    Ok(read)
                }
            }
            deserializer.deserialize_map(Entries).map(Kept)
        }
    }

    macro_rules! members {
        ($($name:ident { $($(#[$attribute:meta])* $member:ident: $type:ty,)* })*) => {$(
            #[derive(Debug, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub(super) struct $name { $($(#[$attribute])* pub(super) $member: $type,)* }
        )*};
    }

    members! {
        Pod { metadata: Object<Metadata>, spec: Object<Spec>, }
        Metadata {
            name: Option<String>, generate_name: Option<String>,
            labels: Option<Texts>, annotations: Option<Texts>,
        }
        Spec {
            service_account_name: Option<String>, os: Option<Object<Os>>, node_selector: Option<Texts>,
            volumes: Option<Vec<Object<Volume>>>, containers: Vec<Object<Container>>,
            init_containers: Option<Vec<Object<Container>>>,
        }
        Os { name: Option<String>, }
        Volume { #[serde(default)] name: String, projected: Option<Object<Projected>>, }
        Projected { sources: Option<Vec<Object<Source>>>, }
        Source { service_account_token: Option<Object<Token>>, }
        Token { #[serde(default)] audience: String, #[serde(default)] path: String, }
        Container {
            #[serde(default)] name: String, env: Option<Vec<Object<Variable>>>,
            env_from: Option<Vec<Object<EnvFrom>>>, volume_mounts: Option<Vec<Object<Mount>>>,
        }
        Variable {
            #[serde(default)] name: String, #[serde(default)] value: String, value_from: Option<IgnoredAny>,
        }
        EnvFrom { #[serde(default)] prefix: String, }
        Mount {
            #[serde(default)] name: String, #[serde(default)] mount_path: String,
            #[serde(default)] sub_path: String, #[serde(default)] sub_path_expr: String,
        }
    }
}

/// Every value of a pod that injection reads, in the order in which it is read.
fn by_serde(json: &str) -> Option<Vec<String>> {
    use serde_types::{Object, Texts};
    let Object(pod): Object<serde_types::Pod> = serde_json::from_str(json).ok()?;
    let (metadata, spec) = (pod.metadata.0, pod.spec.0);
    let texts = |texts: &Option<Texts>, is_read: fn(&str) -> bool| {
        let mut read: Vec<_> =
            texts.iter().flat_map(|texts| &texts.0).filter(|(key, _)| is_read(key)).cloned().collect();
        read.sort();
        read
    };
    let os = spec.os.and_then(|os| os.0.name);
    let mut values = vec![
        metadata.name.filter(|name| !name.is_empty()).or(metadata.generate_name).unwrap_or_default(),
        format!("{:?} {:?}", metadata.labels.is_some(), texts(&metadata.labels, names::is_pod_label)),
        format!("{:?}", texts(&metadata.annotations, names::is_pod_annotation)),
        spec.service_account_name.unwrap_or_default(),
        format!(
            "{:?}",
            os.as_deref() == Some("windows")
                || texts(&spec.node_selector, |key| names::OS.contains(&key))
                    .iter()
                    .any(|(_, os)| os == "windows")
        ),
        format!("{:?}", spec.volumes.is_some()),
    ];
    for Object(volume) in spec.volumes.iter().flatten() {
        let sources = volume.projected.iter().flat_map(|projected| projected.0.sources.iter().flatten());
        let tokens: Vec<_> = sources
            .filter_map(|source| source.0.service_account_token.as_ref())
            .map(|token| (&token.0.audience, &token.0.path))
            .collect();
        values.push(format!("{:?} {tokens:?}", volume.name));
    }
    for Object(container) in spec.init_containers.iter().flatten().chain(&spec.containers) {
        values.push(format!("{:?} {:?}", container.name, container.env.is_some()));
        for Object(variable) in container.env.iter().flatten().filter(|one| one.0.name.starts_with("AWS_")) {
            let is_empty = variable.value.is_empty() && variable.value_from.is_none();
            values.push(format!("{:?} {:?} {is_empty}", variable.name, variable.value));
        }
        let prefixes: Vec<_> = container.env_from.iter().flatten().map(|from| &from.0.prefix).collect();
        values.push(format!("{prefixes:?} {:?}", container.volume_mounts.is_some()));
        for Object(mount) in
            container.volume_mounts.iter().flatten().filter(|one| !one.0.mount_path.is_empty())
        {
            let serde_types::Mount { name, mount_path, sub_path, sub_path_expr } = mount;
            values.push(format!("{name:?} {mount_path:?} {sub_path:?} {sub_path_expr:?}"));
        }
    }
    Some(values)
}

fn by_reader(json: &str) -> Option<Vec<String>> {
    let pod = Pod::parse(json).ok()?;
    let Pod { metadata, spec } = &pod;
    let labels = metadata.labels.clone().unwrap_or_default();
    let mut values = vec![
        metadata.name.to_string(),
        format!("{:?} {:?}", metadata.labels.is_some(), labels.all()),
        format!("{:?}", metadata.annotations.all()),
        spec.service_account.to_string(),
        format!("{:?}", spec.is_windows),
        format!("{:?}", spec.volumes.is_some()),
    ];
    values.extend(
        spec.volumes.iter().flatten().map(|volume| format!("{:?} {:?}", volume.name, volume.all_tokens())),
    );
    for container in spec.init_containers.iter().chain(&spec.containers) {
        let Container { name, env, volume_mounts, .. } = container;
        values.push(format!("{name:?} {:?}", env.is_some()));
        for variable in env.iter().flatten() {
            values.push(format!("{:?} {:?} {}", variable.name, variable.value, variable.is_empty()));
        }
        values.push(format!("{:?} {:?}", container.prefixes(), volume_mounts.is_some()));
        for VolumeMount { name, mount_path, sub_path, sub_path_expr } in volume_mounts.iter().flatten() {
            values.push(format!("{name:?} {mount_path:?} {sub_path:?} {sub_path_expr:?}"));
        }
    }
    Some(values)
}

/// A string of JSON, sometimes with escapes.
fn string() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        "a",
        "windows",
        "AWS_ROLE_ARN",
        "AWS_REGION",
        "/token",
        "sts.amazonaws.com",
        r"\u0041WS_REGION",
        r"\ud83d\ude00",
        r#"\"\\\/\b\f\n\r\t"#,
        "é",
    ]);
    known.prop_map(|text| format!("\"{text}\""))
}

fn value() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        string(),
        prop::sample::select(vec!["null", "true", "false", "0", "-1.5e+9", "1e999"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((string(), inner), 0..3).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
        .boxed()
    })
    .boxed()
}

/// An object with some of these members: mostly of the right type, sometimes twice, and sometimes an array of its values.
fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, right)| {
            let name = prop_oneof![
                40 => Just(name.to_owned()),
                1 => Just(format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..])),
                1 => Just(format!("x{name}")),
            ];
            let value = prop_oneof![60 => right, 1 => value()];
            let count = prop_oneof![60 => Just(1), 20 => Just(0), 1 => Just(2)];
            (name, value, count).prop_map(|(name, value, count)| vec![(name, value); count])
        })
        .collect();
    (members, prop_oneof![80 => Just(true), 1 => Just(false)], any::<bool>())
        .prop_map(|(members, is_object, is_reversed)| {
            let mut members: Vec<_> = members.into_iter().flatten().collect();
            if is_reversed {
                members.reverse();
            }
            let member = |(name, value): &(String, String)| {
                if is_object { format!("\"{name}\": {value}") } else { value.clone() }
            };
            let members = members.iter().map(member).collect::<Vec<_>>().join(", ");
            if is_object { format!("{{{members}}}") } else { format!("[{members}]") }
        })
        .boxed()
}

fn list(item: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let items = prop::collection::vec(item, 0..3).prop_map(|items| format!("[{}]", items.join(", ")));
    prop_oneof![12 => items, 1 => Just("null".to_owned())].boxed()
}

fn texts(keys: &[&'static str]) -> BoxedStrategy<String> {
    object(keys.iter().map(|key| (*key, string().boxed())).collect())
}

fn pod() -> BoxedStrategy<String> {
    let string = || string().boxed();
    let nullable = || prop_oneof![8 => string(), 1 => Just("null".to_owned())].boxed();
    let container = object(vec![
        ("name", string()),
        (
            "env",
            list(object(vec![
                ("name", string()),
                ("value", string()),
                ("valueFrom", value()),
                ("new", value()),
            ])),
        ),
        ("envFrom", list(object(vec![("prefix", string()), ("secretRef", value())]))),
        (
            "volumeMounts",
            list(object(vec![
                ("name", string()),
                ("mountPath", string()),
                ("subPath", string()),
                ("subPathExpr", string()),
            ])),
        ),
        ("ports", value()),
    ]);
    let token = object(vec![("audience", string()), ("path", string()), ("expirationSeconds", value())]);
    let source = object(vec![("configMap", value()), ("serviceAccountToken", token)]);
    let projected = object(vec![("sources", list(source))]);
    let volume = object(vec![("name", string()), ("emptyDir", value()), ("projected", projected)]);
    let metadata = object(vec![
        ("name", nullable()),
        ("generateName", nullable()),
        ("labels", texts(&[names::INJECT, names::REQUIRE, "a"])),
        (
            "annotations",
            texts(&["x/skip-containers", "podidentity.dev/role-arn.a", names::MIRROR_POD, "a", "b"]),
        ),
        ("managedFields", value()),
    ]);
    let spec = object(vec![
        ("serviceAccountName", nullable()),
        ("os", object(vec![("name", nullable())])),
        ("nodeSelector", texts(&["kubernetes.io/os", "a"])),
        ("volumes", list(volume)),
        ("initContainers", list(container.clone())),
        ("containers", list(container)),
        ("tolerations", value()),
    ]);
    object(vec![("metadata", metadata), ("spec", spec), ("status", value())])
}

/// The same text with one character removed, replaced or added.
fn mutated(json: &str, position: prop::sample::Index, replacement: Option<char>, keep: bool) -> String {
    let mut characters: Vec<_> = json.chars().collect();
    let at = position.index(characters.len());
    characters.splice(at..at + usize::from(!keep), replacement);
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_and_serde_read_the_same_values_of_a_pod(
        json in pod(),
        position: prop::sample::Index,
        replacement in prop::option::of(prop::sample::select(
            "{}[]\",:\\u 0.-eEntd/\n\u{0}\u{1f}\u{7f}é".chars().collect::<Vec<_>>(),
        )),
        keep: bool,
    ) {
        prop_assert_eq!(by_reader(&json), by_serde(&json));
        let json = mutated(&json, position, replacement, keep);
        prop_assert_eq!(by_reader(&json), by_serde(&json), "{}", json);
    }
}

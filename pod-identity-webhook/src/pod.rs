//! A pod, as far as injection looks at it.
//!
//! The rest of its JSON is never read into types and never written again: what this program's version of
//! the Kubernetes API does not know stays as it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::NamespaceSettings;
use crate::object::Object;

/// A pod that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pod cannot be read: {0}")]
pub struct InvalidPod(String);

impl From<serde_json::Error> for InvalidPod {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// A pod that is about to be created.
///
/// A member that is read and stands twice is an error: there would be no telling which of the two the API
/// server means. It writes none twice.
#[derive(Debug, Clone, Deserialize)]
pub struct Pod<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Object<Metadata<'a>>,
    #[serde(borrow)]
    pub(crate) spec: Object<Spec<'a>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    name: Option<String>,
    generate_name: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec<'a> {
    service_account_name: Option<String>,
    os: Option<Object<Os>>,
    node_selector: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    pub(crate) volumes: Option<Vec<Object<Volume<'a>>>>,
    #[serde(borrow)]
    pub(crate) containers: Vec<Object<Container<'a>>>,
    #[serde(borrow)]
    pub(crate) init_containers: Option<Vec<Object<Container<'a>>>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Os {
    name: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Volume<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    projected: Option<Object<Projected<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Projected<'a> {
    #[serde(borrow)]
    sources: Option<Vec<Object<Source<'a>>>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow)]
    service_account_token: Option<Object<ProjectedToken<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
struct ProjectedToken<'a> {
    #[serde(borrow, default)]
    audience: Cow<'a, str>,
    #[serde(borrow, default)]
    path: Cow<'a, str>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) env: Option<Vec<Object<Variable<'a>>>>,
    #[serde(borrow)]
    env_from: Option<Vec<Object<VariablesFrom<'a>>>>,
    #[serde(borrow)]
    pub(crate) volume_mounts: Option<Vec<Object<VolumeMount<'a>>>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Variable<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    /// Empty where the value comes from elsewhere, too.
    #[serde(borrow, default)]
    pub(crate) value: Cow<'a, str>,
}

#[derive(Debug, Clone, Deserialize)]
struct VariablesFrom<'a> {
    #[serde(borrow, default)]
    prefix: Cow<'a, str>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) mount_path: Cow<'a, str>,
}

/// Whether the labels of a pod that cannot be read say that it must be injected.
pub(crate) fn requires(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Labelled {
        metadata: Object<Labels>,
    }
    #[derive(Deserialize)]
    struct Labels {
        labels: BTreeMap<String, String>,
    }
    let labelled = serde_json::from_str::<Object<Labelled>>(json);
    labelled.is_ok_and(|Object(pod)| NamespaceSettings::from_labels(&pod.metadata.labels).require)
}

/// Who made a pod, to whom something about it can be said: it has no UID of its own yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The version of its API.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    #[serde(default)]
    controller: bool,
}

impl<'a> Pod<'a> {
    /// Reads a pod's JSON.
    ///
    /// # Errors
    /// [`InvalidPod`] where it is no pod, or a part that injection looks at is not of its type.
    pub fn parse(json: &'a str) -> Result<Self, InvalidPod> {
        let Object(pod) = serde_json::from_str(json)?;
        Ok(pod)
    }

    /// Its name, or what its name will begin with: the API server makes names after admission.
    pub fn name(&self) -> &str {
        let given = |name: &'_ Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        let metadata = &self.metadata;
        let name = if given(&metadata.name) { &metadata.name } else { &metadata.generate_name };
        name.as_deref().unwrap_or_default()
    }

    /// The name of its service account. Without one it is `default`, as the API server's own admission has it.
    pub fn service_account(&self) -> &str {
        self.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// The controller that made it, if one has; also none where what the pod says of it cannot be read.
    pub fn owner(&self) -> Option<Owner> {
        let owners: Vec<Owner> = serde_json::from_str(self.metadata.owner_references?.get()).ok()?;
        owners.into_iter().find(|owner| owner.controller)
    }

    /// Whether its own label says that it must be injected.
    pub(crate) fn requires(&self) -> bool {
        self.label(NamespaceSettings::REQUIRE) == Some("true")
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether it will run on Windows, by `spec.os` or a node selector. Node affinity is not looked at, as in
    /// AWS's webhook.
    pub(crate) fn is_windows(&self) -> bool {
        let selects = |key| {
            self.spec
                .node_selector
                .as_ref()
                .and_then(|labels| labels.get(key))
                .is_some_and(|os| os == "windows")
        };
        self.spec.os.as_ref().and_then(|os| os.name.as_deref()) == Some("windows")
            || selects("kubernetes.io/os")
            || selects("beta.kubernetes.io/os")
    }

    /// The containers that may be injected, each with its place in the JSON. Ephemeral ones are not among them:
    /// they come with an update of a running pod, whose volumes are fixed.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (String, &Container<'a>)> {
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        let lists = [("initContainers", init), ("containers", &self.spec.containers[..])];
        lists.into_iter().flat_map(|(list, containers)| {
            let place = move |index| format!("/spec/{list}/{index}");
            containers.iter().enumerate().map(move |(index, container)| (place(index), &**container))
        })
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Volume<'a>> {
        self.spec.volumes.iter().flatten().find(|volume| volume.name == name).map(Deref::deref)
    }
}

impl Volume<'_> {
    /// Whether it holds a token for `audience` in `file`.
    pub(crate) fn projects(&self, audience: &str, file: &str) -> bool {
        let sources = self.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
        tokens.any(|token| token.audience == audience && token.path == file)
    }
}

impl Container<'_> {
    /// A variable of the container's own `env`. Of several with one name the last counts, as for kubelet.
    pub(crate) fn variable(&self, name: &str) -> Option<&Variable<'_>> {
        self.env.iter().flatten().rev().find(|variable| variable.name == name).map(Deref::deref)
    }

    /// Whether a ConfigMap or Secret, whose keys are not seen here, may set one of these.
    pub(crate) fn may_be_set_from_elsewhere(&self, names: &[&str]) -> bool {
        self.env_from.iter().flatten().any(|from| {
            names.iter().any(|name| name.len() > from.prefix.len() && name.starts_with(&*from.prefix))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let json =
            format!(r#"{{"metadata": {{}}, "new": {deep}, "spec": {{"containers": [], "new": 1e999}}}}"#);
        assert_eq!(Pod::parse(&json).unwrap().service_account(), "default");
    }

    #[test]
    fn kubelet_takes_the_last_of_two_variables_of_one_name() {
        let json = r#"{"metadata": {}, "spec": {"containers": [{"env": [
            {"name": "A", "value": "1"}, {"name": "\u0041", "value": "2"}]}]}}"#;
        let pod = Pod::parse(json).unwrap();
        assert_eq!(pod.spec.containers[0].variable("A").unwrap().value, "2");
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
            assert_eq!(
                pod.spec.containers[0].may_be_set_from_elsewhere(&["AWS_ROLE_ARN"]),
                may,
                "{prefix:?}"
            );
        }
    }
}

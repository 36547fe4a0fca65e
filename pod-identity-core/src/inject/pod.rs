//! A pod, as far as injection looks at it.
//!
//! The rest of its JSON is never read into types and never written again: what this program's version of
//! the Kubernetes API does not know stays as it is.

mod bounds; // how much of it is read
mod windows; // whether it runs on Windows

use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserialize;

use self::windows::{Affinity, Os};
use super::bounded::{BoundedList, BoundedMap, JsonObject};
use super::service_account::NamespaceSettings;
use super::text::truncated;

/// A pod that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pod cannot be read: {0}")]
pub struct InvalidPod(String);

impl From<serde_json::Error> for InvalidPod {
    fn from(error: serde_json::Error) -> Self {
        Self(truncated(&error.to_string(), bounds::REASON).to_owned())
    }
}

/// A pod that is about to be created.
///
/// A member that is read and stands twice is an error: there would be no telling which of the two the API
/// server means. It writes none twice. One with more parts than any pod has is none either (`pod/bounds.rs`).
#[derive(Debug, Clone, Deserialize)]
pub struct Pod<'a> {
    pub(crate) metadata: JsonObject<Metadata>,
    #[serde(borrow)]
    pub(crate) spec: JsonObject<Spec<'a>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    pub(crate) labels: Option<BoundedMap<{ bounds::TEXTS }>>,
    pub(crate) annotations: Option<BoundedMap<{ bounds::TEXTS }>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec<'a> {
    service_account_name: Option<String>,
    os: Option<JsonObject<Os>>,
    node_selector: Option<BoundedMap<{ bounds::TEXTS }>>,
    affinity: Option<Affinity>,
    #[serde(borrow)]
    pub(crate) volumes: Option<BoundedList<Volume<'a>>>,
    #[serde(borrow)]
    pub(crate) containers: BoundedList<Container<'a>>,
    #[serde(borrow)]
    pub(crate) init_containers: Option<BoundedList<Container<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Volume<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    projected: Option<JsonObject<Projected<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Projected<'a> {
    #[serde(borrow)]
    sources: Option<BoundedList<Source<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow)]
    service_account_token: Option<JsonObject<ProjectedToken<'a>>>,
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
    pub(crate) env: Option<BoundedList<Variable<'a>>>,
    #[serde(borrow)]
    env_from: Option<BoundedList<VariablesFrom<'a>>>,
    #[serde(borrow)]
    pub(crate) volume_mounts: Option<BoundedList<VolumeMount<'a>>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Variable<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    /// Empty where the value comes from elsewhere, too.
    #[serde(borrow, default)]
    pub(crate) value: Cow<'a, str>,
    value_from: Option<serde::de::IgnoredAny>,
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
    #[serde(borrow, default)]
    pub(crate) sub_path: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) sub_path_expr: Cow<'a, str>,
}

/// Whether the labels of a pod that cannot be read say that it must be injected.
pub(crate) fn requires(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Labelled {
        metadata: JsonObject<Labels>,
    }
    #[derive(Deserialize)]
    struct Labels {
        labels: JsonObject<Ours>,
    }
    // Whatever the others are, and however many.
    #[derive(Deserialize)]
    struct Ours {
        #[serde(rename = "podidentity.dev/require")] // NamespaceSettings::REQUIRE
        require: String,
    }
    let labelled = serde_json::from_str::<JsonObject<Labelled>>(json);
    labelled.is_ok_and(|JsonObject(pod)| pod.metadata.labels.require == "true")
}

impl<'a> Pod<'a> {
    /// Reads a pod's JSON.
    ///
    /// # Errors
    /// [`InvalidPod`] where it is no pod, or a part that injection looks at is not of its type.
    pub fn parse(json: &'a str) -> Result<Self, InvalidPod> {
        let JsonObject(pod) = serde_json::from_str(json)?;
        Ok(pod)
    }

    /// Its name, or what its name will begin with: the API server makes names after admission, and then looks
    /// whether they are too long.
    pub fn name(&self) -> &str {
        let given = |name: &'_ Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        let metadata = &self.metadata;
        let name = if given(&metadata.name) { &metadata.name } else { &metadata.generate_name };
        truncated(name.as_deref().unwrap_or_default(), bounds::NAME)
    }

    /// The name of its service account. Without one it is `default`, as the API server's own admission has it.
    pub fn service_account(&self) -> &str {
        self.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Returns whether the pod's label `podidentity.dev/require` says that it must be injected.
    pub fn requires(&self) -> bool {
        self.label(NamespaceSettings::REQUIRE) == Some("true")
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The containers that may be injected, each with its place in the JSON. Ephemeral ones are not among them:
    /// they come with an update of a running pod, whose volumes are fixed.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (String, &Container<'a>)> {
        let init = self.spec.init_containers.as_ref().map_or(&[][..], |list| list);
        let lists = [("initContainers", init), ("containers", &self.spec.containers[..])];
        lists.into_iter().flat_map(|(list, containers)| {
            let place = move |index| format!("/spec/{list}/{index}");
            containers.iter().enumerate().map(move |(index, container)| (place(index), &**container))
        })
    }

    pub(crate) fn volumes(&self) -> impl Iterator<Item = &Volume<'a>> {
        self.spec.volumes.iter().flatten().map(|volume| volume.looked_at())
    }
}

impl Volume<'_> {
    /// The audience of the service account's token that it holds in `file`.
    pub(crate) fn audience_of(&self, file: &str) -> Option<&str> {
        let sources = self.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
        tokens.find(|token| token.path == file).map(|token| &*token.audience)
    }

    /// The same volume, counted in tests: a pod has many, and containers that ask for them too.
    fn looked_at(&self) -> &Self {
        #[cfg(test)]
        tests::VOLUMES_LOOKED_AT.with(|count| count.set(count.get() + 1));
        self
    }
}

impl Variable<'_> {
    /// Whether it is set to an empty value. Some SDKs treat it as set, but none uses it.
    pub(crate) fn is_switched_off(&self) -> bool {
        self.value.is_empty() && self.value_from.is_none()
    }
}

impl Container<'_> {
    /// A variable of AWS's in the container's own `env`. Of several with one name the last counts, as for kubelet.
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
pub(crate) mod tests;

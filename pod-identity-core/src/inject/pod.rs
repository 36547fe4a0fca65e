//! The parts of a pod that injection reads.
//!
//! The rest of a pod's JSON is checked and skipped. It is never written again, so members that this version does not know
//! stay as they are.
//!
//! Every list and map has a maximum size. A client that reaches the port can send
//! [8 MiB](super::review::MAX_REVIEW_BYTES), where an empty object of three bytes would take a hundred bytes of memory.
//! Stored objects have 1.5 MiB at most by default (etcd documentation, *System limits*), and pods have tens of each item:
//! a pod beyond these limits could not be stored, or would run on no node.

mod entries; // labels, annotations and node selectors
mod volume; // volumes and projected tokens
mod container; // containers, variables and mounts
mod node_affinity; // the operating system that a node affinity requires

use std::borrow::Cow;
use std::fmt;

pub(crate) use self::container::{Container, Variable, VolumeMount};
use self::entries::Entries;
pub(crate) use self::volume::Volume;
use super::names;
use super::reader::{ReadError, Reader};
use super::text::truncated;

/// The longest name in Kubernetes, in characters (RFC 1123 subdomain).
const NAME: usize = 253;
/// The longest reason why a pod cannot be read, in characters. It may quote a string of the pod.
const REASON: usize = 200;

/// A pod that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pod cannot be read: {0}")]
pub struct InvalidPod(String);

impl From<ReadError> for InvalidPod {
    fn from(error: ReadError) -> Self {
        Self(truncated(&error.to_string(), REASON).to_owned())
    }
}

/// A pod that is about to be created.
///
/// [`AdmissionReview::parse`](super::AdmissionReview::parse) returns one; [`Pod::parse`] reads one without a review.
///
/// ```
/// use pod_identity_core::inject::Pod;
///
/// let pod = Pod::parse(r#"{"metadata": {"generateName": "cart-"}, "spec": {"containers": [{"name": "app"}]}}"#)?;
/// assert_eq!((pod.name(), pod.service_account()), ("cart-", "default"));
///
/// let error = Pod::parse(r#"{"metadata": {}, "spec": {"containers": ["app"]}}"#).unwrap_err();
/// assert_eq!(error.to_string(), "the pod cannot be read: spec.containers[0]: found the string \"app\", want an object");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod<'a> {
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Metadata<'a> {
    name: Cow<'a, str>,
    labels: Option<Entries<'a>>,
    annotations: Entries<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec<'a> {
    service_account: Cow<'a, str>,
    is_windows: bool,
    volumes: Option<Vec<Volume<'a>>>,
    init_containers: Vec<Container<'a>>,
    containers: Vec<Container<'a>>,
}

/// The position of a container in a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerPath {
    list: &'static str,
    index: usize,
}

/// The JSON pointer (RFC 6901).
impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.list, self.index)
    }
}

impl<'a> Pod<'a> {
    /// Reads a pod's JSON.
    ///
    /// # Errors
    /// [`InvalidPod`] with the path of the value if the text is not JSON, a part that injection reads has another type than
    /// in the Kubernetes API, a member that is read occurs twice, or a list or map is longer than in any pod. The API server
    /// writes no member twice, and parsers differ in which one they use.
    pub fn parse(json: &'a str) -> Result<Self, InvalidPod> {
        let mut reader = Reader::new(json);
        let pod = Self::read(&mut reader)?;
        reader.end()?;
        Ok(pod)
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut metadata, mut spec) = (None, None);
        reader.object(|reader, key| match key {
            "metadata" => reader.once(&mut metadata, Metadata::read),
            "spec" => reader.once(&mut spec, Spec::read),
            _ => reader.skip(),
        })?;
        Ok(Self {
            metadata: metadata.ok_or_else(|| ReadError::missing("metadata"))?,
            spec: spec.ok_or_else(|| ReadError::missing("spec"))?,
        })
    }

    /// Returns the pod's name. If it has none yet, returns the prefix that the API server will make a name of, which may be
    /// longer than a name.
    pub fn name(&self) -> &str {
        truncated(&self.metadata.name, NAME)
    }

    /// Returns the name of the pod's service account. It is `default` if the pod names none, as in the API server's
    /// admission plugin `ServiceAccount`.
    pub fn service_account(&self) -> &str {
        if self.spec.service_account.is_empty() { "default" } else { &self.spec.service_account }
    }

    /// Returns whether the label `podidentity.dev/require=true` asks to refuse the pod if it gets no credentials.
    pub fn requires(&self) -> bool {
        self.label(names::REQUIRE) == Some("true")
    }

    /// Returns whether an annotation of the pod gives a container a role.
    pub fn has_container_roles(&self) -> bool {
        self.containers_with_role().next().is_some()
    }

    /// The names of the containers to which annotations give a role.
    pub(crate) fn containers_with_role(&self) -> impl Iterator<Item = &str> {
        self.metadata.annotations.keys_after(names::CONTAINER_ROLE)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        debug_assert!(names::is_pod_annotation(key), "{key} is not kept");
        self.metadata.annotations.get(key)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        debug_assert!(names::is_pod_label(key), "{key} is not kept");
        self.metadata.labels.as_ref()?.get(key)
    }

    pub(crate) fn has_labels(&self) -> bool {
        self.metadata.labels.is_some()
    }

    /// Returns whether the pod's specification places it on Windows. AWS's webhook reads node selectors only.
    pub(crate) fn is_windows(&self) -> bool {
        self.spec.is_windows
    }

    pub(crate) fn has_volumes(&self) -> bool {
        self.spec.volumes.is_some()
    }

    pub(crate) fn volumes(&self) -> impl Iterator<Item = &Volume<'a>> {
        self.spec.volumes.iter().flatten().inspect(|_| count_volume())
    }

    /// The containers that may be injected, each with its position. Ephemeral containers are not among them: an update
    /// of a running pod adds these, when its volumes are fixed.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (ContainerPath, &Container<'a>)> {
        let lists = [
            ("/spec/initContainers", &self.spec.init_containers),
            ("/spec/containers", &self.spec.containers),
        ];
        lists.into_iter().flat_map(|(list, containers)| {
            containers
                .iter()
                .enumerate()
                .map(move |(index, container)| (ContainerPath { list, index }, container))
        })
    }
}

impl<'a> Metadata<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut name, mut generate_name, mut labels, mut annotations) = (None, None, None, None);
        reader.object(|reader, key| match key {
            "name" => reader.once(&mut name, |reader| reader.nullable(Reader::string)),
            "generateName" => reader.once(&mut generate_name, |reader| reader.nullable(Reader::string)),
            "labels" => reader.once(&mut labels, |reader| {
                reader.nullable(|reader| Entries::read(reader, names::is_pod_label))
            }),
            "annotations" => reader.once(&mut annotations, |reader| {
                reader.nullable(|reader| Entries::read(reader, names::is_pod_annotation))
            }),
            _ => reader.skip(),
        })?;
        let name = name.flatten().filter(|name| !name.is_empty()).or(generate_name.flatten());
        Ok(Self {
            name: name.unwrap_or_default(),
            labels: labels.flatten(),
            annotations: annotations.flatten().unwrap_or_default(),
        })
    }
}

impl<'a> Spec<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut service_account, mut os, mut node_selector, mut affinity) = (None, None, None, None);
        let (mut volumes, mut init_containers, mut containers) = (None, None, None);
        reader.object(|reader, key| match key {
            "serviceAccountName" => {
                reader.once(&mut service_account, |reader| reader.nullable(Reader::string))
            }
            "os" => reader.once(&mut os, |reader| reader.nullable(os_is_windows)),
            "nodeSelector" => reader.once(&mut node_selector, |reader| reader.nullable(selects_windows)),
            "affinity" => {
                reader.once(&mut affinity, |reader| reader.nullable(node_affinity::requires_windows))
            }
            "volumes" => reader.once(&mut volumes, |reader| {
                reader
                    .nullable(|reader| reader.list(volume::VOLUMES, |reader| Volume::read(reader).map(Some)))
            }),
            "initContainers" => reader.once(&mut init_containers, |reader| reader.nullable(read_containers)),
            "containers" => reader.once(&mut containers, read_containers),
            _ => reader.skip(),
        })?;
        Ok(Self {
            service_account: service_account.flatten().unwrap_or_default(),
            is_windows: [os, node_selector, affinity].contains(&Some(Some(true))),
            volumes: volumes.flatten(),
            init_containers: init_containers.flatten().unwrap_or_default(),
            containers: containers.ok_or_else(|| ReadError::missing("containers"))?,
        })
    }
}

fn read_containers<'a>(reader: &mut Reader<'a>) -> Result<Vec<Container<'a>>, ReadError> {
    reader.list(container::CONTAINERS, |reader| Container::read(reader).map(Some))
}

fn os_is_windows(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let mut name = None;
    reader.object(|reader, key| match key {
        "name" => reader.once(&mut name, |reader| reader.nullable(Reader::string)),
        _ => reader.skip(),
    })?;
    Ok(name.flatten().is_some_and(|name| name == "windows"))
}

fn selects_windows(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let labels = Entries::read(reader, |key| names::OS.contains(&key))?;
    Ok(names::OS.iter().any(|label| labels.get(label) == Some("windows")))
}

/// Returns whether a pod that cannot be read has the label `podidentity.dev/require=true`, whatever else it has.
pub(super) fn requires(json: &str) -> bool {
    let mut requires = false;
    let mut read_label = |reader: &mut Reader<'_>, key: &str| match key {
        names::REQUIRE => {
            requires |= reader.string()? == "true";
            Ok(())
        }
        _ => reader.skip(),
    };
    let mut read_metadata = |reader: &mut Reader<'_>, key: &str| match key {
        "labels" => reader.object(&mut read_label),
        _ => reader.skip(),
    };
    // An error stops the search: that the pod cannot be read is known already.
    let _ = Reader::new(json).object(|reader, key| match key {
        "metadata" => reader.object(&mut read_metadata),
        _ => reader.skip(),
    });
    requires
}

/// Counts the volumes that tests look at.
fn count_volume() {
    #[cfg(test)]
    tests::VOLUMES_LOOKED_AT.with(|count| count.set(count.get() + 1));
}

#[cfg(test)]
pub(crate) mod tests;

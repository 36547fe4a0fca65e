//! How much of a pod is read.
//!
//! Whoever reaches the port can send [8 MiB](super::review::MAX_BYTES), and an empty object of three bytes takes a
//! hundred of memory. etcd takes objects of 1.5 MiB by default (etcd documentation, *System limits*), and pods have
//! tens of each of these: what is beyond these bounds is no pod that could be stored, or that a node would run.
//!
//! Of lists that are long in their number of items the items that nobody looks at are counted and not kept. So a
//! review takes a few times its own size at most.

use super::{Container, Source, Variable, VariablesFrom, Volume, VolumeMount};
use crate::inject::bounded::Counted;

/// Entries in a map: labels, annotations, a node selector.
pub(super) const TEXTS: usize = 1_000;
/// Characters of a name that are said: Kubernetes has no longer ones (RFC 1123 subdomains).
pub(super) const NAME: usize = 253;
/// Characters that are said of why a pod cannot be read. The reason may quote what it found.
pub(super) const REASON: usize = 200;

impl Counted for Container<'_> {
    /// In each of two lists: 1,000 in a pod.
    const MOST: usize = 500;
    const NAME: &'static str = "containers or init containers";
}

impl Counted for Volume<'_> {
    const MOST: usize = 1_000;
    const NAME: &'static str = "volumes";
}

impl Counted for Source<'_> {
    const MOST: usize = 100;
    const NAME: &'static str = "sources of a volume";
}

impl Counted for Variable<'_> {
    const MOST: usize = 2_000;
    const NAME: &'static str = "variables of a container";

    /// All that SDKs read for credentials and regions begins so.
    fn is_read(&self) -> bool {
        self.name.starts_with("AWS_")
    }
}

impl Counted for VariablesFrom<'_> {
    const MOST: usize = 100;
    const NAME: &'static str = "envFrom entries of a container";
}

impl Counted for VolumeMount<'_> {
    const MOST: usize = 1_000;
    const NAME: &'static str = "mounts of a container";

    /// None is looked at but those at the place of a token.
    fn is_read(&self) -> bool {
        !self.mount_path.is_empty()
    }
}

//! Whether a pod runs on Windows: by `spec.os`, its node selector, or its required node affinity.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Pod;
use crate::inject::bounded::{BoundedList, Counted, JsonObject};

/// The labels of nodes that name their operating system (Kubernetes reference, *Well-ServiceAccountFacts Labels*).
const LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
const WINDOWS: &str = "windows";

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Os {
    name: Option<String>,
}

/// `spec.affinity`, as far as it names operating systems.
#[derive(Debug, Clone, Default)]
pub(super) struct Affinity {
    is_windows: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    node_affinity: Option<JsonObject<NodeAffinity>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<JsonObject<NodeSelector>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelector {
    node_selector_terms: Option<BoundedList<Term>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    match_expressions: Option<BoundedList<Expression>>,
}

#[derive(Deserialize)]
struct Expression {
    #[serde(default)]
    key: String,
    #[serde(default)]
    operator: String,
    #[serde(default)]
    values: Systems,
}

/// Names of operating systems. None is stored, since there may be any number.
#[derive(Default)]
struct Systems {
    only_windows: bool,
    linux: bool,
}

impl Counted for Term {
    const MOST: usize = 1_000;
    const NAME: &'static str = "terms of a node affinity";
}

impl Counted for Expression {
    const MOST: usize = 1_000;
    const NAME: &'static str = "expressions of a node affinity";

    fn is_read(&self) -> bool {
        LABELS.contains(&&*self.key)
    }
}

impl Expression {
    fn requires_windows(&self) -> bool {
        match &*self.operator {
            "In" => self.values.only_windows,
            "NotIn" => self.values.linux, // there is no third
            _ => false,
        }
    }
}

impl NodeSelector {
    /// Terms are alternatives; the expressions of one all apply (Kubernetes API, `NodeSelector`). One without
    /// expressions selects no node.
    fn requires_windows(&self) -> bool {
        let terms = self.node_selector_terms.as_deref().unwrap_or_default();
        let requires = |term: &JsonObject<Term>| {
            term.match_expressions.iter().flatten().any(|expression| expression.requires_windows())
        };
        !terms.is_empty() && terms.iter().all(requires)
    }
}

impl<'de> Deserialize<'de> for Affinity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let JsonObject(Read { node_affinity }) = Deserialize::deserialize(deserializer)?;
        let required = node_affinity
            .and_then(|JsonObject(affinity)| affinity.required_during_scheduling_ignored_during_execution);
        Ok(Self { is_windows: required.is_some_and(|required| required.requires_windows()) })
    }
}

impl<'de> Deserialize<'de> for Systems {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Systems;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or null")
            }

            fn visit_unit<E>(self) -> Result<Systems, E> {
                Ok(Systems::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Systems, A::Error> {
                let (mut count, mut windows, mut linux) = (0_usize, 0_usize, false);
                while let Some(name) = names.next_element::<String>()? {
                    count += 1;
                    windows += usize::from(name == WINDOWS);
                    linux |= name == "linux";
                }
                Ok(Systems { only_windows: count > 0 && count == windows, linux })
            }
        }

        deserializer.deserialize_any(Names)
    }
}

impl Pod<'_> {
    /// Whether the pod's specification places it on Windows. AWS's webhook reads node selectors only.
    pub(crate) fn is_windows(&self) -> bool {
        let selects = |label: &&str| {
            self.spec
                .node_selector
                .as_ref()
                .and_then(|labels| labels.get(*label))
                .is_some_and(|os| os == WINDOWS)
        };
        self.spec.os.as_ref().and_then(|os| os.name.as_deref()) == Some(WINDOWS)
            || LABELS.iter().any(selects)
            || self.spec.affinity.as_ref().is_some_and(|affinity| affinity.is_windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_runs_on_windows_where_each_term_of_its_required_node_affinity_says_so() {
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
}

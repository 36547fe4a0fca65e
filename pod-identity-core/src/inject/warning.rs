//! What was not done, or may not be as it looks, and why.

use std::fmt;

use super::method::Method;
use super::settings::TokenExpiration;
use super::text::truncated;

/// Something to say about a pod or one of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The container; the whole pod if `None`.
    pub container: Option<String>,
    /// What there is to say.
    pub reason: WarningReason,
}

impl Warning {
    /// The most characters of an admission warning that reach a client whole (Kubernetes documentation,
    /// *Dynamic Admission Control*).
    pub const LONGEST: usize = 256;
    /// The most warnings of that length that reach a client: an API server passes on 4,096 characters of all
    /// (`k8s.io/apiserver/pkg/endpoints/filters/warning.go`: `truncateAtTotalRunes`).
    pub const MOST_WARNINGS: usize = 4096 / Self::LONGEST;

    /// Returns the part of a warning that reaches a client.
    pub fn truncate(text: &str) -> &str {
        truncated(text, Self::LONGEST)
    }

    /// The warning for whoever creates the pod, if this is for them.
    pub fn warning(&self) -> Option<String> {
        self.reason.is_for_people().then(|| Self::truncate(&self.to_string()).to_owned())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(name) => write!(f, "pod-identity: container {}: {}", Shown(name, NAME), self.reason),
            None => write!(f, "pod-identity: {}", self.reason),
        }
    }
}

/// Why something is not as it would be expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WarningReason {
    /// The container sets variables of the SDKs itself, and they do not lead to credentials of its service account.
    /// For IRSA the token is injected all the same. No token is injected beside another URI: it would be sent there.
    #[error("it sets {} itself, not to credentials of its service account", Names(.names))]
    OwnVariables {
        /// The variables.
        names: Vec<&'static str>,
    },
    /// The container sets variables of the way itself, and gets the others and the token.
    #[error("it sets {} itself, which stays; what it lacks is injected", Names(.names))]
    OwnVariablesStay {
        /// The variables.
        names: Vec<&'static str>,
    },
    /// Variables that some or all SDKs read before the injected ones.
    #[error("it sets {}, which SDKs read before what was injected", Names(.names))]
    VariablesWin {
        /// The variables.
        names: Vec<&'static str>,
    },
    /// The container has another method, from another webhook or by hand, which would win or lose against this one.
    #[error("it has {existing} already, so {wanted} is not injected")]
    InjectedOtherwise {
        /// What it has.
        existing: Method,
        /// What it would get.
        wanted: Method,
    },
    /// The container's role differs from its service account's role: it sets the role itself, or it was injected
    /// earlier.
    #[error("its role is {}; its service account says {}", Shown(.existing, ROLE), Shown(.expected, ROLE))]
    RoleDiffers {
        /// The role it has.
        existing: String,
        /// The role that the account has.
        expected: String,
    },
    /// The token's place is taken. Two mounts at one path would have the API server refuse the pod.
    #[error("it mounts another volume at {}, so nothing is injected", Shown(.path, NAME))]
    MountPathTaken {
        /// The place.
        path: String,
    },
    /// The mounted token is for another audience.
    #[error("its token is for the audience {}, want {}", Shown(.found, NAME), Shown(.wanted, NAME))]
    AudienceDiffers {
        /// Audience of the mounted token.
        found: String,
        /// Audience that the method needs.
        wanted: String,
    },
    /// The pod has another volume of the token's name.
    #[error("the pod's volume {} is not the token's, so nothing is injected", Shown(.volume, NAME))]
    VolumeNameTaken {
        /// The name.
        volume: String,
    },
    /// The role is no role's ARN. It is injected as it stands, for STS to refuse.
    #[error("{} is not the ARN of an IAM role (arn:aws:iam::123456789012:role/name); STS will refuse it", Shown(.text, ROLE))]
    RoleInvalid {
        /// What it is.
        text: String,
    },
    /// A role is meant for a container that there is not.
    #[error("the pod has no container {}, which an annotation gives a role", Shown(.name, NAME))]
    ContainerUnknown {
        /// Its name.
        name: String,
    },
    /// An annotation's value that means nothing.
    #[error("the annotation {} is {}, not {expected}: not used", Shown(.key, NAME), Shown(.text, NAME))]
    AnnotationUnused {
        /// The annotation.
        key: String,
        /// Its value.
        text: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// An annotation's value with spaces around it.
    #[error("{} has spaces around its value, which are removed", Shown(.key, NAME))]
    AnnotationTrimmed {
        /// The annotation.
        key: String,
    },
    /// A lifetime beyond what there is.
    #[error(
        "a token lives {} to {} s, not {asked} s: it gets {given}",
        TokenExpiration::MIN,
        TokenExpiration::MAX
    )]
    ExpirationMoved {
        /// What was asked for.
        asked: i64,
        /// What it is.
        given: TokenExpiration,
    },
    /// A ConfigMap or Secret sets variables that cannot be seen at admission. Those that were injected take
    /// precedence over the same ones there, as whole pairs; others there may win.
    #[error(
        "envFrom may set variables that SDKs look at before what was injected; they are not seen at admission"
    )]
    UnseenVariables,
    /// Nothing gives the account a role, by what was known before: it could not be read in time.
    #[error("by what was known before, nothing gives its account a role: {cause}")]
    NotFresh {
        /// Why it was not read.
        cause: String,
    },
    /// It was not read in time, and never before.
    #[error("nobody knows whether its account has a role: {cause}")]
    ServiceAccountUnknown {
        /// Why it was not read.
        cause: String,
    },
}

impl WarningReason {
    pub(crate) fn annotation(key: &str, text: &str, expected: &'static str) -> Self {
        Self::AnnotationUnused { key: key.to_owned(), text: text.to_owned(), expected }
    }

    /// The labels of those for which a container goes without what its account has, or may have.
    pub const MISSED: [&str; 7] = [
        "own_variables",
        "audience_differs",
        "injected_otherwise",
        "mount_path_taken",
        "volume_name_taken",
        "not_fresh",
        "service_account_unknown",
    ];

    /// The reason as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::OwnVariables { .. } => "own_variables",
            Self::OwnVariablesStay { .. } => "own_variables_stay",
            Self::VariablesWin { .. } => "variables_win",
            Self::InjectedOtherwise { .. } => "injected_otherwise",
            Self::RoleDiffers { .. } => "role_differs",
            Self::AudienceDiffers { .. } => "audience_differs",
            Self::MountPathTaken { .. } => "mount_path_taken",
            Self::VolumeNameTaken { .. } => "volume_name_taken",
            Self::RoleInvalid { .. } => "role_invalid",
            Self::ContainerUnknown { .. } => "container_unknown",
            Self::AnnotationUnused { .. } => "annotation_unused",
            Self::AnnotationTrimmed { .. } => "annotation_trimmed",
            Self::ExpirationMoved { .. } => "expiration_moved",
            Self::UnseenVariables => "unseen_variables",
            Self::NotFresh { .. } => "not_fresh",
            Self::ServiceAccountUnknown { .. } => "service_account_unknown",
        }
    }

    /// Whether a container goes without what its account has, or may have.
    pub fn is_missed(&self) -> bool {
        Self::MISSED.contains(&self.as_str())
    }

    /// What somebody can do about a container that goes without.
    pub fn fix(&self) -> Option<&'static str> {
        Some(match self {
            Self::OwnVariables { .. } => {
                "remove the variables, or name the container in the annotation skip-containers"
            }
            Self::InjectedOtherwise { .. } => {
                "let one webhook inject the pod, or have both give its account the same way"
            }
            Self::AudienceDiffers { .. } => {
                "give the projected volume that audience, or the service account its annotation audience"
            }
            Self::MountPathTaken { .. } => "mount that volume elsewhere",
            Self::VolumeNameTaken { .. } => "give that volume another name",
            _ => return None,
        })
    }

    /// Whether whoever creates the pod is to read it. `envFrom` is too common, and mostly harmless.
    pub(super) fn is_for_people(&self) -> bool {
        !matches!(self, Self::UnseenVariables)
    }
}

/// How much of a name is shown, and of a role: its ARN is 31 characters and a name of up to 64, its path apart.
const NAME: usize = 64;
const ROLE: usize = 96;

/// A text from outside: quoted, escaped, and short enough that what is said about it is still read.
struct Shown<'a>(&'a str, usize);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = truncated(self.0, self.1);
        write!(f, "{shown:?}{}", if shown.len() < self.0.len() { "..." } else { "" })
    }
}

/// Names with commas between them.
struct Names<'a>(&'a [&'static str]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_reaches_the_client_whole_and_on_one_line() {
        let long = "\n\"\\".repeat(100);
        let reasons = [
            WarningReason::OwnVariables { names: crate::inject::env::CONTAINER_CREDENTIALS.to_vec() },
            WarningReason::RoleDiffers { existing: long.clone(), expected: long.clone() },
            WarningReason::AnnotationUnused {
                key: long.clone(),
                text: long.clone(),
                expected: "true or false",
            },
        ];
        for reason in reasons {
            let notice = Warning { container: Some("a".repeat(63)), reason };
            let warning = notice.warning().unwrap();
            assert!(warning.chars().count() <= Warning::LONGEST, "{warning}");
            assert!(!warning.contains('\n'), "{warning}");
        }
    }

    #[test]
    fn every_reason_is_in_its_page() {
        let page = include_str!("../../../docs/reference/webhook.md");
        let source = include_str!("warning.rs");
        let labels: Vec<_> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
            .filter(|(_, label)| !label.contains(' ')) // what a person can do is no label
            .collect();
        assert_eq!(labels.len(), 16);
        for (_, label) in labels {
            let label = label.trim_end_matches("\",");
            assert!(page.contains(&format!("`{label}`")), "docs/reference/webhook.md does not name {label}");
        }
    }
}

//! An estimate of the packed size of a session's tags and policy.

use std::fmt;

/// An estimate of the packed size of a session's tags and inline policy.
///
/// STS packs both into a binary form and limits its size. It documents neither the form nor the limit, and returns
/// only percentages (STS AssumeRole, `PackedPolicySize`). This model is:
///
/// - Tags reach the limit at 460 bytes: each tag counts its key, its value and two bytes more. Nine tags of 2 and 250
///   bytes took 498 % (aws-actions/configure-aws-credentials, issue 1898), and their equal letters were not
///   compressed. The six tags of a pod on EKS took 74 % (aws/containers-roadmap, issue 2413), as the model computes
///   for names of usual length. Inherited tags count, and transitive tags count no more than others.
///
/// - A policy reaches the limit at 2,048 characters without white space, the maximum of STS. This is an assumption,
///   because no measurement is published.
///
/// The estimate may be far too low or too high. Use it for warnings and explanations, not to refuse a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedSize {
    /// Size of the tags in bytes, by the model.
    pub tag_bytes: usize,
    /// Number of characters of the policy without white space.
    pub policy_characters: usize,
}

impl PackedSize {
    const ROOM_FOR_TAGS: usize = 460;
    const ROOM_FOR_POLICY: usize = 2048;

    /// Estimates the size of tags and a policy together.
    pub fn of<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>, policy: Option<&str>) -> Self {
        Self {
            tag_bytes: tags.into_iter().map(|(key, value)| key.len() + value.len() + 2).sum(),
            policy_characters: policy.map_or(0, |text| text.chars().filter(|c| !c.is_whitespace()).count()),
        }
    }

    /// Returns the percentage of the limit, rounded up.
    pub fn percent(self) -> usize {
        (self.tag_bytes * 100).div_ceil(Self::ROOM_FOR_TAGS)
            + (self.policy_characters * 100).div_ceil(Self::ROOM_FOR_POLICY)
    }

    /// Returns whether STS will likely refuse the session with `PackedPolicyTooLarge`.
    pub fn is_likely_too_large(self) -> bool {
        self.percent() > 100
    }
}

impl fmt::Display for PackedSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag_bytes, policy_characters } = self;
        let percent = self.percent();
        write!(
            f,
            "about {percent} % by estimate: tags {tag_bytes} bytes, policy {policy_characters} characters"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_sizes_observed_at_aws() {
        let value = "a".repeat(250);
        let keys: Vec<String> = (1..=9).map(|n| format!("T{n}")).collect();
        let seen = PackedSize::of(keys.iter().map(|key| (key.as_str(), value.as_str())), None);
        assert!(seen.percent().abs_diff(498) <= 1, "{seen}");
    }

    #[test]
    fn ignores_white_space_of_policy() {
        let plain = PackedSize::of([], Some(r#"{"a":1}"#));
        assert_eq!(plain, PackedSize::of([], Some("{ \"a\" : 1 }\n")));
        assert_eq!(PackedSize::of([], Some(&"a".repeat(2048))).percent(), 100);
        assert!(PackedSize::of([("key", "value")], Some(&"a".repeat(2048))).is_likely_too_large());
        assert_eq!(PackedSize::of([], None).percent(), 0);
    }
}

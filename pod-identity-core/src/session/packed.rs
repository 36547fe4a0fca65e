//! How much of the room for tags and policies a session takes: an estimate.

use std::fmt;

/// An estimate of the packed size of a session's tags and inline policy.
///
/// STS packs them into a binary form whose size it limits, and documents neither the form nor the limit;
/// it tells percentages only (STS AssumeRole, `PackedPolicySize`). The model here:
///
/// - Tags fill the room at 460 bytes, each with its key, its value and two bytes more. So it was seen:
///   nine tags of 2 and 250 bytes took 498 % (aws-actions/configure-aws-credentials, issue 1898). Tags of
///   equal letters were counted in full there, so nothing is taken off for compression. The six tags of a
///   pod on EKS took 74 % (aws/containers-roadmap, issue 2413), which is what names of common length
///   give. Inherited tags count; that they are transitive adds nothing.
/// - A policy fills the room at 2,048 characters without white space, the most that STS takes. Nothing
///   better than that is published: it is an assumption.
///
/// It may be wrong by a good part in either direction. It is fit to warn and to explain, and not to
/// refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedSize {
    /// The bytes of the tags, as the model counts them.
    pub tag_bytes: usize,
    /// The characters of the policy that are no white space.
    pub policy_characters: usize,
}

impl PackedSize {
    const ROOM_FOR_TAGS: usize = 460;
    const ROOM_FOR_POLICY: usize = 2048;

    /// The size of these tags and that policy together.
    pub fn of<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>, policy: Option<&str>) -> Self {
        Self {
            tag_bytes: tags.into_iter().map(|(key, value)| key.len() + value.len() + 2).sum(),
            policy_characters: policy.map_or(0, |text| text.chars().filter(|c| !c.is_whitespace()).count()),
        }
    }

    /// How much of the room that is, in percent, rounded up.
    pub fn percent(self) -> usize {
        (self.tag_bytes * 100).div_ceil(Self::ROOM_FOR_TAGS)
            + (self.policy_characters * 100).div_ceil(Self::ROOM_FOR_POLICY)
    }

    /// Whether STS will likely refuse it as `PackedPolicyTooLarge`.
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
    fn what_was_seen_at_aws_is_what_the_model_says() {
        let value = "a".repeat(250);
        let keys: Vec<String> = (1..=9).map(|n| format!("T{n}")).collect();
        let seen = PackedSize::of(keys.iter().map(|key| (key.as_str(), value.as_str())), None);
        assert!(seen.percent().abs_diff(498) <= 1, "{seen}");
    }

    #[test]
    fn white_space_of_a_policy_does_not_count_and_the_rest_does() {
        let plain = PackedSize::of([], Some(r#"{"a":1}"#));
        assert_eq!(plain, PackedSize::of([], Some("{ \"a\" : 1 }\n")));
        assert_eq!(PackedSize::of([], Some(&"a".repeat(2048))).percent(), 100);
        assert!(PackedSize::of([("key", "value")], Some(&"a".repeat(2048))).is_likely_too_large());
        assert_eq!(PackedSize::of([], None).percent(), 0);
    }
}

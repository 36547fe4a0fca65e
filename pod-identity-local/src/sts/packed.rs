//! The packed size of policies and tags, which AWS limits and does not define: core's estimate, taken
//! at its word. Inherited tags count too, and the ARNs of managed policies as a policy's text does.

use pod_identity_core::session::PackedSize;

use super::error::Refusal;
use crate::tags::Tags;

/// The packed size in percent, rounded up; `None` where there is nothing to pack.
pub(super) fn percent(
    policy: Option<&str>,
    policy_arns: &[String],
    tags: &Tags,
) -> Result<Option<usize>, Refusal> {
    let of_tags = PackedSize::of(tags.iter(), None);
    let mut all = PackedSize { tag_bytes: of_tags.tag_bytes, ..PackedSize::of([], policy) };
    all.policy_characters += policy_arns.iter().map(|arn| arn.len() + 2).sum::<usize>();
    match all.percent() {
        0 => Ok(None),
        percent @ 101.. if of_tags.percent() * 2 > percent => Err(Refusal::packed_tags(percent)),
        percent @ 101.. => Err(Refusal::packed_policy(percent)),
        percent => Ok(Some(percent)),
    }
}

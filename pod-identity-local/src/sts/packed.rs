//! The packed size of policies and tags. AWS limits it without a definition, so this is core's estimate. Inherited tags
//! count too. The ARNs of managed policies count like the text of a policy.

use pod_identity_core::session::PackedSize;

use super::error::StsError;
use crate::tags::Tags;

/// Returns the packed size in percent, rounded up; `None` without policies and tags.
pub(super) fn percent(
    policy: Option<&str>,
    policy_arns: &[String],
    tags: &Tags,
) -> Result<Option<usize>, StsError> {
    let of_tags = PackedSize::of(tags.iter(), None);
    let mut all = PackedSize { tag_bytes: of_tags.tag_bytes, ..PackedSize::of([], policy) };
    all.policy_characters += policy_arns.iter().map(|arn| arn.len() + 2).sum::<usize>();
    match all.percent() {
        0 => Ok(None),
        percent @ 101.. if of_tags.percent() * 2 > percent => Err(StsError::packed_tags(percent)),
        percent @ 101.. => Err(StsError::packed_policy(percent)),
        percent => Ok(Some(percent)),
    }
}

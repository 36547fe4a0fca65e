//! The packed size of policies and tags, which AWS limits and does not define.
//!
//! STS answers in percent of a limit that its documents do not give. This estimate takes 4,096 bytes
//! as 100 %, and as size the bytes of the session policy without white space, of the policies' ARNs,
//! and of the keys and values of the session's tags, inherited ones too, each with two bytes for its
//! length. So what fits fits about as at AWS: fifty short tags do, fifty of the largest do not.

use super::error::Refusal;
use crate::tags::Tags;

const ALLOTTED: usize = 4_096;

/// The packed size in percent, rounded up; `None` where there is nothing to pack.
pub(super) fn percent(
    policy: Option<&str>,
    policy_arns: &[String],
    tags: &Tags,
) -> Result<Option<usize>, Refusal> {
    let policies = policy.map_or(0, |text| text.chars().filter(|c| !c.is_whitespace()).count())
        + policy_arns.iter().map(|arn| arn.len() + 2).sum::<usize>();
    let tags = tags.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
    let percent = ((policies + tags) * 100).div_ceil(ALLOTTED);
    match percent {
        0 => Ok(None),
        101.. if tags > policies => Err(Refusal::packed_tags(percent)),
        101.. => Err(Refusal::packed_policy(percent)),
        _ => Ok(Some(percent)),
    }
}

//! Limits of STS for parameters (service model of STS 2011-06-15; IAM user guide, *Pass session tags in AWS STS*).

use super::validate::{Constraint, Pattern};

/// Maximum number of session tags.
pub(crate) const MAX_TAGS: usize = 50;
/// Maximum number of managed session policies.
pub(super) const MAX_POLICY_ARNS: usize = 10;

/// ARNs of roles and policies.
pub(super) const ARN: Constraint = Constraint::new(20, 2048, None);
pub(super) const SESSION_NAME: Constraint = Constraint::new(2, 64, Some(NAME));
pub(super) const SOURCE_IDENTITY: Constraint = SESSION_NAME;
pub(super) const EXTERNAL_ID: Constraint =
    Constraint::new(2, 1224, Some(Pattern(is_external_id_character, r"[\w+=,.@:\/-]*")));
pub(super) const TAG_KEY: Constraint = Constraint::new(1, 128, Some(TAG));
pub(super) const TAG_VALUE: Constraint = Constraint::new(0, 256, Some(TAG));
/// Inline session policies.
pub(super) const POLICY: Constraint =
    Constraint::new(1, 2048, Some(Pattern(is_policy_character, r"[\u0009\u000A\u000D\u0020-\u00FF]+")));
pub(super) const WEB_IDENTITY_TOKEN: Constraint =
    Constraint { secret: true, ..Constraint::new(4, 20_000, None) };

const NAME: Pattern = Pattern(is_name_character, r"[\w+=,.@-]*");
const TAG: Pattern = Pattern(is_tag_character, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+");

/// Java's `\w` is ASCII.
fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn is_external_id_character(c: char) -> bool {
    is_name_character(c) || c == ':' || c == '/'
}

/// Letters, numbers and separators of Unicode, and some punctuation.
fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

fn is_policy_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}')
}

pub(crate) fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.chars().all(is_name_character)
}

pub(crate) fn is_tag_key(text: &str) -> bool {
    (1..=128).contains(&text.chars().count()) && text.chars().all(is_tag_character) && !is_reserved(text)
}

pub(crate) fn is_tag_value(text: &str) -> bool {
    text.chars().count() <= 256 && text.chars().all(is_tag_character)
}

/// Whether AWS reserves a key: it begins with `aws:` in any case.
pub(super) fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

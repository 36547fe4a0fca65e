//! Condition keys: the supported ones, and those with several values.

use super::error::PolicyError;

/// A condition key as in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) multivalued: bool,
}

/// Keys with one value (*AWS global condition context keys*, *IAM and STS condition context keys*).
const SINGLE: [&str; 7] = [
    "aws:principalarn",
    "aws:principalaccount",
    "aws:sourcearn",
    "aws:sourceaccount",
    "sts:externalid",
    "sts:rolesessionname",
    "sts:sourceidentity",
];
/// Keys with several values. A condition on them needs `ForAllValues:` or `ForAnyValue:`.
const MULTIVALUED: [&str; 2] = ["aws:tagkeys", "sts:transitivetagkeys"];
/// Prefixes of keys that end in the key of a tag.
const TAGGED: [&str; 2] = ["aws:requesttag/", "aws:principaltag/"];

impl Key {
    pub(super) fn read(place: &str, text: &str) -> Result<Self, PolicyError> {
        let lower = text.to_lowercase();
        let multivalued = MULTIVALUED.contains(&lower.as_str());
        let tagged = TAGGED.iter().any(|prefix| lower.len() > prefix.len() && lower.starts_with(prefix));
        if multivalued || tagged || SINGLE.contains(&lower.as_str()) || is_issuer_claim(&lower) {
            return Ok(Self { text: text.to_owned(), multivalued });
        }
        Err(PolicyError::unsupported(place, format!("the condition key {text:?} is not supported here")))
    }
}

/// Whether the key is a claim of a web identity token, `<issuer without https://>:sub` or `:aud` (*Available keys for
/// AWS web identity federation*). The issuer is a host, which has a dot or is `localhost`, so the prefix of an AWS
/// service is not an issuer.
fn is_issuer_claim(lower: &str) -> bool {
    let Some((issuer, claim)) = lower.rsplit_once(':') else { return false };
    let host = issuer.split(['/', ':']).next().unwrap_or_default();
    (claim == "sub" || claim == "aud")
        && (host.contains('.') || host == "localhost")
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        && issuer.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_unknown_key_and_names_it() {
        for known in [
            "aws:RequestTag/a/b",
            "AWS:principalarn",
            "oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub",
            "oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud",
            "localhost:8443:aud",
        ] {
            assert!(Key::read("", known).is_ok(), "{known}");
        }
        for unknown in [
            "",
            "aws:RequestTag/",
            "aws:username",
            "sts:sub",
            "aws:aud",
            "issuer.example:azp",
            ":sub",
            "/:sub",
        ] {
            let error = Key::read("here", unknown).unwrap_err();
            assert!(error.to_string().contains(&format!("{unknown:?}")), "{error}");
            assert!(error.is_unsupported());
        }
    }
}

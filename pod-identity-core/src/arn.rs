//! Amazon Resource Names of IAM roles, role sessions and AWS accounts.
//!
//! The forms are those of the IAM user guide, *IAM identifiers*: six colon-separated parts,
//! `arn:partition:service:region:account:resource`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Error of parsing an ARN, AWS account id or partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseArnError {
    text: String,
    expected: &'static str,
}

impl ParseArnError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

/// A twelve-digit AWS account id.
///
/// ```
/// let value: pod_identity_core::arn::AccountId = "111122223333".parse()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// Returns the twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseArnError::new(
                text,
                "an AWS account id (twelve digits, quoted where a number would lose zeros)",
            ))
        }
    }
}

/// An AWS partition: `aws`, `aws-cn`, `aws-us-gov` or an isolated partition.
///
/// ```
/// let value: pod_identity_core::arn::Partition = "aws-cn".parse()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(String);

impl Partition {
    /// Returns the partition's name, the second part of its ARNs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition of a region by the prefixes of the SDKs' `partitions.json`, or `aws` without a matching
    /// prefix.
    pub fn of_region(region: &str) -> Self {
        const PREFIXES: [(&str, &str); 7] = [
            ("cn-", "aws-cn"),
            ("eusc-", "aws-eusc"),
            ("us-gov-", "aws-us-gov"),
            ("us-iso-", "aws-iso"),
            ("us-isob-", "aws-iso-b"),
            ("us-isof-", "aws-iso-f"),
            ("eu-isoe-", "aws-iso-e"),
        ];
        let name = PREFIXES.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, p)| p);
        Self(name.to_owned())
    }
}

impl FromStr for Partition {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = text == "aws"
            || text.strip_prefix("aws-").is_some_and(|rest| {
                !rest.is_empty()
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            });
        if known { Ok(Self(text.to_owned())) } else { Err(ParseArnError::new(text, "an AWS partition")) }
    }
}

/// The ARN of an IAM role: `arn:aws:iam::123456789012:role/path/name`.
///
/// The path is part of the role's ARN, but not of the session's ARN. [`RoleArn::name`] leaves it out.
///
/// ```
/// let role: pod_identity_core::arn::RoleArn = "arn:aws:iam::111122223333:role/team/cart".parse()?;
/// assert_eq!((role.name(), role.account().as_str()), ("cart", "111122223333"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleArn {
    text: String,
    partition: Partition,
    account: AccountId,
}

impl RoleArn {
    /// Returns the whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the partition of the role's AWS account.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Returns the AWS account of the role.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Returns the role's name without its path.
    pub fn name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the ARN of a session of this role: `arn:aws:sts::123456789012:assumed-role/name/session`.
    pub fn session(&self, session_name: &str) -> String {
        format!("arn:{}:sts::{}:assumed-role/{}/{session_name}", self.partition, self.account, self.name())
    }
}

impl FromStr for RoleArn {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid =
            || ParseArnError::new(text, "the ARN of an IAM role (arn:aws:iam::123456789012:role/name)");
        if !(20..=2048).contains(&text.len()) {
            return Err(invalid());
        }
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(invalid);
        let (arn, partition, service, region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let path = resource.strip_prefix("role/").ok_or_else(invalid)?;
        let name = path.rsplit('/').next().unwrap_or_default();
        let name_fits = is_iam_name(name, 1);
        // The character set of IAM's Path.
        let path_fits = path.bytes().all(|b| (0x21..0x7f).contains(&b)) && path.len() <= 512 + 64;
        if arn != "arn" || service != "iam" || !region.is_empty() || !name_fits || !path_fits {
            return Err(invalid());
        }
        let partition = partition.parse().map_err(|_| invalid())?;
        let account = account.parse().map_err(|_| invalid())?;
        Ok(Self { text: text.to_owned(), partition, account })
    }
}

/// The ARN of a role session: `arn:aws:sts::123456789012:assumed-role/name/session`.
///
/// ```
/// let arn = "arn:aws:sts::111122223333:assumed-role/cart/demo";
/// let session: pod_identity_core::arn::AssumedRoleArn = arn.parse()?;
/// assert_eq!(session.session_name(), "demo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssumedRoleArn {
    text: String,
    partition: Partition,
    account: AccountId,
}

impl AssumedRoleArn {
    /// Returns the whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the partition of the session's AWS account.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Returns the AWS account of the role and of the session.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Returns the session's name.
    pub fn session_name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for AssumedRoleArn {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            let expected = "the ARN of a role session (arn:aws:sts::123456789012:assumed-role/name/session)";
            ParseArnError::new(text, expected)
        };
        let rest = text.strip_prefix("arn:").ok_or_else(invalid)?;
        let (partition, rest) = rest.split_once(':').ok_or_else(invalid)?;
        let (account, rest) =
            rest.strip_prefix("sts::").and_then(|rest| rest.split_once(':')).ok_or_else(invalid)?;
        let names = rest.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/'));
        let (role, session) = names.ok_or_else(invalid)?;
        // STS AssumeRole, RoleSessionName: 2 to 64 characters, the same characters as in role names.
        if !is_iam_name(role, 1) || !is_iam_name(session, 2) {
            return Err(invalid());
        }
        let partition = partition.parse().map_err(|_| invalid())?;
        let account = account.parse().map_err(|_| invalid())?;
        Ok(Self { text: text.to_owned(), partition, account })
    }
}

/// Whether a text has the characters and the length of IAM's RoleName (CreateRole API reference).
fn is_iam_name(text: &str, shortest: usize) -> bool {
    (shortest..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

macro_rules! text_conversions {
    ($($name:ident => $field:tt),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }

        #[doc(hidden)] // for serde
        impl TryFrom<String> for $name {
            type Error = ParseArnError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        #[doc(hidden)] // for serde
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.$field
            }
        }
    )*};
}

text_conversions!(AccountId => 0, Partition => 0, RoleArn => text, AssumedRoleArn => text);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_role_arn_and_derives_session_arn() {
        let role: RoleArn = "arn:aws-us-gov:iam::111122223333:role/team/a/app".parse().unwrap();
        assert_eq!(role.partition().as_str(), "aws-us-gov");
        assert_eq!(role.account().as_str(), "111122223333");
        assert_eq!(role.name(), "app");
        assert_eq!(role.session("s"), "arn:aws-us-gov:sts::111122223333:assumed-role/app/s");
    }

    #[test]
    fn rejects_invalid_role_arn() {
        for text in [
            "",
            "app",
            "arn:aws:iam::111122223333:user/app",
            "arn:aws:iam::1111:role/app",
            "arn:aws:iam:us-east-1:111122223333:role/app",
            "arn:aws:sts::111122223333:assumed-role/app/s",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
            "arn:aws:iam::111122223333:role/a b/app",
            "arn:azure:iam::111122223333:role/app",
            "arn:aws-:iam::111122223333:role/app",
            "arn:aws-CN:iam::111122223333:role/app",
            "urn:aws:iam::111122223333:role/app",
        ] {
            assert!(text.parse::<RoleArn>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn limits_role_path_to_512_and_name_to_64_characters() {
        let role = |path: usize, name: usize| {
            let (path, name) = ("p".repeat(path - 1), "n".repeat(name));
            format!("arn:aws:iam::111122223333:role/{path}/{name}").parse::<RoleArn>()
        };
        assert!(role(512, 64).is_ok());
        assert!(role(513, 64).is_err());
        assert!(role(512, 65).is_err());
    }

    #[test]
    fn parses_session_arn() {
        let role: RoleArn = "arn:aws-cn:iam::111122223333:role/team/app".parse().unwrap();
        let session: AssumedRoleArn = role.session("eks-demo-cart-1").parse().unwrap();
        assert_eq!(session.as_str(), "arn:aws-cn:sts::111122223333:assumed-role/app/eks-demo-cart-1");
        assert_eq!((session.partition(), session.account()), (role.partition(), role.account()));
        assert_eq!(session.session_name(), "eks-demo-cart-1");
        for text in [
            "",
            "arn:aws:sts::111122223333:assumed-role/app",
            "arn:aws:sts::111122223333:assumed-role/app/s",
            "arn:aws:sts::111122223333:assumed-role//session",
            "arn:aws:sts::111122223333:assumed-role/team/app/session",
            "arn:aws:sts::1111:assumed-role/app/session",
            "arn:aws:sts:eu-west-1:111122223333:assumed-role/app/session",
            "arn:aws:iam::111122223333:assumed-role/app/session",
            "arn:aws:sts::111122223333:federated-user/session",
            "arn:azure:sts::111122223333:assumed-role/app/session",
        ] {
            assert!(text.parse::<AssumedRoleArn>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn finds_partition_of_region() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-isob-east-1", "aws-iso-b"),
            ("us-gov-west-1", "aws-us-gov"),
        ] {
            assert_eq!(Partition::of_region(region).as_str(), partition);
        }
    }
}

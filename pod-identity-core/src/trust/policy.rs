//! A parsed policy.

use super::document::PolicyDocument;
use super::error::{PolicyError, Problem};
use super::read::{Kind, statements};
use super::statement::Statement;

/// Default quota for the length of a trust policy, in characters without white space (*IAM and AWS STS quotas*, "role
/// trust policy length").
pub const TRUST_POLICY_LENGTH: usize = 2_048;
/// Maximum to which AWS raises that quota.
pub const TRUST_POLICY_LENGTH_MAX: usize = 8_192;
/// Maximum length of all inline policies of a role together (*IAM and AWS STS quotas*).
pub const IDENTITY_POLICY_LENGTH: usize = 10_240;

/// A role's trust policy, or an identity policy of a caller.
///
/// ```
/// use pod_identity_core::trust::Policy;
///
/// let policy = Policy::identity(r#"{"Version": "2012-10-17", "Statement": [
///     {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
/// ]}"#)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

impl Policy {
    /// Reads a role's trust policy of at most [`TRUST_POLICY_LENGTH`] characters.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if IAM rejects the policy, or its conditions are not supported.
    pub fn trust(json: &str) -> Result<Self, PolicyError> {
        Self::trust_of(&PolicyDocument::from_json(json)?, TRUST_POLICY_LENGTH)
    }

    /// Reads a role's trust policy of at most `limit` characters, for AWS accounts with a raised quota.
    ///
    /// # Errors
    ///
    /// As [`Policy::trust`].
    pub fn trust_of(document: &PolicyDocument, limit: usize) -> Result<Self, PolicyError> {
        within(document, limit)?;
        Ok(Self { statements: statements(&document.root, Kind::Trust)? })
    }

    /// Reads an identity policy of a user, a role or a session.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if IAM rejects the policy. Unsupported condition keys and policy variables are rejected in
    /// statements about an [`Action`](super::Action). In statements about other actions, for example of S3, they are
    /// skipped, because these statements decide nothing here.
    pub fn identity(json: &str) -> Result<Self, PolicyError> {
        Self::identity_of(&PolicyDocument::from_json(json)?)
    }

    /// Reads an identity policy of a user, a role or a session, from a document.
    ///
    /// # Errors
    ///
    /// As [`Policy::identity`].
    pub fn identity_of(document: &PolicyDocument) -> Result<Self, PolicyError> {
        within(document, IDENTITY_POLICY_LENGTH)?;
        Ok(Self { statements: statements(&document.root, Kind::Identity)? })
    }
}

fn within(document: &PolicyDocument, limit: usize) -> Result<(), PolicyError> {
    if document.length() > limit {
        return Err(PolicyError::new("", Problem::Length { length: document.length(), limit }));
    }
    Ok(())
}

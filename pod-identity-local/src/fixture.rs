//! The simulated AWS: accounts, roles, callers and OIDC providers, and the clusters and associations, from one file.
//!
//! The file is YAML or JSON with names in camel case. An unknown name is an error, and so is a policy that IAM would
//! refuse. A policy is a nested mapping or a JSON string.
//!
//! ```
//! use pod_identity_local::fixture::Fixture;
//!
//! let fixture = Fixture::from_yaml(r#"
//! accounts: ["111122223333"]
//! callers:
//!   - accessKeyId: AKIAAUTH000000000000
//!     principal: {role: "arn:aws:iam::111122223333:role/auth", sessionName: auth}
//! roles:
//!   - arn: arn:aws:iam::111122223333:role/auth
//!     trust: {Statement: {Effect: Allow, Principal: {AWS: "111122223333"}, Action: "sts:AssumeRole"}}
//!   - arn: arn:aws:iam::111122223333:role/app
//!     trust: |
//!       {"Version": "2012-10-17", "Statement": {
//!         "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/auth"},
//!         "Action": ["sts:AssumeRole", "sts:TagSession"]}}
//! "#)?;
//! assert_eq!(fixture.roles().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod file;
mod provider;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use pod_identity_auth::store::AssociationFile;
use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::trust::{Caller, Policy};

pub use provider::OidcProvider;

use crate::tags::Tags;

/// The simulated AWS of the local STS.
#[derive(Debug)]
pub struct Fixture {
    accounts: BTreeSet<AccountId>,
    callers: Vec<FixtureCaller>,
    roles: BTreeMap<RoleArn, Role>,
    providers: Vec<OidcProvider>,
    /// Clusters and associations in the format of the auth service.
    pub associations: AssociationFile,
}

/// An IAM role.
#[derive(Debug)]
pub struct Role {
    /// The role's ARN.
    pub arn: RoleArn,
    /// The trust policy.
    pub trust: Policy,
    /// The identity policies. Only their statements about roles matter here.
    pub permissions: Vec<Policy>,
    /// Maximum session duration. Default: one hour.
    pub max_session_duration: Duration,
    /// The role's tags. Session tags override them.
    pub tags: Tags,
}

/// A caller that the file declares.
#[derive(Debug)]
pub struct FixtureCaller {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key. Default: a random one.
    pub secret_access_key: SecretText,
    /// The session token that must accompany the key, if it has one.
    pub session_token: Option<SecretText>,
    /// The principal.
    pub caller: Caller,
    /// The identity policies of a user. Those of a role belong to [`Role`].
    pub permissions: Vec<Policy>,
    /// The session tags of a role session.
    pub tags: Tags,
    /// Keys of the transitive tags.
    pub transitive_tag_keys: Vec<String>,
    /// `aws:SourceAccount` of a service.
    pub source_account: Option<String>,
    /// `aws:SourceArn` of a service.
    pub source_arn: Option<String>,
}

/// A secret that `Debug` redacts.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the secret. It must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// An error in a fixture file, with its place and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct FixtureError {
    path: String,
    problem: String,
}

impl FixtureError {
    fn at(path: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }

    /// Returns the place in the file, for example `roles[2].trust`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Fixture {
    /// Reads a fixture from YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`FixtureError`] names the place and the fix.
    pub fn from_yaml(text: &str) -> Result<Self, FixtureError> {
        let file = serde_saphyr::from_str(text).map_err(|error| FixtureError::at("", error))?;
        build::fixture(file)
    }

    /// Returns the AWS accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.accounts.iter()
    }

    /// Returns the callers in the order of the file.
    pub fn callers(&self) -> impl Iterator<Item = &FixtureCaller> {
        self.callers.iter()
    }

    /// Returns the roles, ordered by ARN.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// Returns a role by its ARN.
    pub fn role(&self, arn: &RoleArn) -> Option<&Role> {
        self.roles.get(arn)
    }

    /// Returns the provider that an AWS account has registered for an issuer.
    pub fn provider(&self, account: &AccountId, issuer: &str) -> Option<&OidcProvider> {
        self.providers.iter().find(|provider| provider.account == *account && provider.url == issuer)
    }
}

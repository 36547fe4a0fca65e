//! The AWS that the laptop pretends to be: accounts, roles, callers, OIDC providers, in one file.
//!
//! The file is YAML, or JSON, which is YAML too. Names are in camel case; a name that is not known is
//! refused, and so is a policy that IAM would refuse. Policies are nested mappings or strings of JSON.
//!
//! ```
//! use pod_identity_local::world::World;
//!
//! let world = World::from_yaml(r#"
//! accounts: ["111122223333"]
//! callers:
//!   - accessKeyId: AKIABROKER0000000000
//!     principal: {role: "arn:aws:iam::111122223333:role/broker", sessionName: auth}
//! roles:
//!   - arn: arn:aws:iam::111122223333:role/broker
//!     trust: {Statement: {Effect: Allow, Principal: {AWS: "111122223333"}, Action: "sts:AssumeRole"}}
//!   - arn: arn:aws:iam::111122223333:role/app
//!     trust: |
//!       {"Version": "2012-10-17", "Statement": {
//!         "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/broker"},
//!         "Action": ["sts:AssumeRole", "sts:TagSession"]}}
//! "#)?;
//! assert_eq!(world.roles().count(), 2);
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

/// Everything that the local STS knows.
#[derive(Debug)]
pub struct World {
    accounts: BTreeSet<AccountId>,
    callers: Vec<KnownCaller>,
    roles: BTreeMap<RoleArn, Role>,
    providers: Vec<OidcProvider>,
    /// The clusters and associations, as the auth service reads them.
    pub associations: AssociationFile,
}

/// A role of an account.
#[derive(Debug)]
pub struct Role {
    /// Its ARN.
    pub arn: RoleArn,
    /// Who may assume it.
    pub trust: Policy,
    /// What its sessions may do, as far as roles are concerned.
    pub permissions: Vec<Policy>,
    /// The longest session that it gives: an hour unless the file says more.
    pub max_session_duration: Duration,
    /// Its tags, which its sessions have unless they are tagged otherwise.
    pub tags: Tags,
}

/// A caller whose keys were there before the STS started.
#[derive(Debug)]
pub struct KnownCaller {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key, made up where the file has none.
    pub secret_access_key: SecretText,
    /// The session token that must come with the key, where it has one.
    pub session_token: Option<SecretText>,
    /// Who it is.
    pub caller: Caller,
    /// A user's own policies. A role's are the role's.
    pub permissions: Vec<Policy>,
    /// The tags of a role's session.
    pub tags: Tags,
    /// Which of these tags go along to the next role.
    pub transitive_tag_keys: Vec<String>,
    /// For whom a service calls: `aws:SourceAccount`.
    pub source_account: Option<String>,
    /// For which resource a service calls: `aws:SourceArn`.
    pub source_arn: Option<String>,
}

/// A secret, which prints as nothing but that.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Keeps a text from being printed.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, to be used and not to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// What is wrong with a world file, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct WorldError {
    path: String,
    problem: String,
}

impl WorldError {
    fn at(path: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { path: path.into(), problem: problem.to_string() }
    }

    /// The place in the file: `roles[2].trust`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl World {
    /// Reads a world from YAML or JSON.
    ///
    /// # Errors
    ///
    /// [`WorldError`] names the place and the mend.
    pub fn from_yaml(text: &str) -> Result<Self, WorldError> {
        let file = serde_saphyr::from_str(text).map_err(|error| WorldError::at("", error))?;
        build::world(file)
    }

    /// The accounts that exist.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.accounts.iter()
    }

    /// The callers that exist from the start, in the file's order.
    pub fn callers(&self) -> impl Iterator<Item = &KnownCaller> {
        self.callers.iter()
    }

    /// The roles that exist, by ARN.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// A role by its ARN.
    pub fn role(&self, arn: &RoleArn) -> Option<&Role> {
        self.roles.get(arn)
    }

    /// The provider that an account registered for an issuer.
    pub fn provider(&self, account: &AccountId, issuer: &str) -> Option<&OidcProvider> {
        self.providers.iter().find(|provider| provider.account == *account && provider.url == issuer)
    }
}

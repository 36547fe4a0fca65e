//! Callers, and the principals of a trust policy (*AWS JSON policy elements: Principal*).

use std::fmt;
use std::str::FromStr;

use crate::arn::{AccountId, ParseArnError, Partition, RoleArn};

/// The ARN of an IAM user: `arn:aws:iam::123456789012:user/path/name`.
///
/// ```
/// let user: pod_identity_core::trust::UserArn = "arn:aws:iam::111122223333:user/ann".parse()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserArn {
    text: String,
    account: AccountId,
}

impl UserArn {
    /// Returns the whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the AWS account of the user.
    pub fn account(&self) -> &AccountId {
        &self.account
    }
}

impl fmt::Display for UserArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for UserArn {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // IAM has the same rules for paths and names of users and roles, so one parser handles both.
        let is_user = text.splitn(6, ':').nth(5).is_some_and(|resource| resource.starts_with("user/"));
        match text.replacen(":user/", ":role/", 1).parse::<RoleArn>() {
            Ok(role) if is_user => Ok(Self { text: text.to_owned(), account: role.account().clone() }),
            _ => {
                Err(ParseArnError::new(text, "the ARN of an IAM user (arn:aws:iam::123456789012:user/name)"))
            }
        }
    }
}

/// The principal that assumes a role.
///
/// ```
/// use pod_identity_core::trust::Caller;
///
/// let role = "arn:aws:iam::111122223333:role/auth".parse()?;
/// let caller = Caller::Session { role, name: "pod-identity-auth".to_owned() };
/// assert_eq!(caller.account().unwrap().as_str(), "111122223333");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A session of a role.
    Session {
        /// The role of the session.
        role: RoleArn,
        /// The session's name.
        name: String,
    },
    /// An IAM user with long-term keys.
    User(UserArn),
    /// The root user of an AWS account.
    Root {
        /// The partition of the AWS account.
        partition: Partition,
        /// The AWS account.
        account: AccountId,
    },
    /// An AWS service.
    Service {
        /// Its principal, for example `pods.eks.amazonaws.com`.
        name: String,
    },
    /// The holder of a token of an OIDC issuer.
    WebIdentity {
        /// The ARN of the identity provider for the issuer, in the role's AWS account.
        provider: String,
    },
}

impl Caller {
    /// Returns the AWS account of the caller. Services and web identities have none.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Session { role, .. } => Some(role.account()),
            Self::User(user) => Some(user.account()),
            Self::Root { account, .. } => Some(account),
            Self::Service { .. } | Self::WebIdentity { .. } => None,
        }
    }

    /// Returns the value of `aws:PrincipalArn`. For a session it is the ARN of its role.
    pub fn principal_arn(&self) -> Option<String> {
        match self {
            Self::Session { role, .. } => Some(role.to_string()),
            Self::User(user) => Some(user.to_string()),
            Self::Root { partition, account } => Some(format!("arn:{partition}:iam::{account}:root")),
            Self::Service { .. } | Self::WebIdentity { .. } => None,
        }
    }
}

impl fmt::Display for Caller {
    /// Displays the caller as in AWS's messages: the ARN, the service or the provider.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { role, name } => f.write_str(&role.session(name)),
            Self::User(user) => user.fmt(f),
            Self::Root { partition, account } => write!(f, "arn:{partition}:iam::{account}:root"),
            Self::Service { name } => f.write_str(name),
            Self::WebIdentity { provider } => f.write_str(provider),
        }
    }
}

/// One principal of a trust policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    Everyone,
    Account(AccountId),
    Role(RoleArn),
    User(UserArn),
    /// An assumed-role session, or a federated-user session, by its whole ARN.
    Session(String),
    Service(String),
    Federated(String),
}

/// How a principal matches the caller, which determines the other policies that must allow the request (*Policy
/// evaluation logic*: a principal in the role's own AWS account that the policy names directly needs no other policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PrincipalMatch {
    /// The policy names the AWS account or everyone, or the caller is in another AWS account. The caller's own
    /// policies must allow the request, too.
    NeedsIdentityPolicy,
    /// The policy names the caller's role or user in its own AWS account. Only a session policy can restrict it.
    LimitedBySessionPolicy,
    /// The policy names the session, a service, a provider or the root user. No other policy can restrict it.
    Unlimited,
}

/// Identity providers with a host name in place of an ARN.
const KNOWN_PROVIDERS: [&str; 4] =
    ["accounts.google.com", "cognito-identity.amazonaws.com", "graph.facebook.com", "www.amazon.com"];

impl Principal {
    /// Parses an entry of `"AWS"`.
    pub(super) fn aws(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everyone);
        }
        if let Ok(account) = text.parse() {
            return Some(Self::Account(account));
        }
        if text.contains(['*', '?']) {
            return None; // no wildcards within a principal
        }
        if let Ok(role) = text.parse() {
            return Some(Self::Role(role));
        }
        if let Ok(user) = text.parse() {
            return Some(Self::User(user));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, resource] = parts[..] else { return None };
        partition.parse::<Partition>().ok()?;
        let account: AccountId = account.parse().ok()?;
        let session = ["assumed-role/", "federated-user/"].iter().any(|prefix| {
            resource.strip_prefix(prefix).is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
        });
        match (service, resource) {
            ("iam", "root") => Some(Self::Account(account)),
            ("sts", _) if session => Some(Self::Session(text.to_owned())),
            _ => None,
        }
    }

    /// Parses an entry of `"Service"`.
    pub(super) fn service(text: &str) -> Option<Self> {
        let host = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        (text.contains('.') && text.bytes().all(host)).then(|| Self::Service(text.to_owned()))
    }

    /// Parses an entry of `"Federated"`.
    pub(super) fn federated(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let by_arn = match parts[..] {
            ["arn", partition, "iam", "", account, resource] => {
                partition.parse::<Partition>().is_ok()
                    && account.parse::<AccountId>().is_ok()
                    && (resource.starts_with("oidc-provider/") || resource.starts_with("saml-provider/"))
                    && !resource.ends_with('/')
                    && !resource.contains(['*', '?'])
            }
            _ => false,
        };
        (by_arn || KNOWN_PROVIDERS.contains(&text)).then(|| Self::Federated(text.to_owned()))
    }

    /// Returns how this principal matches the caller, for a role of `account`, or `None` if it does not match.
    pub(super) fn principal_match(&self, caller: &Caller, account: &AccountId) -> Option<PrincipalMatch> {
        let names = match (self, caller) {
            (Self::Everyone, _) => true,
            (Self::Account(named), _) => caller.account() == Some(named),
            (Self::Role(named), Caller::Session { role, .. }) => named == role,
            (Self::User(named), Caller::User(user)) => named == user,
            (Self::Session(named), Caller::Session { role, name }) => *named == role.session(name),
            (Self::Service(named), Caller::Service { name }) => named == name,
            (Self::Federated(named), Caller::WebIdentity { provider }) => named == provider,
            _ => false,
        };
        if !names {
            return None;
        }
        Some(match (self, caller) {
            // Callers without own policies.
            (_, Caller::Service { .. } | Caller::WebIdentity { .. } | Caller::Root { .. }) => {
                PrincipalMatch::Unlimited
            }
            _ if caller.account() != Some(account) => PrincipalMatch::NeedsIdentityPolicy,
            (Self::Session(_), _) => PrincipalMatch::Unlimited,
            (Self::Role(_) | Self::User(_), _) => PrincipalMatch::LimitedBySessionPolicy,
            _ => PrincipalMatch::NeedsIdentityPolicy,
        })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("*"),
            Self::Account(account) => account.fmt(f),
            Self::Role(role) => role.fmt(f),
            Self::User(user) => user.fmt(f),
            Self::Session(text) | Self::Service(text) | Self::Federated(text) => f.write_str(text),
        }
    }
}

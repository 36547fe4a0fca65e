//! Ways to break the path in one place, each a fault that people meet on real clusters.

use std::fmt;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use pod_identity_core::arn::RoleArn;
use serde_json::{Value, json};

use crate::issuer::TokenRequest;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Breakage {
    /// The role's trust policy allows sts:AssumeRole, but not sts:TagSession.
    NoTagSession,
    /// The role's trust policy asks for another namespace than the pod's.
    WrongNamespace,
    /// The pod sends a token that expired an hour ago.
    ExpiredToken,
    /// The pod sends a token for sts.amazonaws.com, as IRSA's are.
    WrongAudience,
    /// Nobody made an association.
    NoAssociation,
    /// The role's trust policy names a role of another account.
    TrustNamesOtherAccount,
}

impl fmt::Display for Breakage {
    /// Its name, as `--break` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

impl Breakage {
    /// What was done, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::NoTagSession => "the role's trust policy allows sts:AssumeRole, but not sts:TagSession",
            Self::WrongNamespace => {
                "the role's trust policy asks for aws:RequestTag/kubernetes-namespace \"some-other-namespace\""
            }
            Self::ExpiredToken => "the pod sends a token that expired an hour ago",
            Self::WrongAudience => "the pod sends a token for the audience sts.amazonaws.com",
            Self::NoAssociation => "the associations were taken away",
            Self::TrustNamesOtherAccount => "the role's trust policy names a role of account 999988887777",
        }
    }

    /// Whether it changes the role's trust policy.
    pub fn changes_trust(self) -> bool {
        matches!(self, Self::NoTagSession | Self::WrongNamespace | Self::TrustNamesOtherAccount)
    }

    /// Breaks a world file that has been read as JSON. `role` is the one that the pod would get, and
    /// `principal` the one that assumes it, as a trust policy names it.
    pub fn apply_to_file(self, file: &mut Value, role: &RoleArn, principal: &Value) {
        let both = json!(["sts:AssumeRole", "sts:TagSession"]);
        let statement = match self {
            Self::NoTagSession => json!({"Principal": principal, "Action": "sts:AssumeRole"}),
            Self::WrongNamespace => json!({
                "Principal": principal,
                "Action": both,
                "Condition": {
                    "StringEquals": {"aws:RequestTag/kubernetes-namespace": "some-other-namespace"}
                },
            }),
            Self::TrustNamesOtherAccount => {
                json!({"Principal": {"AWS": "arn:aws:iam::999988887777:role/pod-identity-auth"}, "Action": both})
            }
            Self::NoAssociation => {
                file["associations"] = json!([]);
                return;
            }
            Self::ExpiredToken | Self::WrongAudience => return,
        };
        let mut statement = statement;
        statement["Effect"] = json!("Allow");
        let roles = file["roles"].as_array_mut().into_iter().flatten();
        for entry in roles.filter(|entry| entry["arn"] == role.as_str()) {
            entry["trust"] = json!({"Version": "2012-10-17", "Statement": [statement.clone()]});
        }
    }

    /// Breaks what the issuer is asked to sign.
    pub fn apply_to_token(self, request: &mut TokenRequest, now: SystemTime) {
        const HOUR: Duration = Duration::from_secs(3600);
        match self {
            Self::ExpiredToken => {
                request.expires_at = now - HOUR;
                (request.issued_at, request.not_before) = (now - 2 * HOUR, now - 2 * HOUR);
            }
            Self::WrongAudience => request.audiences = vec!["sts.amazonaws.com".to_owned()],
            _ => {}
        }
    }
}

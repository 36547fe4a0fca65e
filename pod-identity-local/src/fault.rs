//! Fault injection: common faults of real clusters.

use std::fmt;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use pod_identity_core::arn::RoleArn;
use serde_json::{Value, json};

use crate::issuer::TokenRequest;

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The role's trust policy allows sts:AssumeRole, but not sts:TagSession.
    NoTagSession,
    /// The role's trust policy requires another namespace than the pod's.
    WrongNamespace,
    /// The pod sends a token that expired an hour ago.
    ExpiredToken,
    /// The pod sends a token for the audience sts.amazonaws.com, the audience of IRSA.
    WrongAudience,
    /// The service account has no association.
    NoAssociation,
    /// The role's trust policy names a role of another AWS account.
    TrustNamesOtherAccount,
}

impl fmt::Display for Fault {
    /// Writes the value of `--break`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// Returns a description for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::NoTagSession => "the role's trust policy allows sts:AssumeRole, but not sts:TagSession",
            Self::WrongNamespace => {
                "the role's trust policy requires aws:RequestTag/kubernetes-namespace \"some-other-namespace\""
            }
            Self::ExpiredToken => "the pod sends a token that expired an hour ago",
            Self::WrongAudience => "the pod sends a token for the audience sts.amazonaws.com",
            Self::NoAssociation => "the associations are removed",
            Self::TrustNamesOtherAccount => {
                "the role's trust policy names a role of AWS account 999988887777"
            }
        }
    }

    /// Whether the fault changes the role's trust policy.
    pub fn changes_trust(self) -> bool {
        matches!(self, Self::NoTagSession | Self::WrongNamespace | Self::TrustNamesOtherAccount)
    }

    /// Injects the fault into a fixture file that was read as JSON. `role` is the pod's role. `principal` is the
    /// `Principal` element for the caller that assumes it.
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

    /// Injects the fault into a token request.
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

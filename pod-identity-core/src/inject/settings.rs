//! What is injected: names, paths, audiences and lifetimes, with the defaults of AWS's webhook.

use std::fmt;

use crate::arn::{AccountId, Partition, RoleArn};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is injected where nothing else is said. The defaults are those of AWS's webhook (its `main.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the annotations of accounts and pods begin with, before the `/`.
    pub annotation_prefix: String,
    /// The token for Pod Identity.
    pub pod_identity: TokenProjection,
    /// Where SDKs ask for the credentials of Pod Identity.
    pub full_uri: String,
    /// The token for IRSA.
    pub web_identity: TokenProjection,
    /// How long tokens live where neither pod nor account says so; spread by chance if `None`.
    pub token_expiration: Option<TokenExpiration>,
    /// The region for containers that name none.
    pub region: Option<String>,
    /// Whether `AWS_STS_REGIONAL_ENDPOINTS=regional` is set where the account does not say.
    pub regional_sts: bool,
    /// The account that a role lies in which is given by its name alone; without it such a role is none.
    pub bare_roles: Option<(Partition, AccountId)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            annotation_prefix: "eks.amazonaws.com".to_owned(),
            pod_identity: TokenProjection {
                audience: "pods.eks.amazonaws.com".to_owned(),
                volume: "eks-pod-identity-token".to_owned(),
                mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
                file: "eks-pod-identity-token".to_owned(),
            },
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
            web_identity: TokenProjection {
                audience: "sts.amazonaws.com".to_owned(),
                volume: "aws-iam-token".to_owned(),
                mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
                file: "token".to_owned(),
            },
            token_expiration: None,
            region: None,
            regional_sts: false,
            bare_roles: None,
        }
    }
}

/// What a path segment of a URI may hold as it is (RFC 3986, 3.3), and `/`: the ARN keeps its form.
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl Settings {
    /// An annotation's whole key.
    pub(crate) fn annotation(&self, name: &str) -> String {
        format!("{}/{name}", self.annotation_prefix)
    }

    /// Where SDKs ask the agent for the credentials of a role by IRSA: at the agent of [`Self::full_uri`],
    /// under `/v1/roles/`.
    pub fn role_uri(&self, role: &RoleArn) -> String {
        format!("{}{}", self.roles_uri(), utf8_percent_encode(role.as_str(), NOT_IN_PATH))
    }

    pub(crate) fn roles_uri(&self) -> String {
        let after_scheme = self.full_uri.find("://").map_or(0, |at| at + "://".len());
        let end = self.full_uri[after_scheme..].find('/').map_or(self.full_uri.len(), |at| after_scheme + at);
        format!("{}/v1/roles/", &self.full_uri[..end])
    }
}

/// A service account token that kubelet writes into a pod, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenProjection {
    /// For whom the token is.
    pub audience: String,
    /// The name of the pod's volume.
    pub volume: String,
    /// Where containers see the volume.
    pub mount_path: String,
    /// The token's file in it.
    pub file: String,
}

impl TokenProjection {
    /// The token's file as a container's process sees it.
    pub(crate) fn token_file(&self, windows: bool) -> String {
        let path = format!("{}/{}", self.mount_path.trim_end_matches('/'), self.file);
        if windows { format!("C:{}", path.replace('/', "\\")) } else { path }
    }
}

/// How long a projected token lives, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenExpiration(u32);

impl TokenExpiration {
    /// The least that Kubernetes takes (API reference, `ServiceAccountTokenProjection`).
    pub const MIN: u32 = 600;
    /// The most that EKS gives, and AWS's default.
    pub const MAX: u32 = 86_400;
    /// Where AWS's webhook begins to spread the default.
    const SPREAD_FROM: u32 = 79_200;

    /// The nearest lifetime that there is.
    pub fn nearest(seconds: i64) -> Self {
        let within = seconds.clamp(i64::from(Self::MIN), i64::from(Self::MAX));
        Self(u32::try_from(within).unwrap_or(Self::MAX))
    }

    /// The default: 22 to 24 hours by chance, so that the tokens of pods that started together are not all
    /// renewed together.
    pub fn spread(random: u32) -> Self {
        Self(Self::SPREAD_FROM + random % (Self::MAX - Self::SPREAD_FROM + 1))
    }

    /// The seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TokenExpiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_asked_for_at_the_agent_of_the_full_uri() {
        let role: RoleArn = "arn:aws:iam::111122223333:role/team%20a/x?#/app".parse().unwrap();
        for (full_uri, expected) in [
            ("http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/roles/"),
            ("http://[fd00:ec2::23]/v1/credentials", "http://[fd00:ec2::23]/v1/roles/"),
            ("https://agent.example.com:8443", "https://agent.example.com:8443/v1/roles/"),
        ] {
            let settings = Settings { full_uri: full_uri.to_owned(), ..Settings::default() };
            let escaped = "arn:aws:iam::111122223333:role/team%2520a/x%3F%23/app";
            assert_eq!(settings.role_uri(&role), format!("{expected}{escaped}"));
        }
    }

    #[test]
    fn lifetimes_stay_within_what_there_is() {
        for (asked, given) in
            [(i64::MIN, 600), (599, 600), (3600, 3600), (86_401, 86_400), (i64::MAX, 86_400)]
        {
            assert_eq!(TokenExpiration::nearest(asked).seconds(), given);
        }
        assert_eq!(TokenExpiration::spread(0).seconds(), 79_200);
        assert_eq!(TokenExpiration::spread(7200).seconds(), 86_400);
        assert_eq!(TokenExpiration::spread(7201).seconds(), 79_200);
        assert!((79_200..=86_400).contains(&TokenExpiration::spread(u32::MAX).seconds()));
    }

    #[test]
    fn a_windows_process_sees_the_token_on_its_drive() {
        let token = Settings::default().web_identity;
        assert_eq!(token.token_file(false), "/var/run/secrets/eks.amazonaws.com/serviceaccount/token");
        assert_eq!(token.token_file(true), r"C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token");
    }
}

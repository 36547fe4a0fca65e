//! The credentials of a role session, and the JSON that SDKs read.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::arn::{AccountId, AssumedRoleArn};
use crate::cache::Expires;

/// Temporary AWS credentials: they never print, and are overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionCredentials {
    /// The access key id, which is no secret: logs and audits name it.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// The session token.
    pub session_token: Zeroizing<String>,
    /// When they end.
    pub expires_at: SystemTime,
    /// The account of the session, where known.
    pub account: Option<AccountId>,
}

/// A member of an answer that is not there, though AWS always gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing")]
pub struct MissingMember(pub &'static str);

/// Credentials that the JSON for SDKs cannot hold: its times end with the year 9999 (RFC 3339).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credentials cannot be written as JSON: {0}")]
pub struct UnwritableCredentials(String);

impl SessionCredentials {
    /// Credentials of a session whose account is not known.
    pub fn new(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: impl Into<String>,
        expires_at: SystemTime,
    ) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Zeroizing::new(secret_access_key.into()),
            session_token: Zeroizing::new(session_token.into()),
            expires_at,
            account: None,
        }
    }

    /// Credentials as an AWS SDK read them from an answer of STS or EKS Auth. The SDK fills what a server
    /// left out with empty texts and the year 1970, so that a broken answer looks like a whole one.
    ///
    /// # Errors
    /// [`MissingMember`]: one that AWS always gives. What has no session's ARN has no known account.
    pub fn of_answer(
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        expires_at: Option<SystemTime>,
        session: Option<&AssumedRoleArn>,
    ) -> Result<Self, MissingMember> {
        let (secret_access_key, session_token) =
            (Zeroizing::new(secret_access_key), Zeroizing::new(session_token));
        let expires_at = expires_at.unwrap_or(SystemTime::UNIX_EPOCH);
        let members = [
            ("accessKeyId", access_key_id.is_empty()),
            ("secretAccessKey", secret_access_key.is_empty()),
            ("sessionToken", session_token.is_empty()),
            ("expiration", expires_at <= SystemTime::UNIX_EPOCH),
        ];
        if let Some((name, _)) = members.into_iter().find(|(_, missing)| *missing) {
            return Err(MissingMember(name));
        }
        let account = session.map(|session| session.account().clone());
        Ok(Self { access_key_id, secret_access_key, session_token, expires_at, account })
    }

    /// The answer to an SDK's container credentials provider.
    ///
    /// All five members, `Expiration` in RFC 3339 ending in `Z`: the JavaScript and Rust SDKs refuse
    /// an offset, and Python's needs the member (AWS SDKs and Tools reference, *Container credential
    /// provider*).
    ///
    /// # Errors
    /// [`UnwritableCredentials`] where `expires_at` lies outside the years that can be written.
    pub fn to_container_json(&self) -> Result<Zeroizing<Vec<u8>>, UnwritableCredentials> {
        let expires_at = jiff::Timestamp::try_from(self.expires_at).map_err(UnwritableCredentials::of)?;
        let body = ContainerCredentials {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            token: &self.session_token,
            account_id: self.account.as_ref(),
            expiration: format!("{expires_at:.0}"),
        };
        // Room for all of it: a buffer that grows leaves copies of the secrets behind.
        let mut json =
            Zeroizing::new(Vec::with_capacity(512 + self.session_token.len() + self.secret_access_key.len()));
        serde_json::to_writer(&mut *json, &body).map_err(UnwritableCredentials::of)?;
        Ok(json)
    }
}

impl UnwritableCredentials {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Expires for SessionCredentials {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

impl fmt::Debug for SessionCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerCredentials<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a AccountId>,
    expiration: String,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn credentials() -> SessionCredentials {
        SessionCredentials {
            access_key_id: "ASIAEXAMPLE".to_owned(),
            secret_access_key: Zeroizing::new("top-secret".to_owned()),
            session_token: Zeroizing::new("secret-token".to_owned()),
            expires_at: UNIX_EPOCH + Duration::from_millis(1_795_327_200_900),
            account: Some("011122223333".parse().unwrap()),
        }
    }

    #[test]
    fn the_json_has_the_members_that_sdks_read() {
        let json: serde_json::Value =
            serde_json::from_slice(&credentials().to_container_json().unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "AccessKeyId": "ASIAEXAMPLE",
                "SecretAccessKey": "top-secret",
                "Token": "secret-token",
                "AccountId": "011122223333",
                "Expiration": "2026-11-22T06:00:00Z",
            })
        );
    }

    #[test]
    fn an_answer_that_lacks_a_member_is_no_credentials() {
        let session = "arn:aws:sts::111122223333:assumed-role/app/session".parse().unwrap();
        let answer = |key: &str, secret: &str, token: &str, seconds| {
            let expires_at = Some(UNIX_EPOCH + Duration::from_secs(seconds));
            let text = str::to_owned;
            SessionCredentials::of_answer(text(key), text(secret), text(token), expires_at, Some(&session))
        };
        let whole = answer("a", "b", "c", 1).unwrap();
        assert_eq!(whole.account.unwrap().as_str(), "111122223333");
        assert_eq!(answer("", "b", "c", 1).unwrap_err(), MissingMember("accessKeyId"));
        assert_eq!(answer("a", "", "c", 1).unwrap_err(), MissingMember("secretAccessKey"));
        assert_eq!(answer("a", "b", "", 1).unwrap_err(), MissingMember("sessionToken"));
        assert_eq!(answer("a", "b", "c", 0).unwrap_err(), MissingMember("expiration"));
    }

    #[test]
    fn an_end_that_cannot_be_written_is_an_error_without_secrets() {
        let year_10000 = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        let error = SessionCredentials { expires_at: year_10000, ..credentials() }.to_container_json();
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("the credentials cannot be written as JSON: "), "{text}");
        assert!(!text.contains("secret"), "{text}");
        let last = SessionCredentials {
            expires_at: UNIX_EPOCH + Duration::from_secs(253_402_207_200),
            ..credentials()
        };
        assert!(last.to_container_json().unwrap().ends_with(br#""Expiration":"9999-12-30T22:00:00Z"}"#));
    }

    #[test]
    fn secrets_never_print() {
        let text = format!("{:?} {:#?}", credentials(), Some(credentials()));
        assert!(
            text.contains("ASIAEXAMPLE") && !text.contains("secret-token") && !text.contains("top-secret")
        );
    }
}

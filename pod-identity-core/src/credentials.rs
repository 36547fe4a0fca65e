//! The credentials of a role session, and the JSON that SDKs read.

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::arn::{AccountId, AssumedRoleArn};
use crate::time::Expires;

/// Credentials of a role session. They are never printed, and they are zeroed when dropped.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use pod_identity_core::credentials::SessionCredentials;
///
/// let expires_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_334_400);
/// let credentials = SessionCredentials::new("ASIAEXAMPLE", "secret", "token", expires_at);
/// assert_eq!(credentials.access_key_id(), "ASIAEXAMPLE");
/// assert!(!format!("{credentials:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionCredentials {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Zeroizing<String>,
    expires_at: SystemTime,
    account: Option<AccountId>,
    assumed_role: Option<AssumedRole>,
}

/// The assumed role of a session (STS, `AssumedRoleUser`).
///
/// ```
/// use pod_identity_core::credentials::AssumedRole;
///
/// let role = AssumedRole {
///     arn: "arn:aws:sts::111122223333:assumed-role/cart/demo".parse()?,
///     id: "AROAEXAMPLE:demo".to_owned(),
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumedRole {
    /// ARN of the session.
    pub arn: AssumedRoleArn,
    /// `<role id>:<session name>`.
    pub id: String,
}

/// Error of a response without a field that AWS always sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing")]
pub struct MissingField(pub &'static str);

/// Error of an expiry after the year 9999, which the JSON for SDKs cannot hold (RFC 3339).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credentials cannot be written as JSON: {0}")]
pub(crate) struct UnwritableCredentials(String);

impl SessionCredentials {
    /// Makes credentials of a session whose AWS account is unknown.
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
            assumed_role: None,
        }
    }

    /// Sets the AWS account of the session. The JSON for SDKs contains it.
    #[must_use]
    pub fn with_account(self, account: AccountId) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Sets the assumed role, and the AWS account of its ARN.
    #[must_use]
    pub fn with_assumed_role(self, assumed_role: AssumedRole) -> Self {
        let account = Some(assumed_role.arn.account().clone());
        Self { account, assumed_role: Some(assumed_role), ..self }
    }

    /// Returns the access key id. It is not secret, and it is in logs and audit lines.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// Returns the secret access key.
    pub fn secret_access_key(&self) -> &str {
        &self.secret_access_key
    }

    /// Returns the session token.
    pub fn session_token(&self) -> &str {
        &self.session_token
    }

    /// Returns the expiry.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Returns the AWS account of the session, if known.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// Returns the assumed role, if known.
    pub fn assumed_role(&self) -> Option<&AssumedRole> {
        self.assumed_role.as_ref()
    }

    /// Makes credentials from the fields of an SDK's response from STS or EKS Auth. The SDK replaces a missing field
    /// with an empty text or the year 1970, so an incomplete response looks complete.
    ///
    /// # Errors
    /// [`MissingField`] for a field that AWS always sends.
    pub fn from_response(
        access_key_id: String,
        secret_access_key: String,
        session_token: String,
        expires_at: Option<SystemTime>,
    ) -> Result<Self, MissingField> {
        let expires_at = expires_at.unwrap_or(SystemTime::UNIX_EPOCH);
        let credentials = Self::new(access_key_id, secret_access_key, session_token, expires_at);
        credentials.check().map(|()| credentials)
    }

    /// Checks that no field is empty.
    pub(crate) fn check(&self) -> Result<(), MissingField> {
        let members = [
            ("accessKeyId", self.access_key_id.is_empty()),
            ("secretAccessKey", self.secret_access_key.is_empty()),
            ("sessionToken", self.session_token.is_empty()),
            ("expiration", self.expires_at <= SystemTime::UNIX_EPOCH),
        ];
        match members.into_iter().find(|(_, missing)| *missing) {
            Some((name, _)) => Err(MissingField(name)),
            None => Ok(()),
        }
    }

    /// Returns whether the JSON for SDKs can hold the expiry.
    #[cfg_attr(not(feature = "service"), allow(dead_code))]
    pub(crate) fn is_writable(&self) -> bool {
        jiff::Timestamp::try_from(self.expires_at).is_ok()
    }

    /// Writes the JSON for the container credentials provider of SDKs.
    ///
    /// It has all five fields. `Expiration` is in RFC 3339 and ends in `Z`, because the SDKs for JavaScript and Rust
    /// refuse an offset (AWS SDKs and Tools reference, *Container credential provider*).
    #[cfg_attr(not(feature = "service"), allow(dead_code))]
    pub(crate) fn to_container_json(&self) -> Result<Zeroizing<Vec<u8>>, UnwritableCredentials> {
        let expires_at = jiff::Timestamp::try_from(self.expires_at).map_err(UnwritableCredentials::of)?;
        let body = ContainerCredentials {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            token: &self.session_token,
            account_id: self.account.as_ref(),
            expiration: format!("{expires_at:.0}"),
        };
        // The full capacity at once, because a buffer that grows leaves copies of the secrets behind.
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
        let expires_at = UNIX_EPOCH + Duration::from_millis(1_795_327_200_900);
        SessionCredentials::new("ASIAEXAMPLE", "top-secret", "secret-token", expires_at)
            .with_account("011122223333".parse().unwrap())
    }

    #[test]
    fn json_has_fields_that_sdks_read() {
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
    fn rejects_response_without_required_field() {
        let answer = |key: &str, secret: &str, token: &str, seconds| {
            let expires_at = Some(UNIX_EPOCH + Duration::from_secs(seconds));
            let text = str::to_owned;
            SessionCredentials::from_response(text(key), text(secret), text(token), expires_at)
        };
        let arn = "arn:aws:sts::111122223333:assumed-role/app/session".parse().unwrap();
        let whole = answer("a", "b", "c", 1).unwrap();
        let whole = whole.with_assumed_role(AssumedRole { arn, id: "AROA:session".to_owned() });
        assert_eq!(whole.account().unwrap().as_str(), "111122223333");
        assert_eq!(answer("", "b", "c", 1).unwrap_err(), MissingField("accessKeyId"));
        assert_eq!(answer("a", "", "c", 1).unwrap_err(), MissingField("secretAccessKey"));
        assert_eq!(answer("a", "b", "", 1).unwrap_err(), MissingField("sessionToken"));
        assert_eq!(answer("a", "b", "c", 0).unwrap_err(), MissingField("expiration"));
    }

    #[test]
    fn expiry_after_year_9999_is_error_without_secrets() {
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
    fn secrets_are_never_printed() {
        let text = format!("{:?} {:#?}", credentials(), Some(credentials()));
        assert!(
            text.contains("ASIAEXAMPLE") && !text.contains("secret-token") && !text.contains("top-secret")
        );
    }
}

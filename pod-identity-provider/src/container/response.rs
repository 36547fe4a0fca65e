//! Parsing of responses.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use http_body_util::BodyExt as _;
use pod_identity_core::backoff::retry_after;
use pod_identity_core::json;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::attempt_error::AttemptError;
use super::authorization::Token;
use super::json_field::JsonField;
use super::refusal;
use crate::error::Failure;

/// The longest accepted response body. A response with credentials has about 2 KiB.
const MAX_LENGTH: usize = 64 * 1024;

/// The provider name in the credentials.
const PROVIDER_NAME: &str = "PodIdentity";

/// Reads and parses a response. Only status 200 counts as success, as in botocore and the SDK for JavaScript.
pub(super) async fn read(response: HttpResponse, token: Option<&Token>) -> Result<Credentials, AttemptError> {
    let status = response.status().as_u16();
    let retry_after = retry_after_header(&response);
    let body = body(response).await?;
    match status {
        200 => Ok(credentials(&body, token)?),
        _ => Err(AttemptError::Failure { failure: refusal::read(status, &body, token), retry_after }),
    }
}

/// Returns the pause of the `Retry-After` header.
fn retry_after_header(response: &HttpResponse) -> Option<Duration> {
    retry_after(std::str::from_utf8(response.headers().get_bytes("retry-after")?).ok()?)
}

async fn body(response: HttpResponse) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Reserve the full capacity, because a growing buffer leaves copies of the secrets in memory.
    let mut all = Zeroizing::new(Vec::with_capacity(MAX_LENGTH));
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::of_connection(&*error))?;
        let Some(data) = frame.data_ref() else { continue };
        if data.len() > MAX_LENGTH - all.len() {
            return Err(Failure::Malformed { reason: format!("it has more than {MAX_LENGTH} bytes") });
        }
        all.extend_from_slice(data);
    }
    Ok(all)
}

/// The fields that AWS's SDKs read (AWS SDKs and Tools reference, *Container credential provider*). Others are ignored.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "AccessKeyId", default)]
    access_key_id: JsonField,
    #[serde(rename = "SecretAccessKey", default)]
    secret_access_key: JsonField,
    #[serde(rename = "Token", default)]
    token: JsonField,
    #[serde(rename = "Expiration", default)]
    expiration: JsonField,
    #[serde(rename = "AccountId", default)]
    account_id: JsonField,
    #[serde(rename = "Code", default)]
    code: JsonField,
    #[serde(rename = "Message", default)]
    message: JsonField,
}

fn credentials(json: &[u8], token: Option<&Token>) -> Result<Credentials, Failure> {
    let body: Body = json::from_slice(json)
        .map_err(|error| malformed(refusal::redacted_line(&error.to_string(), token)))?;
    // Some agents send a refusal with status 200. Others send the code `Success` with credentials.
    if let Some(code) = body.code.text().filter(|code| *code != "Success") {
        return Err(refusal::refusal_with_code(200, code, body.message.text().unwrap_or_default(), token));
    }
    let access_key_id = body.access_key_id.required("AccessKeyId").map_err(malformed)?;
    let secret_access_key = body.secret_access_key.required("SecretAccessKey").map_err(malformed)?;
    let session_token = body.token.required("Token").map_err(malformed)?;
    let expires_at = expiration(&body.expiration.required("Expiration").map_err(malformed)?)?;
    let mut builder = Credentials::builder()
        .access_key_id(&*access_key_id)
        .secret_access_key(&*secret_access_key)
        .session_token(&*session_token)
        .expiry(expires_at)
        .provider_name(PROVIDER_NAME);
    if let Some(account_id) = body.account_id.optional("AccountId").map_err(malformed)? {
        builder = builder.account_id(&*account_id);
    }
    let mut credentials = builder.build();
    credentials
        .get_property_mut_or_default::<Vec<AwsCredentialFeature>>()
        .push(AwsCredentialFeature::CredentialsHttp);
    Ok(credentials)
}

/// Parses an RFC 3339 time with `Z` or any offset. The EKS agents send `Z`. Other endpoints send `+00:00`, or `+0000` in
/// Java's old format.
fn expiration(text: &str) -> Result<SystemTime, Failure> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| malformed("Expiration is not a time of RFC 3339".to_owned()))?;
    Ok(time.into())
}

fn malformed(reason: String) -> Failure {
    Failure::Malformed { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires(text: &str) -> Option<u64> {
        let time = expiration(text).ok()?;
        Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn rejects_credentials_in_an_array() {
        let end = "2026-11-22T06:00:00Z";
        let object = format!(
            r#"{{"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": "{end}"}}"#
        );
        assert!(credentials(object.as_bytes(), None).is_ok());
        let array = format!(r#"["ASIA", "s", "t", "{end}", null, null, null]"#);
        for json in [array.as_str(), "7", "null", r#""text""#] {
            let error = credentials(json.as_bytes(), None).unwrap_err();
            assert!(matches!(error, Failure::Malformed { .. }), "{json}: {error:?}");
        }
    }

    #[test]
    fn expiration_must_have_an_offset() {
        for text in [
            "2026-11-22T06:00:00Z",
            "2026-11-22T06:00:00.123456789Z",
            "2026-11-22T06:00:00+00:00",
            "2026-11-22T06:00:00+0000",
            "2026-11-22T07:30:00+01:30",
            "2026-11-21T22:00:00-0800",
        ] {
            assert_eq!(expires(text), Some(1_795_327_200), "{text}");
        }
        for text in ["2026-11-22T06:00:00", "2026-11-22", "1795327200", "soon", "2026-13-22T06:00:00Z"] {
            assert_eq!(expires(text), None, "{text}");
        }
    }
}

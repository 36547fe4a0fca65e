//! Verification of AWS Signature Version 4.
//!
//! The rules are those of the IAM user guide, *AWS API request signatures* (create a signed request), for services
//! other than S3. Where all clients behave alike, the verification is strict. It accepts only the `Authorization`
//! header: a signature in the query string would appear in logs of proxies, and no supported client makes one.
//!
//! A signature does not protect the parts of a request that it does not cover. Therefore every `x-amz-*` header and the
//! content type must be signed.
//!
//! Two requests have the same signature if AWS defines the same canonical form for them. They may differ in the case of
//! percent-encoding (`%2b`, `%2B`), in the order of parameters with different names, in dot segments and repeated
//! slashes of the path, and in the number of spaces in a header. A handler must not depend on these differences.

mod authorization;
mod canonical;
mod error;
mod header;
mod signing_time;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, DATE, HOST, HeaderName};
use http::request::Parts;
use zeroize::Zeroizing;

pub use error::SigV4Error;

use authorization::SignedAuthorization;
use canonical::hex;
use error::{SKEW_LIMIT, malformed};
use header::single;
use signing_time::SigningTime;

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A secret access key. It is zeroed on drop, and `Debug` redacts it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The signer of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    /// The access key id of the signature.
    pub access_key_id: String,
    /// The region that the request was signed for.
    pub region: String,
    /// The signed session token. The caller must check that it belongs to the key.
    pub session_token: Option<String>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .field("session_token", &self.session_token.as_ref().map(|_| "redacted"))
            .finish()
    }
}

/// Verifies the signature of a request and returns its signer.
///
/// `secret_of` returns the secret of an access key id. With a `region`, the request must be signed for it. With `None`,
/// every region is valid. `body` is the whole body as received.
///
/// # Errors
///
/// [`SigV4Error`]. Its message has the cause and the fix, but no secret and no value of a header.
pub fn verify(
    parts: &Parts,
    body: &[u8],
    service: &str,
    region: Option<&str>,
    secret_of: impl Fn(&str) -> Option<Secret>,
    now: SystemTime,
) -> Result<Signer, SigV4Error> {
    if canonical::is_presigned(parts.uri.query().unwrap_or_default()) {
        return Err(SigV4Error::Presigned);
    }
    let authorization = SignedAuthorization::of(&parts.headers)?;
    let signed_at = SigningTime::of(&parts.headers)?;
    check_scope(&authorization, &signed_at, service, region)?;
    check_skew(signed_at.time, now)?;
    check_signed_headers(&parts.headers, &authorization, &signed_at)?;
    let session_token = session_token(&parts.headers)?;
    let payload = hex(digest::digest(&digest::SHA256, body).as_ref());
    check_payload(&parts.headers, &payload)?;

    let request = canonical::request(parts, &authorization.signed_headers, &payload)?;
    let secret = secret_of(authorization.access_key_id).ok_or(SigV4Error::UnknownAccessKey)?;
    let key = signing_key(&secret, &authorization);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{}/{}/{}/aws4_request\n{}",
        signed_at.text,
        authorization.date,
        authorization.region,
        authorization.service,
        hex(digest::digest(&digest::SHA256, &request).as_ref()),
    );
    // `hmac::verify` compares in constant time.
    hmac::verify(&key, to_sign.as_bytes(), &authorization.signature)
        .map_err(|_| SigV4Error::SignatureMismatch)?;
    Ok(Signer {
        access_key_id: authorization.access_key_id.to_owned(),
        region: authorization.region.to_owned(),
        session_token,
    })
}

fn check_scope(
    authorization: &SignedAuthorization<'_>,
    signed_at: &SigningTime,
    service: &str,
    region: Option<&str>,
) -> Result<(), SigV4Error> {
    let region = region.unwrap_or(authorization.region);
    for (part, expected, found) in [
        ("service", service, authorization.service),
        ("region", region, authorization.region),
        ("date", signed_at.day(), authorization.date),
    ] {
        if expected != found {
            return Err(SigV4Error::WrongScope {
                part,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}

fn check_skew(signed_at: SystemTime, now: SystemTime) -> Result<(), SigV4Error> {
    let (ahead, apart) = match signed_at.duration_since(now) {
        Ok(apart) => (true, apart),
        Err(behind) => (false, behind.duration()),
    };
    if apart > SKEW_LIMIT { Err(SigV4Error::Skewed { ahead, seconds: apart.as_secs() }) } else { Ok(()) }
}

/// Requires a signature over `Host`, the content type, every `x-amz-*` header, and `Date` if it is the signing time.
fn check_signed_headers(
    headers: &HeaderMap,
    authorization: &SignedAuthorization<'_>,
    signed_at: &SigningTime,
) -> Result<(), SigV4Error> {
    let is_signed = |name: &str| authorization.signed_headers.contains(&name);
    let must_be_signed = |name: &HeaderName| {
        name == CONTENT_TYPE
            || name.as_str().starts_with("x-amz-")
            || (name == DATE && signed_at.from_date_header)
    };
    let unsigned = headers.keys().filter(|name| must_be_signed(name)).find(|name| !is_signed(name.as_str()));
    match unsigned {
        Some(name) => Err(SigV4Error::UnsignedHeader(name.to_string())),
        None if !is_signed(HOST.as_str()) => Err(SigV4Error::UnsignedHeader(HOST.to_string())),
        None => Ok(()),
    }
}

fn session_token(headers: &HeaderMap) -> Result<Option<String>, SigV4Error> {
    let Some(value) = single(headers, &X_AMZ_SECURITY_TOKEN)? else { return Ok(None) };
    let text = value.to_str().map_err(|_| malformed("x-amz-security-token is not printable ASCII"))?;
    Ok(Some(text.to_owned()))
}

fn check_payload(headers: &HeaderMap, payload: &str) -> Result<(), SigV4Error> {
    let Some(value) = single(headers, &X_AMZ_CONTENT_SHA256)? else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    if text == payload {
        return Ok(());
    }
    let is_digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_digest {
        return Err(SigV4Error::PayloadMismatch);
    }
    // The message contains AWS's markers (UNSIGNED-PAYLOAD, STREAMING-...), but no other value.
    let marker =
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_uppercase() || b"-0123456789".contains(&b));
    Err(SigV4Error::UnsignedPayload(if marker { text.to_owned() } else { "unknown text".to_owned() }))
}

/// Derives the signing key for a day, region and service with four HMACs, one for each part of the scope.
fn signing_key(secret: &Secret, scope: &SignedAuthorization<'_>) -> hmac::Key {
    let mut initial = Zeroizing::new(Vec::with_capacity(4 + secret.0.len()));
    initial.extend_from_slice(b"AWS4");
    initial.extend_from_slice(secret.0.as_bytes());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &initial);
    for part in [scope.date, scope.region, scope.service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

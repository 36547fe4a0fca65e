//! Parser of the `Authorization` header of a signed request.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::error::{SigV4Error, malformed};
use super::header::single;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The parts of the header: access key id, scope, signed headers and signature.
#[derive(Debug)]
pub(super) struct SignedAuthorization<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// Lower-case, in strictly ascending order.
    pub(super) signed_headers: Vec<&'a str>,
    pub(super) signature: [u8; 32],
}

impl<'a> SignedAuthorization<'a> {
    /// Parses the header: `AWS4-HMAC-SHA256`, then `Credential=<key>/<day>/<region>/<service>/aws4_request`,
    /// `SignedHeaders=<a;b>` and `Signature=<hex>`, separated by commas.
    ///
    /// No message contains the header's value, because it may be a bearer token.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, SigV4Error> {
        let value = single(headers, &AUTHORIZATION)?.ok_or(SigV4Error::Missing)?;
        let text =
            value.to_str().map_err(|_| malformed("the Authorization header is not printable ASCII"))?;
        let fields =
            text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| {
                malformed("the Authorization header's scheme is not AWS4-HMAC-SHA256, the only supported one")
            })?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim_matches(' ')
                .split_once('=')
                .ok_or_else(|| malformed("a part of the Authorization header is not name=value"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("the Authorization header has a part that SigV4 does not define")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed(format!("the Authorization header names {name} twice")));
            }
        }
        let absent = |name| move || malformed(format!("the Authorization header has no {name}="));
        let credential = credential.ok_or_else(absent("Credential"))?;
        let signed_headers = signed_headers.ok_or_else(absent("SignedHeaders"))?;
        let signature = signature.ok_or_else(absent("Signature"))?;

        let [access_key_id, date, region, service] = scope(credential)?;
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            signed_headers: header_names(signed_headers)?,
            signature: signature_bytes(signature)?,
        })
    }
}

fn scope(credential: &str) -> Result<[&str; 4], SigV4Error> {
    let invalid =
        || malformed("Credential= is not <access key id>/<yyyymmdd>/<region>/<service>/aws4_request");
    let parts: Vec<&str> = credential.split('/').collect();
    let &[access_key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
        return Err(invalid());
    };
    // STS's pattern for an access key id is `[\w]*` with at most 128 characters. Regions and services are host labels.
    let is_key = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_label = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let fits = (1..=128).contains(&access_key_id.len())
        && is_key(access_key_id)
        && date.len() == 8
        && date.bytes().all(|b| b.is_ascii_digit())
        && [region, service].iter().all(|text| (1..=63).contains(&text.len()) && is_label(text));
    if fits { Ok([access_key_id, date, region, service]) } else { Err(invalid()) }
}

fn header_names(list: &str) -> Result<Vec<&str>, SigV4Error> {
    let names: Vec<&str> = list.split(';').collect();
    // RFC 9110 token characters, without capitals.
    let is_name = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if !names.iter().all(is_name) {
        return Err(malformed("SignedHeaders= is not a list of lower-case header names separated by ';'"));
    }
    if !names.is_sorted_by(|a, b| a < b) {
        return Err(malformed("SignedHeaders= is not sorted, or names a header twice"));
    }
    if names.contains(&AUTHORIZATION.as_str()) {
        return Err(malformed("SignedHeaders= names authorization, which contains the signature itself"));
    }
    Ok(names)
}

fn signature_bytes(text: &str) -> Result<[u8; 32], SigV4Error> {
    let invalid = || malformed("Signature= is not 64 lower-case hexadecimal digits");
    let digit = |b: u8| match b {
        b'0'..=b'9' => Ok(b - b'0'),
        b'a'..=b'f' => Ok(b - b'a' + 10),
        _ => Err(invalid()),
    };
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return Err(invalid());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

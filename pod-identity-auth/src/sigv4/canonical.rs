//! The canonical request, which a signature covers.

use http::header::HOST;
use http::request::Parts;
use percent_encoding::percent_decode;

use super::error::{SigV4Error, malformed};
use super::header::single;

/// Writes the canonical request of `parts` with these signed headers and this payload hash.
pub(super) fn request(parts: &Parts, signed_headers: &[&str], payload: &str) -> Result<Vec<u8>, SigV4Error> {
    if !parts.uri.path().starts_with('/') {
        return Err(malformed("the request's target is not a path: send it in origin form"));
    }
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(path(parts.uri.path()).as_bytes());
    out.push(b'\n');
    out.extend_from_slice(query(parts.uri.query().unwrap_or_default()).as_bytes());
    out.push(b'\n');
    for name in signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        if *name == HOST.as_str() {
            push_trimmed(&mut out, host(parts)?);
        } else {
            push_values(&mut out, parts, name)?;
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    Ok(out)
}

/// Removes dot segments and repeated slashes from a path and encodes it once more: `%20` becomes `%2520`, as for every
/// service but S3.
fn path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            kept => segments.push(kept),
        }
    }
    // RFC 3986, section 5.2.4: a path that ends in a slash or a dot segment names a directory.
    let directory = matches!(raw.rsplit('/').next(), Some("" | "." | ".."));
    let mut out = String::with_capacity(raw.len() + 8);
    for segment in &segments {
        out.push('/');
        encode(&mut out, segment.as_bytes());
    }
    if directory || segments.is_empty() {
        out.push('/');
    }
    out
}

/// Decodes the parameters, encodes them in AWS's form, and sorts them by name and value.
///
/// It decodes to bytes: a replacement of invalid UTF-8 would give different requests the same form.
fn query(raw: &str) -> String {
    let mut parameters: Vec<(String, String)> = parameters(raw)
        .map(|(name, value)| {
            let (mut encoded_name, mut encoded_value) = (String::new(), String::new());
            encode(&mut encoded_name, &name);
            encode(&mut encoded_value, &value);
            (encoded_name, encoded_value)
        })
        .collect();
    parameters.sort_unstable();
    let pairs: Vec<String> = parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Whether the query contains a signature.
pub(super) fn is_presigned(raw: &str) -> bool {
    const SIGNATURE: [&[u8]; 3] = [b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Signature"];
    parameters(raw).any(|(name, _)| SIGNATURE.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// Decodes names and values as handlers do (form decoding of the URL standard: `+` is a space).
fn parameters(raw: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect();
    raw.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// Percent-encodes all characters but RFC 3986's unreserved ones, with upper-case digits.
fn encode(out: &mut String, bytes: &[u8]) {
    for &b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            let digits = [b >> 4, b & 15].map(|digit| HEX_DIGITS[usize::from(digit)].to_ascii_uppercase());
            out.extend(digits.map(char::from));
        }
    }
}

/// Returns the host of the `Host` header, or of the request target if there is no header (HTTP/2).
fn host(parts: &Parts) -> Result<&[u8], SigV4Error> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (single(&parts.headers, &HOST)?, authority) {
        (Some(header), Some(authority)) if header.as_bytes() != authority => {
            Err(malformed("the Host header and the request's target name different hosts"))
        }
        (Some(header), _) => Ok(header.as_bytes()),
        (None, Some(authority)) => Ok(authority),
        (None, None) => Err(malformed("the request names no host: send a Host header")),
    }
}

fn push_values(out: &mut Vec<u8>, parts: &Parts, name: &str) -> Result<(), SigV4Error> {
    let mut any = false;
    for value in parts.headers.get_all(name) {
        if any {
            out.push(b',');
        }
        any = true;
        push_trimmed(out, value.as_bytes());
    }
    if any {
        Ok(())
    } else {
        Err(malformed(format!("SignedHeaders= names {name:?}, which the request does not have")))
    }
}

/// Appends the value without spaces at its ends and with single spaces inside.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|b| *b == b' ').filter(|word| !word.is_empty());
    for (i, word) in words.enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|digit| char::from(HEX_DIGITS[usize::from(digit)]))
        .collect()
}

//! AWS Signature Version 4 on the server.

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::Request;
use http::request::Parts;
use pod_identity_auth::sigv4::{Secret, Signer, verify};

use crate::{input, now};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const OTHER_SECRET: &str = "another/secret+of/the+same/length/EXAMPLE";

/// The input is a request: `METHOD TARGET`, header lines, an empty line, the body. It verifies with at most one
/// secret. A request that AWS's signer signed may verify, but not with another secret, method or body.
pub fn sigv4(input: &[u8]) {
    let Some((head, body)) = input::head_and_body(input) else { return };
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else { return };
    let Ok(mut request) = Request::builder().method(method).uri(target).body(body.to_vec()) else { return };
    for (name, value) in input::headers(lines) {
        request.headers_mut().append(name, value);
    }

    let (parts, body) = request.clone().into_parts();
    let both = [SECRET, OTHER_SECRET].map(|secret| verified(&parts, &body, secret).is_some());
    assert_ne!(both, [true, true], "the signature verifies with two secrets");

    let Some(signed) = signed(request) else { return };
    let (parts, body) = signed.into_parts();
    let Some(signer) = verified(&parts, &body, SECRET) else { return };
    assert_eq!((signer.access_key_id.as_str(), signer.region.as_str()), (KEY, "eu-west-1"));
    assert!(verified(&parts, &body, OTHER_SECRET).is_none(), "it verifies with another secret");
    let longer = [&body[..], b" "].concat();
    assert!(verified(&parts, &longer, SECRET).is_none(), "it verifies with another body");
    let mut changed = parts.clone();
    changed.method = if parts.method == "GET" { http::Method::POST } else { http::Method::GET };
    assert!(verified(&changed, &body, SECRET).is_none(), "it verifies with another method");
    let mut changed = parts.clone();
    changed.headers.insert("x-amz-added", "later".parse().unwrap());
    assert!(verified(&changed, &body, SECRET).is_none(), "it verifies with an additional header");
}

fn verified(parts: &Parts, body: &[u8], secret: &str) -> Option<Signer> {
    let secret_of = |key: &str| (key == KEY).then(|| Secret::from(secret.to_owned()));
    verify(parts, body, "eks-auth", Some("eu-west-1"), secret_of, now()).ok()
}

/// Returns the request signed by AWS's signer, or `None` if it refuses.
fn signed(mut request: Request<Vec<u8>>) -> Option<Request<Vec<u8>>> {
    request.headers_mut().remove("authorization");
    let identity = aws_credential_types::Credentials::new(KEY, SECRET, None, None, "fuzz").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("eks-auth")
        .time(now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = request.uri().to_string();
    let mut headers = Vec::new();
    for (name, value) in request.headers() {
        headers.push((name.as_str(), value.to_str().ok()?));
    }
    // Without the header, AWS's signer reads the host from the URI, and it panics without a path.
    let has_host = request.headers().contains_key("host") || request.uri().authority().is_some();
    if !has_host || request.uri().path().is_empty() {
        return None;
    }
    let body = SignableBody::Bytes(request.body());
    let signable = SignableRequest::new(request.method().as_str(), uri, headers.into_iter(), body).ok()?;
    let (instructions, _) = sign(signable, &params).ok()?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Some(request)
}

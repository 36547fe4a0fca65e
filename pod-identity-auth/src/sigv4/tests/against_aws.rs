//! Properties of verification, with AWS's signer.

use http::HeaderValue;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Whole, check, request, sign};

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._~!$&'()*+,;=:@-]{1,8}",
        2 => select(vec!["", ".", "..", "%20", "%2F", "%C3%A4", "%25", "a%2fb"]).prop_map(str::to_owned),
    ]
}

fn parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._~!$'()*+,;:@/?-]{0,6}(=[a-zA-Z0-9._~!$'()*+,;:@/?=-]{0,6})?",
        2 => select(vec!["a=%C3%A4", "a=%20", "a=%2B", "b=%3D", "%61=1", "a=%zz", "a=%", ""])
            .prop_map(str::to_owned),
    ]
}

prop_compose! {
    fn any_request()(
        method in select(vec!["GET", "POST", "PUT", "DELETE"]),
        segments in prop::collection::vec(segment(), 1..5),
        parameters in prop::option::of(prop::collection::vec(parameter(), 0..5)),
        headers in prop::collection::vec(("x-amz-[a-c]|my-header|accept|content-type", "[!-~ ]{0,12}"), 0..5),
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) -> Whole {
        let query = parameters.map(|all| format!("?{}", all.join("&"))).unwrap_or_default();
        let mut builder = request(&format!("/{}{query}", segments.join("/"))).method(method);
        for (name, value) in &headers {
            builder = builder.header(name, value.trim_matches(' '));
        }
        builder.body(body).unwrap()
    }
}

/// The parts of a request that a handler reads. They are equal for equivalent requests.
#[derive(Debug, PartialEq)]
struct ParsedRequest {
    path: Vec<String>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl ParsedRequest {
    fn of(request: &Whole) -> Self {
        let mut path = Vec::new();
        for segment in request.uri().path().split('/').filter(|segment| !matches!(*segment, "" | ".")) {
            if segment == ".." { drop(path.pop()) } else { path.push(segment.to_owned()) }
        }
        let decode = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).collect();
        let query = request.uri().query().unwrap_or_default();
        let mut parameters: Vec<_> = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        parameters.sort();
        let words = |value: &HeaderValue| -> Vec<String> {
            let value = String::from_utf8_lossy(value.as_bytes());
            value.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| format!("{name}:{}", words(value).join(" "))).collect();
        Self { path, parameters, headers, body: request.body().clone() }
    }
}

/// Changes one random byte of the text.
fn change_byte(text: &[u8], index: &Index, to: u8) -> Option<Vec<u8>> {
    let mut bytes = text.to_vec();
    let index = (!bytes.is_empty()).then(|| index.index(bytes.len()))?;
    bytes[index] = if bytes[index] == to { to ^ 1 } else { to };
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn accepts_every_request_of_awss_signer(
        request in any_request(),
        token in prop::option::of("[a-zA-Z0-9+/=]{1,40}"),
        checksum_header in any::<bool>(),
    ) {
        let signed = sign(request, token.as_deref(), checksum_header);
        let found = check(&signed).map(|signer| signer.session_token);
        prop_assert_eq!(found, Ok(token), "{:?}", signed);
    }

    #[test]
    fn refuses_a_changed_byte(
        request in any_request(),
        part in 0..5_u8,
        which in any::<Index>(),
        index in any::<Index>(),
        to in select((b'!'..=b'~').collect::<Vec<u8>>()),
    ) {
        let signed = sign(request, Some("token"), false);
        let mut changed = signed.clone();
        match part {
            0 => {
                let Some(body) = change_byte(signed.body(), &index, to) else { return Ok(()) };
                *changed.body_mut() = body;
            }
            1 => {
                let uri = signed.uri().to_string();
                let Some(uri) = change_byte(uri.as_bytes(), &index, to) else { return Ok(()) };
                let Ok(uri) = http::Uri::try_from(uri) else { return Ok(()) };
                *changed.uri_mut() = uri;
            }
            2 => {
                let method = signed.method().as_str();
                let Some(method) = change_byte(method.as_bytes(), &index, to) else { return Ok(()) };
                let Ok(method) = http::Method::from_bytes(&method) else { return Ok(()) };
                *changed.method_mut() = method;
            }
            3 => {
                let value = signed.headers()["authorization"].as_bytes();
                let Some(value) = change_byte(value, &index, to) else { return Ok(()) };
                changed.headers_mut().insert("authorization", HeaderValue::from_bytes(&value).unwrap());
            }
            _ => {
                // AWS's signer also signs `accept`. It omits only headers that proxies change.
                let names: Vec<_> = signed.headers().keys().filter(|name| *name != "authorization").collect();
                let name = names[which.index(names.len())].clone();
                let value = signed.headers()[&name].as_bytes();
                let Some(value) = change_byte(value, &index, to) else { return Ok(()) };
                if signed.headers().get_all(&name).iter().count() > 1 {
                    return Ok(());
                }
                changed.headers_mut().insert(name, HeaderValue::from_bytes(&value).unwrap());
            }
        }
        let result = check(&changed);
        if result.is_ok() {
            // Only differences without an effect on the canonical form are allowed, such as `%2b` and `%2B`.
            prop_assert_eq!(ParsedRequest::of(&changed), ParsedRequest::of(&signed), "{:?} for {:?}", changed, signed);
            prop_assert_ne!(part, 2);
        }
    }

    #[test]
    fn random_requests_do_not_panic(
        authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,120}",
        date in "[ -~]{0,20}",
        target in "/[ -~]{0,40}",
    ) {
        let builder = request("/").uri(target).header("x-amz-date", date);
        if let Ok(request) = builder.header("authorization", authorization).body(Vec::new()) {
            prop_assert!(check(&request).is_err());
        }
    }
}

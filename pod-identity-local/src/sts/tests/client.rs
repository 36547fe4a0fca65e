//! A client whose signing code is independent of the verification.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{Method, Request, Response};
use quick_xml::events::Event;

use crate::fixture::Fixture;
use crate::sts::Sts;

/// 2026-11-22T06:00:00Z.
pub(super) const NOW: Duration = Duration::from_secs(1_795_327_200);
pub(super) const AUTH_ROLE: &str = "AKIABROKER000000";
pub(super) const EKS: &str = "AKIAEKS000000000";
pub(super) const USER: &str = "AKIAUSER00000000";

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

pub(super) fn role(name: &str) -> String {
    format!("arn:aws:iam::111122223333:role/{name}")
}

/// An STS with the auth service's role, EKS's service principal, a user, and one role for each rule.
pub(super) fn sts() -> Sts {
    Sts::new(Fixture::from_yaml(include_str!("fixture.yaml")).unwrap())
}

/// A key to sign with.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl Keys {
    pub(super) fn of(sts: &Sts, id: &str) -> Self {
        let known = sts.fixture().callers().find(|caller| caller.access_key_id == id).unwrap();
        let token = known.session_token.as_ref().map(|token| token.expose().to_owned());
        Self { id: id.into(), secret: known.secret_access_key.expose().into(), token }
    }
}

/// A response: status, request id, and elements by name.
#[derive(Debug)]
pub(super) struct StsResponse {
    pub(super) status: u16,
    pub(super) request_id: String,
    pub(super) elements: Vec<(String, String)>,
}

impl StsResponse {
    /// Reads a response.
    ///
    /// # Panics
    /// If the body is not well-formed XML.
    pub(super) fn read(response: &Response<Bytes>) -> Self {
        assert_eq!(response.headers()["content-type"], "text/xml");
        let body = std::str::from_utf8(response.body()).unwrap();
        let mut reader = quick_xml::Reader::from_str(body);
        let (mut path, mut elements) = (Vec::new(), Vec::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => {
                    path.push(start.name().as_ref().to_owned());
                    elements.push((path.last().unwrap().clone(), String::new()));
                }
                Event::Text(text) => {
                    elements.last_mut().unwrap().1.push_str(text.as_ref());
                }
                Event::GeneralRef(entity) => {
                    let entity = format!("&{};", entity.as_ref());
                    let text = quick_xml::escape::unescape(&entity).unwrap().into_owned();
                    elements.last_mut().unwrap().1.push_str(&text);
                }
                Event::End(end) => {
                    assert_eq!(path.pop().unwrap(), end.name().as_ref());
                }
                Event::Eof => break,
                other => panic!("{other:?} in {body}"),
            }
        }
        assert!(path.is_empty(), "{body}");
        let request_id = response.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
        let response = Self { status: response.status().as_u16(), request_id, elements };
        assert_eq!(response.value("RequestId"), response.request_id);
        response
    }

    #[track_caller]
    pub(super) fn value(&self, name: &str) -> &str {
        let found = self.elements.iter().find(|(element, _)| element == name);
        &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }

    #[track_caller]
    pub(super) fn assert_error(&self, status: u16, code: &str, words: &str) {
        assert_eq!((self.status, self.value("Code")), (status, code), "{self:?}");
        let message = self.value("Message");
        assert!(message.contains(words), "{message:?} does not contain {words:?}");
    }

    pub(super) fn keys(&self) -> Keys {
        Keys {
            id: self.value("AccessKeyId").into(),
            secret: self.value("SecretAccessKey").into(),
            token: Some(self.value("SessionToken").into()),
        }
    }
}

fn form(operation: &str, parameters: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", operation).append_pair("Version", "2011-06-15");
    form.extend_pairs(parameters).finish()
}

/// An unsigned POST request.
pub(super) fn post(body: &str) -> Request<String> {
    Request::builder()
        .method(Method::POST)
        .uri("/")
        .header("host", "sts.local")
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .body(body.to_owned())
        .unwrap()
}

pub(super) fn send(sts: &Sts, request: Request<String>, now: SystemTime) -> StsResponse {
    let (parts, body) = request.into_parts();
    StsResponse::read(&sts.handle(&parts, body.as_bytes(), now))
}

/// An unsigned call.
pub(super) fn unsigned(sts: &Sts, operation: &str, parameters: &[(&str, &str)]) -> StsResponse {
    send(sts, post(&form(operation, parameters)), now())
}

/// A signed call.
pub(super) fn call(sts: &Sts, keys: &Keys, operation: &str, parameters: &[(&str, &str)]) -> StsResponse {
    call_at(sts, keys, operation, parameters, now())
}

pub(super) fn call_at(
    sts: &Sts,
    keys: &Keys,
    operation: &str,
    parameters: &[(&str, &str)],
    now: SystemTime,
) -> StsResponse {
    send(sts, signed(post(&form(operation, parameters)), keys, "sts", now), now)
}

/// Signs a request (IAM user guide, *Create a signed AWS API request*).
pub(super) fn signed(
    mut request: Request<String>,
    keys: &Keys,
    service: &str,
    now: SystemTime,
) -> Request<String> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = jiff::Timestamp::from_second(seconds.try_into().unwrap()).unwrap();
    let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    request.headers_mut().insert("x-amz-date", stamp.parse().unwrap());
    if let Some(token) = &keys.token {
        request.headers_mut().insert("x-amz-security-token", token.parse().unwrap());
    }
    let mut names: Vec<String> = request.headers().keys().map(ToString::to_string).collect();
    names.sort();
    let headers: String =
        names.iter().map(|name| format!("{name}:{}\n", request.headers()[name].to_str().unwrap())).collect();
    let names = names.join(";");
    let digest = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let query = request.uri().query().unwrap_or_default();
    let canonical =
        format!("{}\n/\n{query}\n{headers}\n{names}\n{}", request.method(), digest(request.body()));
    let scope = format!("{}/eu-west-1/{service}/aws4_request", &stamp[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", digest(&canonical));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in scope.split('/') {
        key = sign(&key, part);
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.id,
        hex(&sign(&key, &to_sign))
    );
    request.headers_mut().insert("authorization", authorization.parse().unwrap());
    request
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

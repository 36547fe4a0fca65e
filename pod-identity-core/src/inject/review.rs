//! Admission reviews: the API server's request about one object, and the response to it (Kubernetes documentation, *Dynamic
//! Admission Control*).
//!
//! The versions v1 and v1beta1 of `admission.k8s.io` differ in their name only. No part of the object is sent back.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use base64::Engine as _;

use super::injection::Injection;
use super::pod::{self, InvalidPod, Pod};
use super::reader::{ReadError, Reader};
use super::text::truncated;
use super::writer::push_string;

/// The maximum size of a review in bytes. The API server accepts requests of 3 MiB; JSON takes more than the protobuf of such
/// a request.
pub const MAX_REVIEW_BYTES: usize = 8 * 1024 * 1024;
/// The base64 engine with the vector instructions of the machine.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: std::sync::LazyLock<base64::engine::simd::Simd> =
    std::sync::LazyLock::new(|| base64::engine::simd::Simd::standard(base64::engine::general_purpose::PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;
/// The longest part of a body that an error quotes, in characters: errors go to the sender and to the log.
const QUOTED: usize = 200;

/// A body that is not an admission review.
///
/// No response could name the review's UID, so the webhook answers with HTTP 400 and its `failurePolicy` applies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReview {
    /// The body is larger than [`MAX_REVIEW_BYTES`].
    #[error("the body has more than {MAX_REVIEW_BYTES} bytes")]
    TooLarge,
    /// The body is not JSON, a member that is read has the wrong type, or such a member occurs twice.
    #[error("the body is not an AdmissionReview: {0}")]
    Json(String),
    /// The body is an object of another kind.
    #[error(
        "the body is {api_version:?} {kind:?}, want an AdmissionReview of admission.k8s.io/v1 or v1beta1"
    )]
    Kind {
        /// The body's `apiVersion`.
        api_version: String,
        /// The body's `kind`.
        kind: String,
    },
    /// The review has no request, or a request without UID.
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
}

/// An admission review.
///
/// The [module documentation](super) has an example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AdmissionReview<'a> {
    api_version: Cow<'a, str>,
    uid: Cow<'a, str>,
    /// The namespace of the object. The object itself may not name it yet.
    pub namespace: Cow<'a, str>,
    /// Whether the object will not be stored.
    pub dry_run: bool,
    /// The object of the review.
    pub subject: Subject<'a>,
}

/// The object of a review.
#[derive(Debug, Clone)]
pub enum Subject<'a> {
    /// A pod that is about to be created.
    Pod(Box<Pod<'a>>),
    /// A pod that is about to be created and cannot be read.
    Unreadable {
        /// Why the pod cannot be read.
        reason: InvalidPod,
        /// Whether the pod has the label `podidentity.dev/require=true`.
        requires: bool,
    },
    /// Any other request. The containers and volumes of an existing pod cannot change.
    Other,
}

/// A whole body, before its kind is checked.
struct Body<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    request: Option<Request<'a>>,
}

struct Request<'a> {
    uid: Cow<'a, str>,
    is_pod_creation: bool,
    namespace: Cow<'a, str>,
    /// The object, or the error of reading it as a pod with the object's JSON.
    object: Option<Result<Pod<'a>, (ReadError, &'a str)>>,
    dry_run: bool,
}

impl<'a> Body<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut api_version, mut kind, mut request) = (None, None, None);
        reader.object(|reader, key| match key {
            "apiVersion" => reader.once(&mut api_version, Reader::string),
            "kind" => reader.once(&mut kind, Reader::string),
            "request" => reader.once(&mut request, |reader| reader.nullable(Request::read)),
            _ => reader.skip(),
        })?;
        Ok(Self {
            api_version: api_version.unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            request: request.flatten(),
        })
    }
}

impl<'a> Request<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut uid, mut is_pods, mut sub_resource, mut operation) = (None, None, None, None);
        let (mut namespace, mut object, mut dry_run) = (None, None, None);
        reader.object(|reader, key| match key {
            "uid" => reader.once(&mut uid, Reader::string),
            "resource" => reader.once(&mut is_pods, is_pods_resource),
            "subResource" => reader.once(&mut sub_resource, Reader::raw),
            "operation" => reader.once(&mut operation, Reader::string),
            "namespace" => reader.once(&mut namespace, Reader::string),
            "object" => {
                reader.once(&mut object, |reader| reader.nullable(|reader| reader.attempt(Pod::read)))
            }
            "dryRun" => reader.once(&mut dry_run, |reader| reader.nullable(Reader::bool)),
            _ => reader.skip(),
        })?;
        let is_whole = sub_resource.is_none_or(|name| matches!(name, "\"\"" | "null"));
        Ok(Self {
            uid: uid.unwrap_or_default(),
            is_pod_creation: is_pods == Some(true) && is_whole && operation.as_deref() == Some("CREATE"),
            namespace: namespace.unwrap_or_default(),
            object: object.flatten(),
            dry_run: dry_run.flatten().unwrap_or_default(),
        })
    }

    fn subject(object: Option<Result<Pod<'a>, (ReadError, &str)>>) -> Subject<'a> {
        match object {
            Some(Ok(pod)) => Subject::Pod(Box::new(pod)),
            Some(Err((error, json))) => {
                Subject::Unreadable { reason: error.into(), requires: pod::requires(json) }
            }
            None => Subject::Unreadable { reason: ReadError::missing("object").into(), requires: false },
        }
    }
}

fn is_pods_resource(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let (mut group, mut resource) = (None, None);
    reader.object(|reader, key| match key {
        "group" => reader.once(&mut group, Reader::string),
        "resource" => reader.once(&mut resource, Reader::string),
        _ => reader.skip(),
    })?;
    Ok(group.is_none_or(|group| group.is_empty()) && resource.is_some_and(|resource| resource == "pods"))
}

impl<'a> AdmissionReview<'a> {
    /// Parses the body of a request to the webhook.
    ///
    /// # Errors
    /// [`InvalidReview`] if no response is possible. A review of a pod that cannot be read has a response: see
    /// [`Subject::Unreadable`].
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidReview> {
        if body.len() > MAX_REVIEW_BYTES {
            return Err(InvalidReview::TooLarge);
        }
        let text = std::str::from_utf8(body).map_err(|error| InvalidReview::Json(error.to_string()))?;
        let mut reader = Reader::new(text);
        let Body { api_version, kind, request } = Body::read(&mut reader)
            .and_then(|body| reader.end().map(|()| body))
            .map_err(|error| InvalidReview::Json(quoted(&error.to_string())))?;
        let is_version = matches!(&*api_version, "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
        if !is_version || kind != "AdmissionReview" {
            return Err(InvalidReview::Kind { api_version: quoted(&api_version), kind: quoted(&kind) });
        }
        let request = request.filter(|request| !request.uid.is_empty()).ok_or(InvalidReview::NoRequest)?;
        let subject = if request.is_pod_creation { Request::subject(request.object) } else { Subject::Other };
        let Request { uid, namespace, dry_run, .. } = request;
        Ok(Self { api_version, uid, namespace, dry_run, subject })
    }

    /// Returns a number that differs from review to review, by the review's UID, which the API server makes at random. It
    /// spreads the lifetimes of tokens without a random number generator that reviews would share.
    pub fn random(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        self.uid.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Returns the response that allows the pod with its injection.
    pub fn allow(&self, injection: &Injection) -> Vec<u8> {
        let mut json = self.response(true);
        push_warnings(&mut json, injection.admission_warnings());
        let mut json = json.into_bytes();
        if !injection.patch.is_empty() {
            json.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            push_base64(&mut json, injection.patch.as_json().as_bytes());
            json.push(b'"');
        }
        json.extend_from_slice(b"}}");
        json
    }

    /// Returns the response that allows the object unchanged, with a warning if there is one.
    pub fn allow_unchanged(&self, warning: Option<String>) -> Vec<u8> {
        let mut json = self.response(true);
        push_warnings(&mut json, warning);
        json.push_str("}}");
        json.into_bytes()
    }

    /// Returns the response that refuses the object, with HTTP 403 and a message for its creator.
    pub fn refuse(&self, message: &str) -> Vec<u8> {
        let mut json = self.response(false);
        json.push_str(r#","status":{"code":403,"reason":"Forbidden","message":"#);
        push_string(&mut json, message);
        json.push_str("}}}");
        json.into_bytes()
    }

    /// The start of a response, to which members and two braces are added.
    fn response(&self, is_allowed: bool) -> String {
        let mut json = String::with_capacity(256);
        json.push_str(r#"{"apiVersion":"#);
        push_string(&mut json, &self.api_version);
        json.push_str(r#","kind":"AdmissionReview","response":{"uid":"#);
        push_string(&mut json, &self.uid);
        json.push_str(if is_allowed { r#","allowed":true"# } else { r#","allowed":false"# });
        json
    }
}

fn push_warnings(json: &mut String, warnings: impl IntoIterator<Item = String>) {
    let mut separator = r#","warnings":["#;
    for warning in warnings {
        json.push_str(separator);
        push_string(json, &warning);
        separator = ",";
    }
    if separator == "," {
        json.push(']');
    }
}

fn push_base64(json: &mut Vec<u8>, bytes: &[u8]) {
    let start = json.len();
    json.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let encoded = BASE64.encode_slice(bytes, &mut json[start..]);
    debug_assert_eq!(encoded, Ok(json.len() - start));
}

fn quoted(text: &str) -> String {
    truncated(text, QUOTED).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_in_any_order() {
        let members = [
            r#""uid": "1""#,
            r#""operation": "CREATE""#,
            r#""resource": {"resource": "pods"}"#,
            r#""subResource": "\u0062inding""#,
            r#""object": {"metadata": {"name": "x"}, "spec": {"containers": []}}"#,
        ];
        let subject = |members: &[&str]| {
            let body = format!(
                r#"{{"request": {{{}}}, "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}}"#,
                members.join(",")
            );
            format!("{:?}", AdmissionReview::parse(body.as_bytes()).unwrap().subject)
        };
        let backwards: Vec<_> = members.into_iter().rev().collect();
        assert_eq!((&*subject(&members), &*subject(&backwards)), ("Other", "Other"));
        let without_sub_resource = [members[0], members[1], members[2], members[4]];
        let object_first = [members[4], members[2], members[1], members[0]];
        assert!(subject(&object_first).starts_with("Pod"));
        assert_eq!(subject(&without_sub_resource), subject(&object_first));
    }
}

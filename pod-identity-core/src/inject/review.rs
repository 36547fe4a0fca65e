//! An admission review: the API server's question about one object, and the answer to it.
//!
//! Read and written as raw JSON (`admission.k8s.io`, versions v1 and v1beta1, which differ in name only). Of the
//! object no more is read than [`Pod`] holds, and nothing of it is sent back.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bounded::JsonObject;
use super::injection::Injection;
use super::pod::{self, InvalidPod, Pod};
use super::text::truncated;

/// The most bytes of a review that are read. The API server takes objects of up to 3 MiB; the rest is for a
/// request that was shorter in protobuf than it is in JSON.
pub const MAX_REVIEW_BYTES: usize = 8 * 1024 * 1024;

/// Why a body is no review. There is no answer that the API server could match to its question, so HTTP 400 is
/// the answer; the webhook's `failurePolicy` decides about the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReview {
    /// It has more than [`MAX_REVIEW_BYTES`].
    #[error("the body has more than {MAX_REVIEW_BYTES} bytes")]
    TooLarge,
    /// It is not JSON, or not of a review's shape, or says twice what is read.
    #[error("the body is not an AdmissionReview: {0}")]
    Json(String),
    /// It is of another kind.
    #[error("the body is {api_version:?} {kind:?}, not an AdmissionReview of admission.k8s.io/v1 or v1beta1")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It asks nothing, or in a way that cannot be answered.
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
}

/// A question of the API server.
#[derive(Debug, Clone)]
pub struct AdmissionReview<'a> {
    api_version: Cow<'a, str>,
    uid: Cow<'a, str>,
    /// The namespace that the object is to be in. The object itself need not say it yet.
    pub namespace: Cow<'a, str>,
    /// Whether nothing may happen but the answer: the object will not be stored.
    pub dry_run: bool,
    /// What it is about.
    pub subject: Subject<'a>,
}

/// What a review is about.
#[derive(Debug, Clone)]
pub enum Subject<'a> {
    /// A pod that is about to be created.
    Pod(Box<Pod<'a>>),
    /// The same, in a form that cannot be read.
    Unreadable {
        /// Why.
        reason: InvalidPod,
        /// Whether its labels, which may be readable all the same, say that it must be injected.
        requires: bool,
    },
    /// Anything else: a pod that there is already has its containers and volumes for life.
    Other,
}

/// A review whose object is read as an `O`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Envelope<'a, O> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<JsonObject<Request<'a, O>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Request<'a, O> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: JsonObject<Resource<'a>>,
    #[serde(borrow)]
    sub_resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    object: Option<O>,
    dry_run: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: Cow<'a, str>,
}

impl<'a, O> Envelope<'a, O> {
    /// What is asked, and in which version of a review.
    fn open(self) -> Result<(Cow<'a, str>, Request<'a, O>), InvalidReview> {
        let known = matches!(&*self.api_version, "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
        if !known || self.kind != "AdmissionReview" {
            return Err(InvalidReview::Kind {
                api_version: quoted(&self.api_version),
                kind: quoted(&self.kind),
            });
        }
        let JsonObject(request) =
            self.request.filter(|request| !request.uid.is_empty()).ok_or(InvalidReview::NoRequest)?;
        Ok((self.api_version, request))
    }
}

impl<O> Request<'_, O> {
    fn is_pod_creation(&self) -> bool {
        let whole = self.sub_resource.is_none_or(|name| matches!(name.get(), "\"\"" | "null"));
        self.resource.group.is_empty()
            && self.resource.resource == "pods"
            && whole
            && self.operation == "CREATE"
    }
}

impl<'a> AdmissionReview<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`InvalidReview`] where it cannot be answered. A review whose pod cannot be read is none of these: see
    /// [`Subject::Unreadable`].
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidReview> {
        if body.len() > MAX_REVIEW_BYTES {
            return Err(InvalidReview::TooLarge);
        }
        Self::of_pod(body).map_or_else(|| Self::of_anything(body), Ok)
    }

    /// A review of a pod that can be read, as nearly all are: its JSON is gone through once.
    fn of_pod(body: &'a [u8]) -> Option<Self> {
        let JsonObject(envelope): JsonObject<Envelope<'a, JsonObject<Pod<'a>>>> =
            serde_json::from_slice(body).ok()?;
        let (api_version, mut request) = envelope.open().ok()?;
        let JsonObject(pod) = request.object.take()?;
        request.is_pod_creation().then(|| Self::new(api_version, request, Subject::Pod(Box::new(pod))))
    }

    /// Any review: the object is first kept as it is, since what it is, and whether it can be read, must not
    /// keep the rest from being read.
    fn of_anything(body: &'a [u8]) -> Result<Self, InvalidReview> {
        let JsonObject(envelope): JsonObject<Envelope<'a, &'a RawValue>> =
            serde_json::from_slice(body).map_err(|error| InvalidReview::Json(quoted(&error.to_string())))?;
        let (api_version, request) = envelope.open()?;
        let subject = if request.is_pod_creation() {
            let object = request.object.map_or("null", RawValue::get);
            match Pod::parse(object) {
                Ok(pod) => Subject::Pod(Box::new(pod)),
                Err(reason) => Subject::Unreadable { reason, requires: pod::requires(object) },
            }
        } else {
            Subject::Other
        };
        Ok(Self::new(api_version, request, subject))
    }

    fn new<O>(api_version: Cow<'a, str>, request: Request<'a, O>, subject: Subject<'a>) -> Self {
        Self {
            api_version,
            uid: request.uid,
            namespace: request.namespace,
            dry_run: request.dry_run.unwrap_or_default(),
            subject,
        }
    }

    /// A number that differs from review to review: the API server makes each one's uid by chance. It serves to
    /// spread the lifetimes of tokens, and needs no source of chance that reviews would have to share.
    pub fn random(&self) -> u32 {
        let mut hasher = DefaultHasher::new();
        self.uid.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Lets the pod in with what is added to it.
    pub fn allow(&self, mutation: &Injection) -> Vec<u8> {
        let patch = (!mutation.patch.is_empty()).then(|| BASE64_STANDARD.encode(json(&mutation.patch)));
        self.answer(Response {
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: mutation.admission_warnings().collect(),
            ..self.allowed()
        })
    }

    /// Lets the object in as it is, with a warning if there is anything to say.
    pub fn allow_unchanged(&self, warning: Option<String>) -> Vec<u8> {
        self.answer(Response { warnings: warning.into_iter().collect(), ..self.allowed() })
    }

    /// Keeps the object out, with HTTP 403 for whoever creates it.
    pub fn refuse(&self, message: &str) -> Vec<u8> {
        let status = Status { code: 403, reason: "Forbidden", message };
        self.answer(Response { allowed: false, status: Some(status), ..self.allowed() })
    }

    fn allowed(&self) -> Response<'_> {
        Response {
            uid: &self.uid,
            allowed: true,
            status: None,
            patch_type: None,
            patch: None,
            warnings: vec![],
        }
    }

    fn answer(&self, response: Response<'_>) -> Vec<u8> {
        let answer = Answer { api_version: &self.api_version, kind: "AdmissionReview", response };
        json(&answer)
    }
}

/// What a body says, as far as it is said to whoever sent it, and to the log.
fn quoted(text: &str) -> String {
    truncated(text, 200).to_owned()
}

/// What is answered is texts and flags, nothing that JSON could not hold.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_can_be_read_is_the_same_read_either_way_and_all_else_is_left_to_the_second() {
        let body = |object: &str, operation: &str| {
            format!(
                r#"{{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {{"uid": "1",
                    "new": [[{{}}]], "operation": "{operation}", "namespace": "shop", "dryRun": true,
                    "resource": {{"resource": "pods"}}, "object": {object}}}}}"#
            )
        };
        for pod in [
            r#"{"metadata": {}, "spec": {"containers": []}}"#,
            r#"{"new": 1e999, "metadata": {"name": "\u0061", "labels": {"a": "\n"}, "ownerReferences": [{}]},
                "spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "\""}], "new": null}]}}"#,
        ] {
            let body = body(pod, "CREATE");
            let (once, twice) = (
                AdmissionReview::of_pod(body.as_bytes()).unwrap(),
                AdmissionReview::of_anything(body.as_bytes()),
            );
            assert_eq!(format!("{once:?}"), format!("{:?}", twice.unwrap()));
        }
        for (pod, operation) in [
            (r#"{"metadata": {}, "spec": {"containers": []}}"#, "UPDATE"),
            (r#"{"metadata": {}, "spec": {}}"#, "CREATE"),
            ("null", "CREATE"),
            ("[]", "CREATE"),
        ] {
            let body = body(pod, operation);
            assert!(AdmissionReview::of_pod(body.as_bytes()).is_none(), "{pod}");
            assert!(AdmissionReview::of_anything(body.as_bytes()).is_ok(), "{pod}");
        }
    }
}

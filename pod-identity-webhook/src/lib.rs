//! The admission webhook of EKS Pod Identity and IRSA: puts into a pod what its SDK needs to find its
//! role's credentials.
//!
//! The rules read no file, no clock and nothing of the API server: its question is read ([`review`], [`pod`]),
//! what is known of the pod's service account is put together ([`account`], [`config_map`], [`identities`]),
//! and [`mutate`](mod@mutate) makes the patch, and says what it did not do and why. Around them [`knowledge`]
//! reads accounts and files, [`admission`] decides one review, [`server`] and [`app`] serve. Flags, annotations,
//! names and paths are those of AWS's own webhook.
//!
//! ```
//! use pod_identity_webhook::account::{AccountSettings, Known};
//! use pod_identity_webhook::mutate::mutate;
//! use pod_identity_webhook::review::{Review, Subject};
//! use pod_identity_webhook::settings::Settings;
//!
//! let body = br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
//!     "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "shop",
//!     "resource": {"group": "", "version": "v1", "resource": "pods"},
//!     "object": {"metadata": {"name": "cart"}, "spec": {"containers": [{"name": "app"}]}}}}"#;
//! let review = Review::parse(body)?;
//! let Subject::Pod(pod) = &review.subject else { panic!("a pod was asked about") };
//! let settings = Settings::default();
//! let annotations = [("eks.amazonaws.com/role-arn".to_owned(), "arn:aws:iam::111122223333:role/cart".to_owned())];
//! let account = AccountSettings::from_annotations(&annotations.into(), &settings);
//! let mutation = mutate(pod, &Known { account, ..Known::default() }, &settings, 0);
//! assert_eq!(mutation.patch.paths().collect::<Vec<_>>(), [
//!     "/spec/volumes", "/spec/containers/0/env", "/spec/containers/0/volumeMounts",
//! ]);
//! let answer = review.allow(&mutation);
//! # assert!(answer.starts_with(br#"{"apiVersion":"admission.k8s.io/v1""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod args; // the command line
pub mod config; // what it means
pub mod settings; // what is injected, with AWS's defaults
pub mod review; // the API server's question, and the answer to it
pub mod pod; // the pod, as far as injection looks
pub mod account; // what its service account and namespace say
pub mod config_map; // roles by account, from AWS's ConfigMap
pub mod identities; // who has Pod Identity, from files
pub mod client; // the API server's client
pub mod knowledge; // all that is known of an account when a review asks
pub mod mutate; // the patch, what was not done, and why
pub mod certificate; // what API servers know this program by
pub mod lease; // which replica acts where only one should
pub mod reports; // who is told of pods that go without
pub mod admission; // one review, end to end
pub mod server; // the requests that bring them
pub mod app; // the wiring
mod object; // JSON objects, strictly and within bounds
mod text; // texts from outside, cut
mod fault; // faults that last
mod repeat_limiter; // repeated log lines, limited
mod go; // values as Go's programs write them

//! Injection: what a pod needs so that its SDKs find the credentials of its role.
//!
//! An [`Injector`] takes a [`Pod`] that is about to be created and the [`ServiceAccountFacts`], and returns an
//! [`Injection`]: a JSON Patch (RFC 6902) and warnings. It does no I/O. Annotations, names and paths are those of AWS's
//! webhook (`amazon-eks-pod-identity-webhook`).
//!
//! A container gets all parts of one [`Method`] or none: two variables and the mount of a token. The first of these
//! methods that applies is used:
//!
//! 1. Pod Identity, if the service account has an association, or if the pod or its namespace always asks for it.
//! 2. IRSA through the agent, if the service account has a role and its annotation asks for the agent.
//! 3. IRSA, if the service account has a role.
//!
//! A container with a role of its own, from an annotation of the pod, gets that role by IRSA.
//!
//! # Example
//!
//! ```
//! use pod_identity_core::inject::{AdmissionReview, Injector, ServiceAccountFacts, Settings, Subject};
//!
//! let body = br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
//!     "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "shop",
//!     "resource": {"group": "", "version": "v1", "resource": "pods"},
//!     "object": {"metadata": {"name": "cart"}, "spec": {"containers": [{"name": "app"}]}}}}"#;
//! let review = AdmissionReview::parse(body)?;
//! let Subject::Pod(pod) = &review.subject else { panic!("the review is of a pod") };
//!
//! let injector = Injector::new(Settings::default());
//! let facts = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
//! let injection = injector.inject(pod, &facts, review.random());
//! assert_eq!(injection.patch.paths().collect::<Vec<_>>(), [
//!     "/metadata/labels", "/spec/volumes", "/spec/containers/0/env", "/spec/containers/0/volumeMounts",
//! ]);
//! let response = review.allow(&injection);
//! # assert!(response.starts_with(br#"{"apiVersion":"admission.k8s.io/v1""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod text; // short texts
mod reader; // JSON: a pull reader
mod writer; // JSON: strings
mod names; // labels and annotations
mod path; // paths in containers
mod expansion; // kubelet's expansion of variables
mod settings; // names, paths, audiences and lifetimes
mod prepared; // texts that depend on the settings only
mod method; // the methods
mod warning; // warnings and their reasons
mod service_account; // facts about the service account and its namespace
mod pod; // the parts of a pod that injection reads
mod token; // the token's volume and its mounts
mod env; // environment variables
mod grant; // the method and role of a pod or container
mod skip; // pods and containers that ask not to be injected
mod patch; // JSON Patch
mod injection; // the decision
mod review; // the admission review and its response
mod config_map; // roles from AWS's ConfigMap
mod pod_identity_service_accounts; // service accounts with Pod Identity, from AWS's file

pub use config_map::{ConfigMapError, RoleConfigMap};
pub use grant::Grant;
pub use injection::{Injection, InjectionOutcome, Injector};
pub use method::Method;
pub use patch::Patch;
pub use pod::{InvalidPod, Pod};
pub use pod_identity_service_accounts::{InvalidPodIdentityFile, PodIdentityServiceAccounts};
pub use review::{AdmissionReview, InvalidReview, MAX_REVIEW_BYTES, Subject};
pub use service_account::{NamespaceSettings, Role, ServiceAccountFacts, ServiceAccountSettings};
pub use settings::{Settings, TokenExpiration, TokenProjection};
pub use skip::Skip;
pub use warning::{Warning, WarningReason};

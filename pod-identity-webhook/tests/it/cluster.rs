//! On a real API server, with the manifests of `deploy/webhook`: what pods look like after it.
//!
//! Each test has an installation of its own, under names of its own, for namespaces of its own.

mod installation; // the manifests, applied under names of one's own
mod replica; // the program
mod pods; // pods, and what is in them
mod sidecar; // another webhook

mod injection; // who is injected, and who is kept out
mod sequences; // what was said just before counts
mod restart; // nobody is missed while the webhook is replaced
mod credentials; // from the pod to a call with boto3

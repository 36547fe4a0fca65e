//! The programs as their manifests install them, on a Kubernetes node. Pods have only what the webhook injects.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod agent; // requests to the agent without an SDK
mod aws_chart; // the manifests of AWS's chart
mod installation; // images, a stand-in for AWS, manifests
mod outages; // parts of the installation are away
mod pods; // pods that resolve credentials
mod revocation; // deleted pods
mod sdks; // AWS's SDKs

//! The Kubernetes API: a client, and the reasons for which its calls fail.

mod client;
mod failure;

pub use client::{ApiServer, ClientError, client};
pub use failure::ApiFailure;
pub use kube::Client;

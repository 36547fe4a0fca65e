//! AWS credentials for a Rust program in a Kubernetes pod.

mod environment; // what the pod was told
mod method; // which way of getting credentials that is
mod source; // where that way leads
mod token_file; // what is shown there
mod container; // to the agent on the node,
#[cfg(feature = "irsa")]
mod web_identity; // or to STS
mod transport; // how either is asked
mod dns; // and found
mod cell; // what came of it: renewed ahead, read without a lock
mod provider; // all of that, as a program or an SDK asks for it
mod identity_cache; // and as an SDK's client does, at each request
mod error; // why there are no credentials
mod clock; // the time
#[cfg(test)]
mod scripted; // a source for tests

pub use cell::Refresh;
pub use environment::Environment;
#[cfg(feature = "irsa")]
pub use error::StsError;
pub use error::{EndpointError, Error};
pub use identity_cache::identity_cache;
pub use method::Method;
pub use provider::{PodIdentityCredentialsProvider, PodIdentityCredentialsProviderBuilder};

/// The provider for a pod, whichever way it was given credentials: by EKS Pod Identity, else by IRSA (with the feature
/// `irsa`).
///
/// It is asked for what the environment of this process is set up for, and never falls through to the node's role:
/// where nothing is set up, each request is refused with the variables that are missing. The log says at the start which
/// way it is, and so does [`method`](PodIdentityCredentialsProvider::method).
pub fn default() -> PodIdentityCredentialsProvider {
    let both = [Method::PodIdentity, Method::WebIdentity];
    PodIdentityCredentialsProvider::builder().methods(both).build()
}

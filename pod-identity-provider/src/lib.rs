//! AWS credentials for a Rust program in a Kubernetes pod: those of EKS Pod Identity, or of IAM roles for service accounts
//! (IRSA). They are fetched once for all who wait, renewed ahead of their end, and read without a lock.
//!
//! # With an AWS SDK
//!
//! ```no_run
//! use aws_config::BehaviorVersion;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = aws_config::defaults(BehaviorVersion::latest())
//!         .credentials_provider(pod_identity_provider::default())
//!         .identity_cache(pod_identity_provider::identity_cache())
//!         .load()
//!         .await;
//!     let caller = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
//!     println!("{}", caller.arn().unwrap_or_default());
//!     Ok(())
//! }
//! ```
//!
//! Without [`identity_cache()`] a client asks the SDK's own cache, which takes locks at each request and looks for new
//! credentials only seconds before the old ones end. A provider is made once and cloned: clones, and the
//! clients that are given them, share the credentials and each fetch.
//!
//! # Without one
//!
//! ```
//! use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let nothing_set = Environment::default();
//! let provider = PodIdentityCredentialsProvider::builder().environment(nothing_set).build();
//! match provider.credentials().await {
//!     Ok(credentials) => println!("{} until {:?}", credentials.access_key_id(), credentials.expiry()),
//!     // Says what is wrong in this cluster, and what to do about it.
//!     Err(error) => println!("{}", Error::of(&error).unwrap()),
//! }
//! # let error = provider.credentials().await.unwrap_err();
//! # assert!(matches!(Error::of(&error), Some(Error::NotConfigured { .. })));
//! # }
//! ```
//!
//! Ask anew for each use, and keep nothing: where credentials are held,
//! [`credentials`](PodIdentityCredentialsProvider::credentials) is an atomic load and a copy of them. The source tree has more
//! in `examples/examples`: `s3.rs`, `object_store.rs` for a library without an SDK, `custom_chain.rs` for a chain of one's own.
//!
//! # Which credentials
//!
//! [`default()`](default()) takes the first of these ways that the environment is set up for; others, and another order, can
//! be had with [`methods`](PodIdentityCredentialsProviderBuilder::methods):
//!
//! - EKS Pod Identity, by `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, with
//!   `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `AWS_CONTAINER_AUTHORIZATION_TOKEN`;
//! - IRSA, by `AWS_ROLE_ARN` and `AWS_WEB_IDENTITY_TOKEN_FILE`, with `AWS_REGION` or `AWS_DEFAULT_REGION`.
//!
//! A webhook puts these variables into the pod.
//!
//! **Nothing falls through to the node's role.** A pod that was told nothing gets an error with the variables that are
//! missing; the instance metadata service (IMDS) is not asked, and neither is the next way where one is set up and does
//! not work: it might give another role. Who wants more says so with
//! [`or_else`](PodIdentityCredentialsProviderBuilder::or_else). The log says at the start which way it is, and so does
//! [`method`](PodIdentityCredentialsProvider::method).
//!
//! # When things fail
//!
//! - Credentials that hold are served until their end, whatever becomes of the agent or STS meanwhile.
//! - A fetch asks again, with pauses, after a failure on the way and the answers 408, 429 and 5xx of the agent: within 10 s
//!   in all, of which an attempt has 5 ([`deadline`](PodIdentityCredentialsProviderBuilder::deadline),
//!   [`attempt_timeout`](PodIdentityCredentialsProviderBuilder::attempt_timeout)). Other answers are final: the pod has no
//!   association, its token is no good, the role's trust policy says no. What STS is asked, the SDK repeats by its own rules.
//! - Where there are no credentials, an error is what everybody gets for about a second.
//! - [`Error::of`] finds this crate's [`Error`] behind one of the SDK's, however deep: the agent's or STS's code and message,
//!   and what to do. Tokens and keys are in none, and in no log.
//! - A provider that was told nothing answers `CredentialsNotLoaded`, at which an SDK's chain goes on to the next. What is set
//!   up and does not work is another error. The errors of a provider that was given with `or_else` are its own.
//!
//! # How they are renewed
//!
//! A task on the runtime of the first request fetches new credentials when 15 minutes are left, or half of a life that is
//! shorter than 30; up to a fifth of that later, by chance, so that pods that started together do not ask together. The
//! task ends with the provider. [`Refresh::OnRequest`] does without it, for programs that are frozen between requests. The
//! token is read from its file for each fetch, since kubelet replaces it.
//!
//! A request waits where there are no credentials, and in the last ten seconds of a life (the last tenth, where a life is
//! shorter than 100 s): then it waits for new ones, for half of what is left at most, unless a fetch has just failed. A
//! program meets that only where renewals came to nothing, or while it was frozen.
//!
//! Credentials that name no end are fetched anew every 15 minutes, and hold until that succeeds.
//!
//! A tokio runtime has to have its timers and sockets (`enable_all`): tokio itself panics where they are missing. Outside
//! any, a request needs an HTTP client and a sleep that need none
//! ([`http_client`](PodIdentityCredentialsProviderBuilder::http_client),
//! [`sleep_impl`](PodIdentityCredentialsProviderBuilder::sleep_impl)), or is an [`Error::NoRuntime`].
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | none, the default | EKS Pod Identity, whose agent is asked by plain HTTP on the node |
//! | `https` | credentials URIs with `https`: rustls with aws-lc, as in the SDK's default client |
//! | `irsa` | IRSA: `aws-sdk-sts`, and `https` |
//!
//! # Types of other crates
//!
//! What an SDK's client is given is the SDK's: `aws-credential-types` (credentials, their errors, the trait of providers),
//! `aws-smithy-runtime-api` (identity cache, HTTP client, resolver of names) and `aws-smithy-async` (timers, time). No other
//! crate's types are in the API.

mod environment; // what the pod was told
mod method; // which way of getting credentials that is
mod source; // where that way leads
mod token_file; // what is shown there
mod container; // to the agent on the node,
#[cfg(feature = "irsa")]
mod web_identity; // or to STS
mod transport; // how either is asked,
mod timer; // for how long
mod dns; // and found
mod cell; // what came of it: renewed ahead, read without a lock
mod provider; // all of that, as a program or an SDK asks for it
mod identity_cache; // and as an SDK's client does, at each request
mod error; // why there are no credentials
mod clock; // the time
#[cfg(test)]
mod scripted; // a source for tests

/// The programs of README.md are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

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
    PodIdentityCredentialsProvider::builder().build()
}

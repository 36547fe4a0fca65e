//! AWS credentials for Rust programs in Kubernetes pods, by EKS Pod Identity or by IAM roles for service accounts (IRSA).
//! The provider fetches them once for all concurrent requests, renews them ahead of their expiry and reads them without a
//! lock.
//!
//! # With an AWS SDK
//!
//! ```no_run
//! use aws_config::BehaviorVersion;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let provider = pod_identity_provider::default();
//!     // A fault of the set-up ends the program here, with its cause and its fix.
//!     provider.credentials().await?;
//!     let config = aws_config::defaults(BehaviorVersion::latest())
//!         .credentials_provider(provider.clone())
//!         .identity_cache(provider.identity_cache())
//!         .load()
//!         .await;
//!     let caller = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
//!     println!("{}", caller.arn().unwrap_or_default());
//!     Ok(())
//! }
//! ```
//!
//! A client asks its identity cache at each request. The cache of
//! [`identity_cache`](PodIdentityCredentialsProvider::identity_cache) serves the provider's credentials without a lock.
//! Without that line a client uses the SDK's own cache, which takes locks and looks for new credentials seconds before the
//! old ones expire. Make one provider and clone it: clones share the credentials and each fetch.
//!
//! # On your own machine
//!
//! `pod-identity-local`, in the source tree, runs issuer, STS, auth service and agent in one process, and starts a program
//! with the variables of a pod. It needs no AWS account and no cluster:
//!
//! ```sh
//! cargo run --manifest-path ../pod-identity/Cargo.toml -p pod-identity-local -- run -- cargo run
//! ```
//!
//! The program above prints the ARN of the sample's role. Only calls of STS are answered there. `run -f FILE` takes other
//! roles, trust policies and associations (`docs/reference/local.md` in the source tree).
//!
//! # Without an SDK
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
//!     // The cause in this cluster, and what to do.
//!     Err(error) => println!("{error}"),
//! }
//! # assert!(matches!(provider.credentials().await.unwrap_err(), Error::NotConfigured(_)));
//! # }
//! ```
//!
//! Call [`credentials`](PodIdentityCredentialsProvider::credentials) for each use, and store nothing: while credentials are
//! cached, it is an atomic load and a copy. `examples/examples` in the source tree has complete programs: `s3.rs`,
//! `object_store.rs` for a library without an SDK, `custom_chain.rs` for a custom chain.
//!
//! # Methods
//!
//! [`default()`](default()) takes the first method that the environment is set up for. A webhook sets the variables.
//!
//! | method | variables |
//! |---|---|
//! | EKS Pod Identity | `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, with `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `AWS_CONTAINER_AUTHORIZATION_TOKEN` |
//! | IRSA | `AWS_ROLE_ARN` and `AWS_WEB_IDENTITY_TOKEN_FILE`, with `AWS_REGION` or `AWS_DEFAULT_REGION` |
//!
//! [`Environment`] lists all variables. [`methods`](PodIdentityCredentialsProviderBuilder::methods) sets other methods or
//! another order, and [`method`](PodIdentityCredentialsProvider::method) returns the method in use, which the log names
//! too.
//!
//! **IRSA only.** Enable the feature `irsa` of this crate. Then `default()` works in a pod with IRSA's variables, without
//! an agent. Name the method, and a pod that has Pod Identity's variables too uses IRSA all the same:
//!
//! ```
//! use pod_identity_provider::{Method, PodIdentityCredentialsProvider};
//!
//! let provider = PodIdentityCredentialsProvider::builder().methods([Method::WebIdentity]).build();
//! # drop(provider);
//! ```
//!
//! **No fallback to the node's role.** A pod without these variables gets an error that names them. The provider does not
//! call the instance metadata service (IMDS). It does not go on to the next method where one is set up and fails either,
//! because that might be another role. A program that wants a fallback names it with
//! [`or_else`](PodIdentityCredentialsProviderBuilder::or_else).
//!
//! **Static keys and profiles are ignored.** The SDK's default chain uses `AWS_ACCESS_KEY_ID` and the profile of
//! `AWS_PROFILE` before a pod's credentials. This provider reads neither, and logs a warning at its start if one is set.
//! The SDK's chain also uses IRSA before Pod Identity, and this provider Pod Identity before IRSA.
//!
//! # Errors
//!
//! - An [`Error`] prints its cause and its fix, with `{}` and with `{:?}`. Tokens and keys are in no error and no log line.
//! - Cached credentials are served until they expire, even if the agent or STS is down.
//! - A fetch retries after faults of the connection and after 408, 429 and 5xx of the agent, with pauses. It ends within
//!   10 s ([`deadline`](PodIdentityCredentialsProviderBuilder::deadline)), and each attempt within 5 s
//!   ([`attempt_timeout`](PodIdentityCredentialsProviderBuilder::attempt_timeout)). Other responses are final: there is no
//!   association, the token is invalid, the role's trust policy denies. Calls of STS are retried by the SDK's rules.
//! - Where there are no credentials, all requests get the same error for about a second.
//! - `{}` of an SDK's error prints neither cause nor fix ("dispatch failure"). `{:?}` prints both, and
//!   [`Error::of`] finds the [`Error`] inside.
//! - The error of a provider without configuration is `CredentialsNotLoaded`, after which an SDK's chain goes on to its
//!   next provider. After any other error the chain stops.
//!
//! # Renewal
//!
//! A background task fetches new credentials when 15 minutes are left, or half of a life shorter than 30 minutes. It
//! starts later by a random part of up to a fifth of that time, so that pods that started together do not fetch together.
//! The task runs on the runtime of the first request, and ends with the provider and its identity caches.
//! [`Refresh::OnRequest`] works without a task, for programs that are frozen between requests. Each fetch reads the token
//! file, since kubelet replaces it.
//!
//! A request waits if there are no credentials. In the last ten seconds of a life (the last tenth of a life shorter than
//! 100 s) it waits for new ones, for at most half of what is left, unless a fetch has just failed. That happens only where
//! renewals failed, or while the program was frozen.
//!
//! Credentials without an expiry are fetched again every 15 minutes, and stay valid until that succeeds.
//!
//! A tokio runtime must have timers and sockets (`enable_all`), or tokio panics. Outside a runtime a request needs an HTTP
//! client and a sleep implementation that need none
//! ([`http_client`](PodIdentityCredentialsProviderBuilder::http_client),
//! [`sleep_impl`](PodIdentityCredentialsProviderBuilder::sleep_impl)), or it fails with [`Error::Runtime`].
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | none (default) | EKS Pod Identity, whose agent is called by plain HTTP on the node |
//! | `https` | credentials URIs with `https`: rustls with aws-lc, as in the SDK's default client |
//! | `irsa` | IRSA: `aws-sdk-sts`, and `https` |
//!
//! # Types of other crates
//!
//! The public API uses types of the SDK only: `aws-credential-types` (credentials, their errors, the provider trait),
//! `aws-smithy-runtime-api` (identity cache, HTTP client, name resolver) and `aws-smithy-async` (timers, time).

mod environment; // the variables
mod method; // the method that they set up
mod source; // the source of each method
mod token_file; // the token of a request
mod container; // the agent on the node
#[cfg(feature = "irsa")]
mod web_identity; // STS
mod transport; // the parts and limits of requests
mod timer; // their timers
mod dns; // their name resolver
mod cell; // the cached credentials and their renewal
mod provider; // the provider and its builder
mod identity_cache; // the identity cache of an SDK's clients
mod error; // the reasons why there are no credentials
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
pub use error::{
    EndpointError, Error, ExpiredCredentials, InvalidConfiguration, NotConfigured, RuntimeError, SourceError,
    TokenUnreadable,
};
pub use method::Method;
pub use provider::{PodIdentityCredentialsProvider, PodIdentityCredentialsProviderBuilder};

/// Returns the provider for a pod: EKS Pod Identity, else IRSA (with the feature `irsa`).
///
/// It reads the environment of this process. Where nothing is set up, each request fails with the missing variables. It
/// never falls back to the node's role. The log and [`method`](PodIdentityCredentialsProvider::method) name the method in
/// use.
///
/// ```
/// let provider = pod_identity_provider::default();
/// println!("{:?}", provider.method());
/// ```
pub fn default() -> PodIdentityCredentialsProvider {
    PodIdentityCredentialsProvider::builder().build()
}

//! AWS credentials for Rust programs in Kubernetes pods, by EKS Pod Identity or by IAM roles for service accounts (IRSA).
//! The provider fetches once for all concurrent requests, renews credentials ahead of expiry, and reads them without a
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
//!     // A configuration error ends the program here, with its cause and its fix.
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
//! A client reads its identity cache on each request. The cache of
//! [`identity_cache`](PodIdentityCredentialsProvider::identity_cache) serves the provider's credentials without a lock.
//! Without that line a client uses the SDK's own cache. It takes locks, and fetches new credentials only seconds before the
//! old ones expire. Create one provider and clone it: clones share the credentials and each fetch.
//!
//! # On your own machine
//!
//! `pod-identity-local`, in the source tree, runs issuer, STS, auth service and agent in one process. It starts a program
//! with the environment variables of a pod. It needs no AWS account and no cluster:
//!
//! ```sh
//! cargo run --manifest-path ../pod-identity/Cargo.toml -p pod-identity-local -- run -- cargo run
//! ```
//!
//! The program above prints the ARN of the sample's role. STS is the only AWS service there. `run -f FILE` uses other
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
//!     // The cause and the fix.
//!     Err(error) => println!("{error}"),
//! }
//! # assert!(matches!(provider.credentials().await.unwrap_err(), Error::NotConfigured(_)));
//! # }
//! ```
//!
//! Call [`credentials`](PodIdentityCredentialsProvider::credentials) for each use, and do not store the result. While
//! credentials are cached, the call is an atomic load and a copy. `examples/examples` in the source tree has complete
//! programs: `s3.rs` with an SDK, `object_store.rs` without one, and `custom_chain.rs` with a chain of providers.
//!
//! # Methods
//!
//! [`default()`](default()) uses the first method whose environment variables are set. A webhook sets them.
//!
//! | method | variables |
//! |---|---|
//! | EKS Pod Identity | `AWS_CONTAINER_CREDENTIALS_FULL_URI` or `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, with `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `AWS_CONTAINER_AUTHORIZATION_TOKEN` |
//! | IRSA | `AWS_ROLE_ARN` and `AWS_WEB_IDENTITY_TOKEN_FILE`, with `AWS_REGION` or `AWS_DEFAULT_REGION` |
//!
//! [`Environment`] lists all variables. [`methods`](PodIdentityCredentialsProviderBuilder::methods) sets other methods or
//! another order. [`method`](PodIdentityCredentialsProvider::method) returns the method in use, which is also logged.
//!
//! **IRSA only.** With the feature `irsa` of this crate, `default()` works in a pod that has IRSA's variables only. If a pod
//! also has Pod Identity's variables, select IRSA explicitly:
//!
//! ```
//! use pod_identity_provider::{Method, PodIdentityCredentialsProvider};
//!
//! let provider = PodIdentityCredentialsProvider::builder().methods([Method::WebIdentity]).build();
//! # drop(provider);
//! ```
//!
//! **No fallback to the node's role.** A pod without these variables gets an error that names them. The provider never
//! calls the instance metadata service (IMDS). If a method's variables are set and the method fails, the provider does not
//! try the next method, because that method may have another role. A program can set a fallback with
//! [`or_else`](PodIdentityCredentialsProviderBuilder::or_else).
//!
//! **Static keys and profiles are ignored.** The SDK's default chain uses `AWS_ACCESS_KEY_ID` and the profile of
//! `AWS_PROFILE` before a pod's credentials. This provider uses neither, and logs a warning at its start if one is set.
//! The SDK's chain also uses IRSA before Pod Identity. This provider uses Pod Identity before IRSA.
//!
//! # Errors
//!
//! - An [`Error`] prints its cause and its fix, with `{}` and with `{:?}`. Errors and log lines hold no tokens and no keys.
//! - Cached credentials are served until they expire, even if the agent or STS is down.
//! - A fetch has a time limit of 10 s ([`deadline`](PodIdentityCredentialsProviderBuilder::deadline)), and each attempt of
//!   5 s ([`attempt_timeout`](PodIdentityCredentialsProviderBuilder::attempt_timeout)).
//! - The provider retries after connection errors and after status 408, 429 and 5xx of the agent, with backoff. Other
//!   responses are final, for example a missing association, an invalid token, or a role whose trust policy denies. Calls
//!   of STS are retried by the SDK's rules.
//! - After a failed fetch without cached credentials, all requests get the same error for about one second.
//! - `{}` of an SDK's error prints neither cause nor fix ("dispatch failure"). `{:?}` prints both, and
//!   [`Error::of`] finds the [`Error`] inside.
//! - Without configuration the provider returns `CredentialsNotLoaded`, and an SDK's chain continues with its next
//!   provider. After any other error the chain stops.
//!
//! # Renewal
//!
//! A background task fetches new credentials 15 minutes before expiry, or halfway through a lifetime shorter than
//! 30 minutes. A random delay of up to a fifth of that time keeps pods that started together from fetching together. Each
//! fetch reads the token file, because kubelet replaces it.
//!
//! The task runs on the tokio runtime of the first request, and ends with the provider and its identity caches.
//! [`Refresh::OnRequest`] works without a task, for programs that are frozen between requests.
//!
//! A request waits for a fetch in two cases:
//!
//! - There are no credentials.
//! - The cached credentials expire within ten seconds, or within a tenth of a lifetime shorter than 100 s. The request
//!   then waits for at most half of the remaining time, and not at all if the last fetch failed. This case happens only
//!   after failed renewals, or after the program was frozen.
//!
//! Credentials without an expiry are fetched again every 15 minutes. They stay valid until that fetch succeeds.
//!
//! A tokio runtime must have timers and sockets (`enable_all`), or tokio panics. Outside a runtime, set an HTTP client and
//! a sleep implementation that need no runtime
//! ([`http_client`](PodIdentityCredentialsProviderBuilder::http_client),
//! [`sleep_impl`](PodIdentityCredentialsProviderBuilder::sleep_impl)). Otherwise requests fail with [`Error::Runtime`].
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | none (default) | EKS Pod Identity: plain HTTP to the agent on the node |
//! | `https` | credentials URIs with `https`: rustls with aws-lc, as in the SDK's default client |
//! | `irsa` | IRSA: `aws-sdk-sts`, and `https` |
//!
//! # Types of other crates
//!
//! The public API uses types of the SDK only: `aws-credential-types` (credentials, their errors, the provider trait),
//! `aws-smithy-runtime-api` (identity cache, HTTP client, name resolver) and `aws-smithy-async` (timers, time).

mod environment; // environment variables
mod method; // choice of the method
mod source; // credential source of each method
mod token_file; // the pod's token
mod container; // requests to the agent on the node
#[cfg(feature = "irsa")]
mod web_identity; // requests to STS
mod transport; // HTTP client and time limits of requests
mod timer; // timers of requests and renewals
mod dns; // default name resolver
mod cell; // cached credentials and their renewal
mod provider; // the provider and its builder
mod identity_cache; // identity cache for an SDK's clients
mod error; // errors with cause and fix
mod clock; // wall clock and monotonic clock
#[cfg(test)]
mod scripted; // scripted source for tests

/// Compiles the programs of README.md.
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
/// It reads the environment of this process. If no method is configured, each request fails with an error that names the
/// missing variables. The provider never uses the node's role. The log and
/// [`method`](PodIdentityCredentialsProvider::method) name the method in use.
///
/// ```
/// let provider = pod_identity_provider::default();
/// println!("{:?}", provider.method());
/// ```
pub fn default() -> PodIdentityCredentialsProvider {
    PodIdentityCredentialsProvider::builder().build()
}

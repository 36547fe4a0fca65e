//! Credentials for Kubernetes pods by the rules of Amazon EKS Pod Identity, as a library.
//!
//! A pod presents its service account token. This crate verifies the token, finds the role of the service account, gets
//! credentials from your backend, and caches and renews them. The response is the JSON that the container credentials
//! provider of every AWS SDK reads.
//!
//! # Serve credentials
//!
//! Implement [`CredentialSource`](service::CredentialSource) for your backend and call one method for each request.
//! The [module `service`](service) explains outages, renewal and HTTP. `examples/examples/embed.rs` in the repository
//! is a whole service of 60 lines.
//!
//! ```toml
//! [dependencies]
//! pod-identity-core = { version = "0.1", features = ["service"] }
//! ```
//!
#![cfg_attr(feature = "service", doc = "```")]
#![cfg_attr(not(feature = "service"), doc = "```ignore")]
//! # use std::time::{Duration, SystemTime};
//! # const JWKS: &[u8] = br#"{"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "demo-1",
//! #     "x": "XZKFS4EamUQGlMazLdX9wZtFjwNVM8Cr1eZHpSSl6xc", "y": "IQeZdQ0TMve7vNapGJMvV5krj1Q2nquo09dCQloRwd4"}]}"#;
//! # const TOKEN: &str = "\
//! #     eyJhbGciOiJFUzI1NiIsImtpZCI6ImRlbW8tMSJ9.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS5jb20vZGVtbyIsImF1ZCI\
//! #     6WyJwb2RzLmVrcy5hbWF6b25hd3MuY29tIl0sInN1YiI6InN5c3RlbTpzZXJ2aWNlYWNjb3VudDpzaG9wOmNhcnQiLCJpYXQiOjE\
//! #     3OTUzMzA4MDAsIm5iZiI6MTc5NTMzMDgwMCwiZXhwIjoxNzk1NDE3MjAwLCJrdWJlcm5ldGVzLmlvIjp7Im5hbWVzcGFjZSI6InN\
//! #     ob3AiLCJzZXJ2aWNlYWNjb3VudCI6eyJuYW1lIjoiY2FydCIsInVpZCI6IjBhNTFjNWY2LTdmNGMtNGJlOS1hMGMyLTJkN2MxYjl\
//! #     jMWYxMCJ9LCJwb2QiOnsibmFtZSI6ImNhcnQtNWQ4ZjcteDJ4OWsiLCJ1aWQiOiI3YzllMmY4ZS00YTFiLTRiMGEtOWQ2Mi0zZjF\
//! #     mMGU2YzVhMTEifX19.FExNCOb7f1h6r8NIaeWHQHaZllf484EKLjSmPidLKsc2CIVciGlJzCbVqMVi7f15zwtLTwOpxHzlzXoP3e\
//! #     fS-g";
//! # fn in_an_hour() -> SystemTime { SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_338_000) }
//! use pod_identity_core::{cluster::Cluster, credentials::SessionCredentials, service::*};
//!
//! struct Vault; // your backend
//!
//! impl CredentialSource for Vault {
//!     fn issue<'a>(&'a self, pod: &'a CredentialRequest) -> IssueFuture<'a> {
//!         Box::pin(async move {
//!             assert_eq!(pod.identity().subject(), "system:serviceaccount:shop:cart");
//!             Ok(SessionCredentials::new("ASIAEXAMPLE", "secret", "token", in_an_hour()))
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (_control, clock) = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_334_400));
//! let issuer = Issuer::fetched("https://oidc.example.com/demo", || async { Ok(JWKS.to_vec()) });
//! let service = CredentialService::builder(Vault).cluster(Cluster::new("demo".parse()?), issuer);
//! # let service = service.clock(clock);
//! let service = service.build()?;
//!
//! // For each request: the token of its Authorization header, and the address that it came from.
//! let credentials = service.credentials(TOKEN, Peer::Local).await?;
//! assert!(credentials.container_json().starts_with(br#"{"AccessKeyId":"ASIAEXAMPLE""#));
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! The modules are in the order in which a request passes them:
//!
//! ```text
//! token ─► identity ─► association ─► trust ─► session ─► credentials
//! └──────────────────────────── service ────────────────────────────┘
//! ```
//!
//! | task | start at |
//! |---|---|
//! | serve credentials to pods | [`service::CredentialService`] |
//! | verify a pod token yourself | [`token::verify`](token::verify()) |
//! | look up roles in memory | [`association::AssociationTable`] |
//! | make the `AssumeRole` calls of a pod | [`session::SessionPlan`] |
//! | evaluate a role's trust policy | [`trust::decide`] |
//! | inject variables and tokens into pods | [`inject::Injector`] |
//! | explain an error | [`error::ErrorCode`] |
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `verify` | yes | token verification with JSON Web Key Sets; brings the cryptography of aws-lc-rs |
//! | `service` | no | the credential service; brings tokio's runtime and timers, and `verify` |
//! | `trust` | no | evaluation of trust policies |
//! | `inject` | no | injection into pods: the rules of an admission webhook |
//!
//! Only the feature `service` reads clocks and starts tasks. Everything else takes the time as an argument and does no
//! I/O.

#![cfg_attr(
    not(all(feature = "inject", feature = "service", feature = "trust", feature = "verify")),
    allow(rustdoc::broken_intra_doc_links) // of this page
)]

pub mod token; // the pod token: parsed, verified, redacted
pub mod identity; // the pod, its service account and its cluster's name
pub mod cluster; // a cluster, and its names in AWS
pub mod arn; // the names of AWS
pub mod association; // the role of a service account
#[cfg(feature = "trust")]
pub mod trust; // whether a role's trust policy allows a call, and why not
pub mod session; // the AssumeRole call for a pod
pub mod credentials; // session credentials, and the JSON that SDKs read
#[cfg(feature = "inject")]
pub mod inject; // injection into pods
#[cfg(feature = "service")]
pub mod service; // the credential service
pub mod error; // every error code, with its cause and fix
pub mod json; // JSON without duplicate keys

// Not part of the public API: the workspace's other crates use them, and no version promises anything.
#[doc(hidden)]
pub mod backoff; // pauses between attempts
#[doc(hidden)]
pub mod cache; // single flight, and reads without a lock
#[cfg(feature = "clock")]
#[doc(hidden)]
pub mod clock; // the clocks of this machine, and a clock that tests move
#[doc(hidden)]
pub mod time; // the time as an argument
mod sync; // primitives for threads, which loom can replace

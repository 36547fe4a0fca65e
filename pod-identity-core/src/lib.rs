//! The rules of EKS Pod Identity, without sockets, files, processes or clocks.
//!
//! A pod's token goes in, and what may be asked of AWS for it comes out. The modules stand in the
//! order in which a request passes them:
//!
//! ```text
//! token ─► identity ─► association ─► trust ─► session ─► credentials ─► cache
//! ```
//!
//! Nothing here reads a clock or starts a task: every function that needs the time takes it, and what
//! takes time is the caller's to do. This is one request, from the pod's token to the JSON that its SDK
//! reads; `examples/examples/embed.rs` in the repository puts the same behind an HTTP server.
//!
//! ```
//! # use std::time::{Duration, SystemTime};
//! # const JWKS: &[u8] = br#"{"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "demo-1",
//! #     "x": "XZKFS4EamUQGlMazLdX9wZtFjwNVM8Cr1eZHpSSl6xc", "y": "IQeZdQ0TMve7vNapGJMvV5krj1Q2nquo09dCQloRwd4"}]}"#;
//! # const HEADER: &str = "\
//! #     eyJhbGciOiJFUzI1NiIsImtpZCI6ImRlbW8tMSJ9.eyJpc3MiOiJodHRwczovL29pZGMuZXhhbXBsZS5jb20vZGVtbyIsImF1ZCI\
//! #     6WyJwb2RzLmVrcy5hbWF6b25hd3MuY29tIl0sInN1YiI6InN5c3RlbTpzZXJ2aWNlYWNjb3VudDpzaG9wOmNhcnQiLCJpYXQiOjE\
//! #     3OTUzMzA4MDAsIm5iZiI6MTc5NTMzMDgwMCwiZXhwIjoxNzk1NDE3MjAwLCJrdWJlcm5ldGVzLmlvIjp7Im5hbWVzcGFjZSI6InN\
//! #     ob3AiLCJzZXJ2aWNlYWNjb3VudCI6eyJuYW1lIjoiY2FydCIsInVpZCI6IjBhNTFjNWY2LTdmNGMtNGJlOS1hMGMyLTJkN2MxYjl\
//! #     jMWYxMCJ9LCJwb2QiOnsibmFtZSI6ImNhcnQtNWQ4ZjcteDJ4OWsiLCJ1aWQiOiI3YzllMmY4ZS00YTFiLTRiMGEtOWQ2Mi0zZjF\
//! #     mMGU2YzVhMTEifX19.FExNCOb7f1h6r8NIaeWHQHaZllf484EKLjSmPidLKsc2CIVciGlJzCbVqMVi7f15zwtLTwOpxHzlzXoP3e\
//! #     fS-g";
//! # let eight_o_clock = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_334_400);
//! # let now = pod_identity_core::now::Now { wall: eight_o_clock, monotonic: Duration::ZERO };
//! use pod_identity_core::association::{Association, AssociationTable};
//! use pod_identity_core::cluster::Cluster;
//! use pod_identity_core::session::{SessionName, SessionPlan};
//! use pod_identity_core::token::{BearerToken, Expected, KeySet, POD_IDENTITY_AUDIENCE, verify};
//! use pod_identity_core::trust::{Action, Caller, Context, Permissions, Policy, Request, decide};
//!
//! // The token is believed in nothing before its signature is. Then it says whose it is.
//! let token = BearerToken::parse(HEADER)?;
//! let keys = KeySet::from_jwks(JWKS)?;
//! let expected = Expected {
//!     issuer: "https://oidc.example.com/demo".to_owned(),
//!     audience: POD_IDENTITY_AUDIENCE.to_owned(),
//! };
//! let verified = verify(&token, &keys, &expected, now.wall)?;
//! let identity = verified.identity;
//! assert_eq!((identity.namespace.as_str(), identity.service_account.as_str()), ("shop", "cart"));
//!
//! // The association of its service account names the role.
//! let cluster = Cluster::new("demo".parse()?).in_region("eu-west-1", "111122223333".parse()?);
//! let cart = Association::new(
//!     "a-0123456789abcdefg".parse()?,
//!     "shop".parse()?,
//!     "cart".parse()?,
//!     "arn:aws:iam::111122223333:role/cart".parse()?,
//! );
//! let table = AssociationTable::build([(cluster, vec![cart])])?;
//! let (cluster, association) =
//!     table.lookup(&"demo".parse()?, &identity.namespace, &identity.service_account)?;
//!
//! // What is to be asked of STS: the role, a name, six tags.
//! let name = SessionName::for_pod(&cluster.name, &identity.pod, identity.pod.uid.as_str());
//! let plan = SessionPlan::new(cluster, association, &identity, name);
//! assert!(plan.role.tags.iter().any(|tag| tag.key == "kubernetes-pod-name"));
//!
//! // Whether the role would let itself be assumed, and if not, which statement failed by what.
//! let trust = Policy::trust(r#"{"Version": "2012-10-17", "Statement": [{
//!     "Effect": "Allow",
//!     "Principal": {"Service": "pods.eks.amazonaws.com"},
//!     "Action": ["sts:AssumeRole", "sts:TagSession"],
//!     "Condition": {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "shop"}}
//! }]}"#)?;
//! let caller = Caller::Service { name: "pods.eks.amazonaws.com".to_owned() };
//! let mut context = Context::of(&caller);
//! context.request_tags(plan.role.tags.iter().map(|tag| (tag.key, tag.value.as_str())));
//! let request = Request { caller: &caller, role: &plan.role.role, context: &context };
//! let decision = decide(&trust, &Permissions::default(), &[Action::AssumeRole, Action::TagSession], &request);
//! assert!(decision.is_allowed(), "{decision}");
//!
//! // What STS gives (here it is made up), as the JSON that every SDK reads. The cache keeps it for the
//! // pod's next request: see `cache`.
//! # use pod_identity_core::credentials::SessionCredentials;
//! let credentials =
//!     SessionCredentials::new("ASIAEXAMPLE", "secret", "token", now.wall + plan.role.duration);
//! let json = credentials.to_container_json()?;
//! assert!(json.starts_with(br#"{"AccessKeyId":"ASIAEXAMPLE""#));
//! assert!(json.ends_with(br#""Expiration":"2026-11-22T09:00:00Z"}"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod token; // the pod's token: read, verified, redacted
pub mod identity; // whom it speaks for
pub mod cluster; // where it comes from
pub mod arn; // the names of AWS
pub mod association; // which role that identity has
pub mod trust; // whether the role lets itself be assumed, and why not
pub mod session; // what is asked of STS
pub mod credentials; // what comes back, and the JSON that SDKs read
pub mod cache; // fetched once, read without a lock
pub mod source; // the one seam to AWS
pub mod limit; // how often it is asked, and for whom
pub mod backoff; // how long to pause before asking again
pub mod error; // every code, whose fault it is, and its mend
pub mod now; // the time, as an argument
pub mod json; // JSON that says each thing once
mod sync; // what threads share, so that loom can stand in for it

//! Evaluation of trust policies: whether a role may be assumed, and why.
//!
//! Sources: IAM user guide, *JSON policy grammar*, *Condition operators*, *Policy evaluation logic*, *Pass session
//! tags in AWS STS* and *Monitor and control actions taken with assumed roles*. A policy with an unknown operator,
//! condition key or policy variable is rejected, and the error names it. A condition that is skipped would allow
//! callers that the policy denies.
//!
//! ```
//! use pod_identity_core::trust::{Action, Caller, Context, Permissions, Policy, Request, decide};
//!
//! let trust = Policy::trust(r#"{"Version": "2012-10-17", "Statement": [{
//!     "Effect": "Allow",
//!     "Principal": {"Service": "pods.eks.amazonaws.com"},
//!     "Action": "sts:AssumeRole"
//! }]}"#)?;
//! let role = "arn:aws:iam::111122223333:role/app".parse()?;
//! let caller = Caller::Service { name: "pods.eks.amazonaws.com".to_owned() };
//! let mut context = Context::of(&caller);
//! context.request_tags([("kubernetes-namespace", "shop")]);
//! let request = Request { caller: &caller, role: &role, context: &context };
//!
//! let decision =
//!     decide(&trust, &Permissions::default(), &[Action::AssumeRole, Action::TagSession], &request);
//! let denial = decision.denial().unwrap();
//! assert_eq!(denial.code(), "trust_no_statement");
//! assert!(denial.to_string().contains("sts:TagSession"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod condition;
mod context;
mod decision;
mod document;
mod error;
mod evaluate;
mod key;
mod pattern;
mod policy;
mod principal;
mod read;
mod statement;
#[cfg(test)]
mod tests;

pub use action::{Action, Effect};
pub use context::Context;
pub use decision::{Decision, Denial, Miss, Reason, StatementName, Verdict};
pub use document::PolicyDocument;
pub use error::PolicyError;
pub use evaluate::{Permissions, Request, decide};
pub use policy::Policy;
#[doc(hidden)] // for a service that enforces the quotas
pub use policy::{IDENTITY_POLICY_LENGTH, TRUST_POLICY_LENGTH, TRUST_POLICY_LENGTH_MAX};
pub use principal::{Caller, UserArn};

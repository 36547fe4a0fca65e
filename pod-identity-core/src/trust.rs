//! Whether a role may be assumed: trust policies, permissions, and the reason for the answer.
//!
//! Sources: IAM user guide, *JSON policy grammar*, *Condition operators*, *Policy evaluation logic*,
//! *Pass session tags in AWS STS* and *Monitor and control actions taken with assumed roles*. What is
//! not known here (an operator, a condition key, a policy variable) fails when the policy is read, by
//! its name: a condition that is silently skipped would let in whom the policy keeps out.
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
#[cfg(test)]
mod tests;

pub use context::Context;
pub use decision::{Decision, Denial, Miss, Reason, StatementName, Verdict};
pub use document::PolicyDocument;
pub use error::PolicyError;
pub use evaluate::{Permissions, Request, decide};
pub use policy::{
    Action, Effect, IDENTITY_POLICY_LENGTH, Policy, TRUST_POLICY_LENGTH, TRUST_POLICY_LENGTH_MAX,
};
pub use principal::{Caller, UserArn};

//! The admission webhook of EKS Pod Identity and IRSA: puts into a pod what its SDK needs to find its
//! role's credentials.
//!
//! What is here are the rules, without a server: nothing reads a file, a clock or the API server. What is
//! known of the pod's service account is put together ([`account`], [`config_map`], [`identities`]), and [`mutate`](mod@mutate) makes the patch, and says what it
//! did not do and why. Flags, annotations, names and paths are those of AWS's own webhook.

pub mod args; // the command line
pub mod config; // what it means
pub mod settings; // what is injected, with AWS's defaults
pub mod pod; // the pod, as far as injection looks
pub mod account; // what its service account and namespace say
pub mod config_map; // roles by account, from AWS's ConfigMap
pub mod identities; // who has Pod Identity, from AWS's file
pub mod mutate; // the patch, what was not done, and why
mod object; // JSON objects, strictly
mod go; // values as Go's programs write them

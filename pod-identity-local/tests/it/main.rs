//! The whole path on one laptop, as the SDKs of applications and the people at the command line see it.

#![allow(clippy::unwrap_used)]

mod clients; // the SDKs, as a pod's app
mod harness; // a laptop with one pod
mod raw; // HTTP without an SDK

mod command; // the binary
mod eks_auth; // EKS Auth's API
mod faults; // what an app's user reads when something is broken
mod leaks; // no log holds a secret
mod refresh; // credentials end while an app runs
mod sdk; // an app fetches and calls
mod sts; // the local STS

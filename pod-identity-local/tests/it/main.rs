//! Tests of the local services with the SDKs of apps, and of the binary.

#![allow(clippy::unwrap_used)]

mod clients; // SDKs in a pod's app
mod harness; // the local services with one pod
mod raw; // HTTP without an SDK

mod command; // the binary
mod eks_auth; // EKS Auth's API
mod faults; // error messages of SDKs
mod leaks; // secrets in output
mod refresh; // credentials that expire while an app runs
mod sdk; // calls with fetched credentials
mod sts; // the local STS

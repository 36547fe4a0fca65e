//! Certificates that replicas issue and renew themselves.
//!
//! A Secret holds the last generations. A generation is an authority and the only certificate that it has signed.
//! Clients find the authorities in bundles, whose place is a [`Publication`]: for a webhook, the `caBundle`s of its
//! [`WebhookConfiguration`]; for a program whose clients are pods, a [`CaConfigMap`] that the pods
//! mount. Every replica runs a [`CertificateController`], which serves the newest settled
//! certificate and takes the next step of the rotation. No client ever meets a certificate that it cannot verify: the
//! rules are in `rotation.rs`, with a simulation of replicas that die, read slowly and write late.
//!
//! There is no leader election. Each write is a compare-and-swap, so one of the replicas that take a step succeeds. A
//! random delay before each step keeps conflicts rare.
//!
//! **Failures.** While the API server does not answer or forbids a call, the controller serves the last certificate and
//! tries again every few seconds. It logs the fault when it begins and once an hour, and counts each attempt. It writes
//! nothing if the Secret has a newer format that it cannot read.

mod bundle; // authorities in PEM
mod config;
mod failure;
mod rotation; // the next step
mod generation; // an authority and its certificate
mod publication; // where clients find authorities
mod secret; // where replicas find generations
mod webhook_configuration; // authorities in caBundles
mod config_map; // authorities in a ConfigMap
mod metrics;
mod controller;

pub use bundle::Bundle;
pub use config::{CertificateConfig, minimum_lifetime};
pub use config_map::{CA_ENTRY, CaConfigMap, MOUNTED_WAIT};
pub use controller::{CONDITION, CertificateController};
pub use failure::CertificateFailure;
pub use publication::{Bundles, Publication};
pub use rotation::Authority;
pub use webhook_configuration::WebhookConfiguration;

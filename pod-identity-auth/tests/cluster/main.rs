//! Tests of the manifests and of the certificate on a real API server.
#![allow(clippy::unwrap_used)]

mod certificate;
mod manifests;
mod policies;
mod startup_taint;

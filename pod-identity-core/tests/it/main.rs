//! Tests of the public API, and of the documents and dependencies of the crate.
#![allow(clippy::unwrap_used)]

mod dependencies;
mod errors_page;
#[cfg(feature = "service")]
mod service;
mod signing;
mod tokens;
